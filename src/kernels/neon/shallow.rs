//! The matrix product over at most 32 depths, by 8 channels: all weights stay in registers.
//!
//! Row after row is multiplied. The sums of a row become codes while the next row is multiplied, so that the in-order
//! Cortex-A53 always finds an instruction whose operands are there.

use std::arch::asm;
use std::mem::offset_of;

use super::output::Path;

/// Channels that are made at a time.
pub const CHANNELS: usize = 8;

/// How the depth is summed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Up to 16.
    Half,
    /// Up to 24, three products of a lane in int16.
    Three,
    /// Up to 24, two and one.
    TwoAndOne,
    /// Up to 32, four.
    Four,
    /// Up to 32, two and two.
    Pairs,
}

/// What sums need to become codes, at the offsets that the assembly reads.
#[repr(C, align(16))]
pub struct ToCodes {
    pub bias: [i32; CHANNELS],
    pub scales: [f32; CHANNELS],
    /// See [`Path::addend`].
    pub addend: [u32; 4],
    pub min: [i8; 8],
    pub max: [i8; 8],
}

const _: () = assert!(offset_of!(ToCodes, addend) == 64 && offset_of!(ToCodes, min) == 80);

/// A product of 8 channels.
pub struct Rows<'a> {
    /// The first row.
    pub a: *const i8,
    pub a_stride: usize,
    /// At least 1.
    pub count: usize,
    /// Two blocks of 4 channels.
    pub weights: &'a [i8],
    pub to: ToCodes,
    pub out: *mut i8,
    pub out_stride: usize,
}

/// One instruction for each of four channels: `[product, weights]`.
macro_rules! each {
    ($op:literal, $x:literal, low, $([$p:literal $w:literal])*) => {
        concat!($($op, " v", $p, ".8h, v", $x, ".8b, v", $w, ".8b\n"),*)
    };
    ($op:literal, $x:literal, high, $([$p:literal $w:literal])*) => {
        concat!($($op, "2 v", $p, ".8h, v", $x, ".16b, v", $w, ".16b\n"),*)
    };
}

/// `saddlp` or `sadalp` of four channels: `[sums, products]`.
macro_rules! gather {
    ($op:literal, $([$sum:literal $p:literal])*) => {
        concat!($($op, " v", $sum, ".4s, v", $p, ".8h\n"),*)
    };
}

/// Adds up neighbouring lanes: `[sum, of, and of]`.
macro_rules! reduce {
    ($([$sum:literal $a:literal $b:literal])*) => {
        concat!($("addp v", $sum, ".4s, v", $a, ".4s, v", $b, ".4s\n"),*)
    };
}

/// The steps from the sums of the row before, in v2 and v3, to codes in v8. v10 holds the
/// addend of the path.
#[rustfmt::skip]
macro_rules! codes {
    (0, $path:ident) => { "ldp q8, q9, [{to}]\nadd v8.4s, v8.4s, v2.4s\nadd v9.4s, v9.4s, v3.4s\n" };
    (1, $path:ident) => { "scvtf v8.4s, v8.4s\nscvtf v9.4s, v9.4s\n" };
    (2, $path:ident) => { "fmul v8.4s, v8.4s, v12.4s\nfmul v9.4s, v9.4s, v13.4s\n" };
    (3, any) => { "fcvtns v8.4s, v8.4s\nfcvtns v9.4s, v9.4s\n" };
    (4, any) => { "sqxtn v8.4h, v8.4s\n" };
    (5, any) => { "sqxtn2 v8.8h, v9.4s\n" };
    (3, relu) => { codes!(3, any) };
    (4, relu) => { codes!(4, any) };
    (5, relu) => { codes!(5, any) };
    (6, relu) => { "" };
    (7, relu) => { "sqxtun v8.8b, v8.8h\n" };
    (clamp, relu) => { "eor v8.8b, v8.8b, v10.8b\n" };
    (6, any) => { "sqadd v8.8h, v8.8h, v10.8h\n" };
    (3, $path:ident) => { "fadd v8.4s, v8.4s, v10.4s\nfadd v9.4s, v9.4s, v10.4s\n" };
    (4, $path:ident) => { "" };
    (5, $path:ident) => { "uzp1 v8.8h, v8.8h, v9.8h\n" };
    (6, $path:ident) => { "" };
    (7, $path:ident) => { "sqxtn v8.8b, v8.8h\n" };
    (clamp, even) => { "" };
    (clamp, $path:ident) => { "ldp d0, d1, [{to}, #80]\nsmax v8.8b, v8.8b, v0.8b\nsmin v8.8b, v8.8b, v1.8b\n" };
    (store, $path:ident) => { "st1 {{v8.8b}}, [{out}], {on}\nmov {on}, {out_stride}\n" };
}

