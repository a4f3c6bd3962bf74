//! The inner loops of the matrix product: a block of 4 channels by tiles of 4 rows, or by 1 row, over the whole depth.
//!
//! They are written as assembly because every register counts, and because the in-order Cortex-A53 runs loads and
//! multiplications in the order in which they stand.

use std::arch::aarch64::int32x4_t;
use std::arch::asm;
use std::mem::offset_of;

use crate::kernels::pack::{LONG_GROUP, Step};
use crate::kernels::requant::OutputStage;

/// Products of the low or the high 8 codes of two registers: `widen!("smull", p, x, w, low)`.
macro_rules! widen {
    ($op:literal, $p:literal, $x:literal, $w:literal, low) => {
        concat!($op, " v", $p, ".8h, v", $x, ".8b, v", $w, ".8b\n")
    };
    ($op:literal, $p:literal, $x:literal, $w:literal, high) => {
        concat!($op, "2 v", $p, ".8h, v", $x, ".16b, v", $w, ".16b\n")
    };
}

/// Adds neighbouring products to (`sadalp`), or puts their sums into (`saddlp`), an accumulator.
macro_rules! gather {
    ($op:literal, $acc:literal, $p:literal) => {
        concat!($op, " v", $acc, ".4s, v", $p, ".8h\n")
    };
}

/// A group for four pairs of a row and a channel: `[x, x of the second half, w, w of the second half, product,
/// accumulator]`; in between, a load for the next ones.
macro_rules! four {
    ($gather:literal, $load:literal, $([$x:literal $y:literal $w:literal $v:literal $p:literal $acc:literal])*) => {
        concat!(
            $(widen!("smull", $p, $x, $w, low),)*
            $load, "\n",
            $(widen!("smlal", $p, $x, $w, high),)*
            $(widen!("smlal", $p, $y, $v, low),)*
            $(widen!("smlal", $p, $y, $v, high),)*
            $(gather!($gather, $acc, $p),)*
        )
    };
}

/// As [`four`], with two sums of pairs in place of one of four.
macro_rules! pairs {
    ($gather:literal, $load:literal, $([$x:literal $y:literal $w:literal $v:literal $p:literal $acc:literal])*) => {
        concat!(
            $(widen!("smull", $p, $x, $w, low),)*
            $load, "\n",
            $(widen!("smlal", $p, $x, $w, high),)*
            $(gather!($gather, $acc, $p),)*
            $(widen!("smull", $p, $y, $v, low),)*
            $(widen!("smlal", $p, $y, $v, high),)*
            $(gather!("sadalp", $acc, $p),)*
        )
    };
}

/// Half a group.
macro_rules! half {
    ($gather:literal, $([$x:literal $w:literal $p:literal $acc:literal])*) => {
        concat!(
            $(widen!("smull", $p, $x, $w, low),)*
            $(widen!("smlal", $p, $x, $w, high),)*
            $(gather!($gather, $acc, $p),)*
        )
    };
}

/// A whole group of 4 rows; `$sum` is [`four`] or [`pairs`].
#[rustfmt::skip]
macro_rules! group_of_4_rows {
    ($sum:ident, $gather:literal) => {
        concat!(
            "ldp q8, q9, [{w}], #128
            ldp q0, q1, [{a}], #32
            ldp q2, q3, [{b}], #32
            ldp q4, q5, [{c}], #32
            ldp q6, q7, [{d}], #32\n",
            $sum!($gather, "ldp q10, q11, [{w}, #-96]", [0 1 8 9 12 16] [2 3 8 9 13 17] [4 5 8 9 14 18] [6 7 8 9 15 19]),
            $sum!($gather, "ldp q8, q9, [{w}, #-64]", [0 1 10 11 12 20] [2 3 10 11 13 21] [4 5 10 11 14 22] [6 7 10 11 15 23]),
            $sum!($gather, "ldp q10, q11, [{w}, #-32]", [0 1 8 9 12 24] [2 3 8 9 13 25] [4 5 8 9 14 26] [6 7 8 9 15 27]),
            $sum!($gather, "", [0 1 10 11 12 28] [2 3 10 11 13 29] [4 5 10 11 14 30] [6 7 10 11 15 31]),
        )
    };
}