/// All of them.
macro_rules! codes_alone {
    ($path:ident) => {
        concat!(
            codes!(0, $path),
            codes!(1, $path),
            codes!(2, $path),
            codes!(3, $path),
            codes!(4, $path),
            codes!(5, $path),
            codes!(6, $path),
            codes!(7, $path),
            codes!(clamp, $path),
            codes!(store, $path)
        )
    };
}

/// Loads the weights: channel `n` of [`Depth::Half`] in v16 + n, else in v16 + 2n and v17 + 2n.
#[rustfmt::skip]
macro_rules! load_weights {
    (half) => {
        "ldp q16, q17, [{weights}]
        ldp q18, q19, [{weights}, #32]
        ldp q20, q21, [{weights}, #64]
        ldp q22, q23, [{weights}, #96]"
    };
    ($depth:ident) => {
        "ldp q16, q17, [{weights}]
        ldp q18, q19, [{weights}, #32]
        ldp q20, q21, [{weights}, #64]
        ldp q22, q23, [{weights}, #96]
        ldp q24, q25, [{weights}, #128]
        ldp q26, q27, [{weights}, #160]
        ldp q28, q29, [{weights}, #192]
        ldp q30, q31, [{weights}, #224]"
    };
}

/// Multiplies one row and makes codes of the row before.
#[rustfmt::skip]
macro_rules! row {
    (half, $path:ident) => {
        concat!(
            "ld1 {{v0.16b}}, [{a}], {a_stride}\n",
            codes!(0, $path), codes!(1, $path),
            each!("smull", 0, low, [2 16] [3 17] [4 18] [5 19]),
            each!("smull", 0, low, [6 20] [7 21] [14 22] [15 23]),
            codes!(2, $path),
            each!("smlal", 0, high, [2 16] [3 17] [4 18] [5 19]),
            codes!(3, $path),
            each!("smlal", 0, high, [6 20] [7 21] [14 22] [15 23]),
            codes!(4, $path),
            gather!("saddlp", [2 2] [3 3] [4 4] [5 5]),
            codes!(5, $path),
            gather!("saddlp", [6 6] [7 7] [14 14] [15 15]),
            codes!(6, $path),
            reduce!([2 2 3] [4 4 5]), 
            codes!(7, $path),
            reduce!([6 6 7] [14 14 15]),
            reduce!([2 2 4]),
            codes!(clamp, $path), codes!(store, $path),
            reduce!([3 6 14]),
        )
    };
    (three, $path:ident) => {
        concat!(
            "ld1 {{v0.16b, v1.16b}}, [{a}], {a_stride}\n",
            codes!(0, $path), codes!(1, $path),
            each!("smull", 0, low, [2 16] [3 18] [4 20] [5 22]),
            each!("smull", 0, low, [6 24] [7 26] [14 28] [15 30]),
            codes!(2, $path),
            each!("smlal", 0, high, [2 16] [3 18] [4 20] [5 22]),
            codes!(3, $path),
            each!("smlal", 0, high, [6 24] [7 26] [14 28] [15 30]),
            codes!(4, $path),
            each!("smlal", 1, low, [2 17] [3 19] [4 21] [5 23]),
            codes!(5, $path),
            each!("smlal", 1, low, [6 25] [7 27] [14 29] [15 31]),
            gather!("saddlp", [2 2] [3 3] [4 4] [5 5]),
            codes!(6, $path),
            gather!("saddlp", [6 6] [7 7] [14 14] [15 15]),
            reduce!([2 2 3] [4 4 5]), 
            codes!(7, $path),
            reduce!([6 6 7] [14 14 15]),
            reduce!([2 2 4]),
            codes!(clamp, $path), codes!(store, $path),
            reduce!([3 6 14]),
        )
    };
    (four, $path:ident) => {
        concat!(
            "ld1 {{v0.16b, v1.16b}}, [{a}], {a_stride}\n",
            codes!(0, $path), codes!(1, $path),
            each!("smull", 0, low, [2 16] [3 18] [4 20] [5 22]),
            each!("smull", 0, low, [6 24] [7 26] [14 28] [15 30]),
            codes!(2, $path),
            each!("smlal", 0, high, [2 16] [3 18] [4 20] [5 22]),
            each!("smlal", 0, high, [6 24] [7 26] [14 28] [15 30]),
            codes!(3, $path),
            each!("smlal", 1, low, [2 17] [3 19] [4 21] [5 23]),
            each!("smlal", 1, low, [6 25] [7 27] [14 29] [15 31]),
            codes!(4, $path),
            each!("smlal", 1, high, [2 17] [3 19] [4 21] [5 23]),
            codes!(5, $path),
            each!("smlal", 1, high, [6 25] [7 27] [14 29] [15 31]),
            gather!("saddlp", [2 2] [3 3] [4 4] [5 5]),
            codes!(6, $path),
            gather!("saddlp", [6 6] [7 7] [14 14] [15 15]),
            reduce!([2 2 3] [4 4 5]), 
            codes!(7, $path),
            reduce!([6 6 7] [14 14 15]),
            reduce!([2 2 4]),
            codes!(clamp, $path), codes!(store, $path),
            reduce!([3 6 14]),
        )
    };
    (two_and_one, $path:ident) => {
        concat!(
            "ld1 {{v0.16b, v1.16b}}, [{a}], {a_stride}\n",
            codes!(0, $path),
            each!("smull", 0, low, [2 16] [3 18] [4 20] [5 22]),
            codes!(1, $path),
            each!("smull", 1, low, [6 17] [7 19] [14 21] [15 23]),
            codes!(2, $path),
            each!("smlal", 0, high, [2 16] [3 18] [4 20] [5 22]),
            codes!(3, $path), codes!(4, $path),
            gather!("saddlp", [2 2] [3 3] [4 4] [5 5]),
            codes!(5, $path),
            gather!("sadalp", [2 6] [3 7] [4 14] [5 15]),
            each!("smull", 0, low, [6 24] [7 26]),
            codes!(6, $path),
            reduce!([2 2 3] [4 4 5]),
            each!("smull", 0, low, [3 28] [5 30]),
            codes!(7, $path),
            each!("smlal", 0, high, [6 24] [7 26] [3 28] [5 30]),
            reduce!([2 2 4]),
            each!("smull", 1, low, [14 25] [15 27] [9 29] [4 31]),
            gather!("saddlp", [6 6] [7 7] [3 3] [5 5]),
            codes!(clamp, $path),
            gather!("sadalp", [6 14] [7 15] [3 9] [5 4]),
            codes!(store, $path),
            reduce!([6 6 7] [3 3 5] [3 6 3]),
        )
    };
    (pairs, $path:ident) => {
        concat!(
            "ld1 {{v0.16b, v1.16b}}, [{a}], {a_stride}\n",
            codes!(0, $path),
            each!("smull", 0, low, [2 16] [3 18] [4 20] [5 22]),
            codes!(1, $path),
            each!("smull", 1, low, [6 17] [7 19] [14 21] [15 23]),
            codes!(2, $path),
            each!("smlal", 0, high, [2 16] [3 18] [4 20] [5 22]),
            codes!(3, $path),
            each!("smlal", 1, high, [6 17] [7 19] [14 21] [15 23]),
            codes!(4, $path),
            gather!("saddlp", [2 2] [3 3] [4 4] [5 5]),
            codes!(5, $path),
            gather!("sadalp", [2 6] [3 7] [4 14] [5 15]),
            each!("smull", 0, low, [6 24] [7 26]),
            codes!(6, $path),
            reduce!([2 2 3] [4 4 5]),
            each!("smull", 0, low, [3 28] [5 30]),
            codes!(7, $path),
            each!("smlal", 0, high, [6 24] [7 26] [3 28] [5 30]),
            reduce!([2 2 4]),
            each!("smull", 1, low, [14 25] [15 27] [9 29] [4 31]),
            gather!("saddlp", [6 6] [7 7] [3 3] [5 5]),
            each!("smlal", 1, high, [14 25] [15 27] [9 29] [4 31]),
            codes!(clamp, $path),
            gather!("sadalp", [6 14] [7 15] [3 9] [5 4]),
            codes!(store, $path),
            reduce!([6 6 7] [3 3 5] [3 6 3]),
        )
    };
}

macro_rules! rows {
    ($name:ident, $depth:ident, $path:ident) => {
        /// Registers: v0, v1 a row; v2..v7, v14, v15 products and sums; v8, v9 codes of the row before; v10 addend; v12, v13 scales; v16..v31 weights.
        ///
        /// # Safety
        /// The contract of [`make`].
        unsafe fn $name(rows: Rows<'_>) {
            // The first codes, of no row, lie where those of the first row will: `on` is 0 for them.
            // SAFETY: the caller's contract; every register that is written is named below.
            unsafe {
                asm!(
                    load_weights!($depth),
                    "ldp q12, q13, [{to}, #32]
                    ldr q10, [{to}, #64]
                    2:",
                    row!($depth, $path),
                    "subs {count}, {count}, #1
                    b.ne 2b",
                    codes_alone!($path),
                    a = inout(reg) rows.a => _,
                    a_stride = in(reg) rows.a_stride,
                    count = inout(reg) rows.count => _,
                    weights = in(reg) rows.weights.as_ptr(),
                    to = in(reg) &rows.to,
                    out = inout(reg) rows.out => _,
                    out_stride = in(reg) rows.out_stride,
                    on = inout(reg) 0usize => _,
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

rows!(half_even, half, even);
rows!(three_even, three, even);
rows!(two_and_one_even, two_and_one, even);
rows!(four_even, four, even);
rows!(pairs_even, pairs, even);
rows!(half_even_bounded, half, even_bounded);
rows!(three_even_bounded, three, even_bounded);
rows!(two_and_one_even_bounded, two_and_one, even_bounded);
rows!(four_even_bounded, four, even_bounded);
rows!(pairs_even_bounded, pairs, even_bounded);
rows!(half_relu, half, relu);
rows!(three_relu, three, relu);
rows!(two_and_one_relu, two_and_one, relu);
rows!(four_relu, four, relu);
rows!(pairs_relu, pairs, relu);
rows!(half_any, half, any);
rows!(three_any, three, any);
rows!(two_and_one_any, two_and_one, any);
rows!(four_any, four, any);
rows!(pairs_any, pairs, any);

/// Makes codes.
///
/// # Safety
/// In each row 16 codes are readable for [`Depth::Half`], else 32; in each row of the output 8 codes are writable;
/// `weights` are two blocks of long groups whose sums `depth` allows.
pub unsafe fn make(rows: Rows<'_>, depth: Depth, path: Path) {
    let run = match (depth, path) {
        (Depth::Half, Path::Even) => half_even,
        (Depth::Three, Path::Even) => three_even,
        (Depth::TwoAndOne, Path::Even) => two_and_one_even,
        (Depth::Four, Path::Even) => four_even,
        (Depth::Pairs, Path::Even) => pairs_even,
        (Depth::Half, Path::EvenBounded) => half_even_bounded,
        (Depth::Three, Path::EvenBounded) => three_even_bounded,
        (Depth::TwoAndOne, Path::EvenBounded) => two_and_one_even_bounded,
        (Depth::Four, Path::EvenBounded) => four_even_bounded,
        (Depth::Pairs, Path::EvenBounded) => pairs_even_bounded,
        (Depth::Half, Path::Relu) => half_relu,
        (Depth::Three, Path::Relu) => three_relu,
        (Depth::TwoAndOne, Path::Relu) => two_and_one_relu,
        (Depth::Four, Path::Relu) => four_relu,
        (Depth::Pairs, Path::Relu) => pairs_relu,
        (Depth::Half, Path::Any) => half_any,
        (Depth::Three, Path::Any) => three_any,
        (Depth::TwoAndOne, Path::Any) => two_and_one_any,
        (Depth::Four, Path::Any) => four_any,
        (Depth::Pairs, Path::Any) => pairs_any,
    };
    // SAFETY: the caller's contract.
    unsafe { run(rows) }
}