/// Half a group of 4 rows.
#[rustfmt::skip]
macro_rules! half_of_4_rows {
    ($gather:literal) => {
        concat!(
            "ldp q8, q9, [{w}]
            ldr q0, [{a}]
            ldr q2, [{b}]
            ldr q4, [{c}]
            ldr q6, [{d}]
            ldp q10, q11, [{w}, #32]\n",
            half!($gather, [0 8 12 16] [2 8 13 17] [4 8 14 18] [6 8 15 19]),
            half!($gather, [0 9 12 20] [2 9 13 21] [4 9 14 22] [6 9 15 23]),
            half!($gather, [0 10 12 24] [2 10 13 25] [4 10 14 26] [6 10 15 27]),
            half!($gather, [0 11 12 28] [2 11 13 29] [4 11 14 30] [6 11 15 31]),
        )
    };
}

/// What becomes of the sums of 4 rows in v0..v3, and their stores. v8 holds the bias, v9 the scales.
#[rustfmt::skip]
macro_rules! output {
    (sums) => {
        "st1 {{v0.4s}}, [{out}], {out_stride}
        st1 {{v1.4s}}, [{out}], {out_stride}
        st1 {{v2.4s}}, [{out}], {out_stride}
        st1 {{v3.4s}}, [{out}], {out_stride}
        // {terms}"
    };
    (even) => { concat!(scale!(), round_even!(), store!(), "// {terms}") };
    (even_bounded) => { concat!(scale!(), round_even!(), clamp!(), store!(), "// {terms}") };
    (relu) => { concat!(scale!(), round_relu!(), store!(), "// {terms}") };
    (any) => { concat!(scale!(), round!(), clamp!(), store!(), "// {terms}") };
    (any_with_terms) => { concat!(add_terms!(), scale!(), round!(), clamp!(), store!()) };
}

/// Adds the term of each row.
macro_rules! add_terms {
    () => {
        "ld1r {{v10.4s}}, [{terms}], #4
        ld1r {{v11.4s}}, [{terms}], #4
        ld1r {{v12.4s}}, [{terms}], #4
        ld1r {{v13.4s}}, [{terms}], #4
        add v0.4s, v0.4s, v10.4s
        add v1.4s, v1.4s, v11.4s
        add v2.4s, v2.4s, v12.4s
        add v3.4s, v3.4s, v13.4s\n"
    };
}

macro_rules! scale {
    () => {
        "scvtf v0.4s, v0.4s
        scvtf v1.4s, v1.4s
        scvtf v2.4s, v2.4s
        scvtf v3.4s, v3.4s
        fmul v0.4s, v0.4s, v9.4s
        fmul v1.4s, v1.4s, v9.4s
        fmul v2.4s, v2.4s, v9.4s
        fmul v3.4s, v3.4s, v9.4s\n"
    };
}

/// Codes as [`CodesStage`](super::output::CodesStage) makes them, in v4.
macro_rules! round {
    () => {
        "ldr q10, [{to}, #32]
        fcvtns v0.4s, v0.4s
        fcvtns v1.4s, v1.4s
        fcvtns v2.4s, v2.4s
        fcvtns v3.4s, v3.4s
        sqxtn v4.4h, v0.4s
        sqxtn v5.4h, v2.4s
        sqxtn2 v4.8h, v1.4s
        sqxtn2 v5.8h, v3.4s
        sqadd v4.8h, v4.8h, v10.8h
        sqadd v5.8h, v5.8h, v10.8h
        sqxtn v4.8b, v4.8h
        sqxtn2 v4.16b, v5.8h\n"
    };
}

/// Codes as [`Path::Even`](super::output::Path) makes them, in v4.
macro_rules! round_even {
    () => {
        "ldr q10, [{to}, #32]
        fadd v0.4s, v0.4s, v10.4s
        fadd v1.4s, v1.4s, v10.4s
        fadd v2.4s, v2.4s, v10.4s
        fadd v3.4s, v3.4s, v10.4s
        uzp1 v4.8h, v0.8h, v1.8h
        uzp1 v5.8h, v2.8h, v3.8h
        sqxtn v4.8b, v4.8h
        sqxtn2 v4.16b, v5.8h\n"
    };
}

/// Codes as [`Path::Relu`](super::output::Path) makes them, in v4.
macro_rules! round_relu {
    () => {
        "ldr q10, [{to}, #32]
        fcvtns v0.4s, v0.4s
        fcvtns v1.4s, v1.4s
        fcvtns v2.4s, v2.4s
        fcvtns v3.4s, v3.4s
        sqxtn v4.4h, v0.4s
        sqxtn v5.4h, v2.4s
        sqxtn2 v4.8h, v1.4s
        sqxtn2 v5.8h, v3.4s
        sqxtun v4.8b, v4.8h
        sqxtun2 v4.16b, v5.8h
        eor v4.16b, v4.16b, v10.16b\n"
    };
}

macro_rules! clamp {
    () => {
        "ldp q11, q12, [{to}, #48]
        smax v4.16b, v4.16b, v11.16b
        smin v4.16b, v4.16b, v12.16b\n"
    };
}

macro_rules! store {
    () => {
        "st1 {{v4.s}}[0], [{out}], {out_stride}
        st1 {{v4.s}}[1], [{out}], {out_stride}
        st1 {{v4.s}}[2], [{out}], {out_stride}
        st1 {{v4.s}}[3], [{out}], {out_stride}\n"
    };
}

/// What sums need to become codes, at the offsets that the assembly reads.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct ToCodes {
    pub bias: [i32; 4],
    pub scales: [f32; 4],
    /// See [`Path::addend`](super::output::Path::addend).
    pub addend: [u32; 4],
    pub min: [i8; 16],
    pub max: [i8; 16],
}

const _: () = assert!(offset_of!(ToCodes, addend) == 32 && offset_of!(ToCodes, min) == 48);

impl ToCodes {
    /// Bias, scales and addend are still to be set.
    pub fn new(stage: OutputStage) -> Self {
        Self {
            bias: [0; 4],
            scales: [1.0; 4],
            addend: [0; 4],
            min: [stage.min; 16],
            max: [stage.max; 16],
        }
    }
}

/// A block of 4 channels by whole tiles of 4 rows.
pub struct Tiles<'a> {
    /// The first row.
    pub a: *const i8,
    pub a_stride: usize,
    /// At least 1.
    pub count: usize,
    pub weights: &'a [i8],
    /// Tells how to multiply the weights; ends with [`Step::End`].
    pub steps: &'a [Step],
    pub to: &'a ToCodes,
    /// Of each row; read only if there are terms.
    pub row_terms: *const i32,
}

macro_rules! tiles {
    ($(#[$doc:meta])* $name:ident, $output:ident, $element:ty) => {
        $(#[$doc])*
        ///
        /// Registers: v0..v7 two of each row; v8..v11 weights of one channel and of the next; v12..v15 products in
        /// int16; v16..v31 four partial sums of each channel and row.
        ///
        /// # Safety
        /// In each row the depth, rounded up to half a group, is readable; at `out` 4 elements in each row, `out_stride`
        /// elements apart, are writable; `weights` and `steps` are a block of one [`PackedWeights`].
        ///
        /// [`PackedWeights`]: crate::kernels::pack::PackedWeights
        pub unsafe fn $name(tiles: Tiles<'_>, out: *mut $element, out_stride: usize) {
            let row = |row: usize| tiles.a.wrapping_add(row * tiles.a_stride);
            let passed = tiles.weights.len() / (4 * LONG_GROUP) * LONG_GROUP;
            // SAFETY: the caller's contract; every register that is written is named below.
            unsafe {
                asm!(
                    "2:
                    ldrb {step:w}, [{steps}]
                    mov {w}, {weights}
                    add {next}, {steps}, #1
                    tbnz {step:w}, #0, 5f
                    cbnz {step:w}, 7f",
                    group_of_4_rows!(pairs, "saddlp"),
                    "ldrb {step:w}, [{next}], #1
                    cbz {step:w}, 3f
                    tbnz {step:w}, #0, 4f
                    b 8f",
                    "5:",
                    group_of_4_rows!(four, "saddlp"),
                    "ldrb {step:w}, [{next}], #1
                    tbnz {step:w}, #0, 4f
                    cbnz {step:w}, 8f",
                    "3:",
                    group_of_4_rows!(pairs, "sadalp"),
                    "ldrb {step:w}, [{next}], #1
                    cbz {step:w}, 3b
                    tbz {step:w}, #0, 8f",
                    "4:",
                    group_of_4_rows!(four, "sadalp"),
                    "ldrb {step:w}, [{next}], #1
                    tbnz {step:w}, #0, 4b
                    cbz {step:w}, 3b
                    8:
                    tbz {step:w}, #1, 9f",
                    half_of_4_rows!("sadalp"),
                    "b 9f
                    7:",
                    half_of_4_rows!("saddlp"),
                    "9:
                    ldp q8, q9, [{to}]
                    addp v0.4s, v16.4s, v20.4s
                    addp v1.4s, v17.4s, v21.4s
                    addp v2.4s, v18.4s, v22.4s
                    addp v3.4s, v19.4s, v23.4s
                    addp v4.4s, v24.4s, v28.4s
                    addp v5.4s, v25.4s, v29.4s
                    addp v6.4s, v26.4s, v30.4s
                    addp v7.4s, v27.4s, v31.4s
                    add {a}, {a}, {on}
                    add {b}, {b}, {on}
                    addp v0.4s, v0.4s, v4.4s
                    addp v1.4s, v1.4s, v5.4s
                    addp v2.4s, v2.4s, v6.4s
                    addp v3.4s, v3.4s, v7.4s
                    add {c}, {c}, {on}
                    add {d}, {d}, {on}
                    add v0.4s, v0.4s, v8.4s
                    add v1.4s, v1.4s, v8.4s
                    add v2.4s, v2.4s, v8.4s
                    add v3.4s, v3.4s, v8.4s",
                    output!($output),
                    "subs {count}, {count}, #1
                    b.ne 2b",
                    a = inout(reg) row(0) => _,
                    b = inout(reg) row(1) => _,
                    c = inout(reg) row(2) => _,
                    d = inout(reg) row(3) => _,
                    on = in(reg) (4 * tiles.a_stride).wrapping_sub(passed),
                    count = inout(reg) tiles.count => _,
                    weights = in(reg) tiles.weights.as_ptr(),
                    w = out(reg) _,
                    steps = in(reg) tiles.steps.as_ptr(),
                    next = out(reg) _,
                    step = out(reg) _,
                    to = in(reg) tiles.to,
                    terms = inout(reg) tiles.row_terms => _,
                    out = inout(reg) out => _,
                    out_stride = in(reg) out_stride * size_of::<$element>(),
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                    out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                    out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                    options(nostack),
                );
            }
        }
    };
}

tiles! {
    /// Stores codes by [`Path::Even`](super::output::Path); there are no row terms.
    codes_even, even, i8
}

tiles! {
    /// Stores codes by [`Path::EvenBounded`](super::output::Path); there are no row terms.
    codes_even_bounded, even_bounded, i8
}

tiles! {
    /// Stores codes by [`Path::Relu`](super::output::Path); there are no row terms.
    codes_relu, relu, i8
}

tiles! {
    /// Stores codes by [`Path::Any`](super::output::Path); there are no row terms.
    codes_any, any, i8
}

tiles! {
    /// Stores codes by [`Path::Any`](super::output::Path).
    codes_any_with_terms, any_with_terms, i8
}

tiles! {
    /// Stores sums.
    sums, sums, i32
}

/// A whole group of 1 row; `$sum` is [`four`] or [`pairs`].
#[rustfmt::skip]
macro_rules! group_of_1_row {
    ($sum:ident) => {
        concat!(
            "ldp q2, q3, [{w}], #128
            ldp q0, q1, [{a}], #32
            ldp q4, q5, [{w}, #-96]
            ldp q6, q7, [{w}, #-64]
            ldp q24, q25, [{w}, #-32]\n",
            $sum!("sadalp", "", [0 1 2 3 20 16] [0 1 4 5 21 17] [0 1 6 7 22 18] [0 1 24 25 23 19]),
        )
    };
}

/// The sums of 1 row without the bias.
///
/// Registers: v0, v1 the row; v2..v7, v24, v25 weights of 4 channels; v20..v23 products in int16; v16..v19 four partial
/// sums of each channel.
///
/// # Safety
/// At `a` the depth, rounded up to half a group, is readable; `weights` and `steps` are a block of one
/// [`PackedWeights`](crate::kernels::pack::PackedWeights).
#[inline(always)]
pub unsafe fn multiply_1_row(a: *const i8, weights: &[i8], steps: &[Step]) -> int32x4_t {
    let sums;
    // SAFETY: the caller's contract; every register that is written is named below.
    unsafe {
        asm!(
            "ldrb {step:w}, [{steps}], #1
            movi v16.2d, #0
            movi v17.2d, #0
            movi v18.2d, #0
            movi v19.2d, #0
            tbnz {step:w}, #0, 4f
            cbnz {step:w}, 8f
            3:",
            group_of_1_row!(pairs),
            "ldrb {step:w}, [{steps}], #1
            cbz {step:w}, 3b
            tbz {step:w}, #0, 8f
            4:",
            group_of_1_row!(four),
            "ldrb {step:w}, [{steps}], #1
            tbnz {step:w}, #0, 4b
            cbz {step:w}, 3b
            8:
            tbz {step:w}, #1, 9f
            ldp q2, q3, [{w}]
            ldr q0, [{a}]
            ldp q4, q5, [{w}, #32]",
            half!("sadalp", [0 2 20 16] [0 3 21 17] [0 4 22 18] [0 5 23 19]),
            "9:
            addp v16.4s, v16.4s, v17.4s
            addp v18.4s, v18.4s, v19.4s
            addp v16.4s, v16.4s, v18.4s",
            a = inout(reg) a => _,
            w = inout(reg) weights.as_ptr() => _,
            steps = inout(reg) steps.as_ptr() => _,
            step = out(reg) _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") sums, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _,
            options(readonly, nostack),
        );
    }
    sums
}
