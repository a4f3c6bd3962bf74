//! The inner loops of the matrix product: 4 rows or 1 row by 4 channels over the whole depth.
//!
//! They are written as assembly because every register counts, and because the in-order Cortex-A53 runs loads and
//! multiplications in the order in which they stand: each load is issued while the registers that it fills have just
//! been read for the last time, a group of products before they are needed.

use std::arch::aarch64::int32x4_t;
use std::arch::asm;

use crate::kernels::pack::{Step, WEIGHTS_PADDING};

/// Bytes that are read behind the packed depth of a row.
pub const ROW_OVERREAD: usize = 32;

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

/// A group for four pairs of a row and a channel, `[x, x of the second half, w, w of the second half, product,
/// accumulator, load that may follow the last use of x and w]`, and a load that may follow all of them.
macro_rules! four {
    ($gather:literal, $([$x:literal $y:literal $w:literal $v:literal $p:literal $acc:literal $load:literal]),*; $last:literal) => {
        concat!(
            $(widen!("smull", $p, $x, $w, low),)*
            $(widen!("smlal", $p, $x, $w, high),)*
            $(widen!("smlal", $p, $y, $v, low),)*
            $(widen!("smlal", $p, $y, $v, high), $load, "\n",)*
            $last, "\n",
            $(gather!($gather, $acc, $p),)*
        )
    };
}

/// As [`four`], with two sums of pairs in place of one of four.
macro_rules! pairs {
    ($gather:literal, $([$x:literal $y:literal $w:literal $v:literal $p:literal $acc:literal $load:literal]),*; $last:literal) => {
        concat!(
            $(widen!("smull", $p, $x, $w, low),)*
            $(widen!("smlal", $p, $x, $w, high),)*
            $(gather!($gather, $acc, $p),)*
            $(widen!("smull", $p, $y, $v, low),)*
            $(widen!("smlal", $p, $y, $v, high), $load, "\n",)*
            $last, "\n",
            $(gather!("sadalp", $acc, $p),)*
        )
    };
}

/// Half a group.
macro_rules! half {
    ($([$x:literal $w:literal $p:literal $acc:literal]),*) => {
        concat!(
            $(widen!("smull", $p, $x, $w, low),)*
            $(widen!("smlal", $p, $x, $w, high),)*
            $(gather!("sadalp", $acc, $p),)*
        )
    };
}

/// A whole group of 4 rows; `$sum` is [`four`] or [`pairs`].
macro_rules! group_of_4_rows {
    ($sum:ident, $gather:literal) => {
        concat!(
            $sum!($gather, [0 1 8 9 12 16 "ldp q10, q11, [{w}], #32"], [2 3 8 9 13 17 ""], [4 5 8 9 14 18 ""], [6 7 8 9 15 19 ""]; ""),
            $sum!($gather, [0 1 10 11 12 20 "ldp q8, q9, [{w}], #32"], [2 3 10 11 13 21 ""], [4 5 10 11 14 22 ""], [6 7 10 11 15 23 ""]; ""),
            $sum!($gather, [0 1 8 9 12 24 "ldp q10, q11, [{w}], #32"], [2 3 8 9 13 25 ""], [4 5 8 9 14 26 ""], [6 7 8 9 15 27 ""]; ""),
            $sum!($gather,
                [0 1 10 11 12 28 "ldp q0, q1, [{a}], #32"],
                [2 3 10 11 13 29 "ldp q2, q3, [{b}], #32"],
                [4 5 10 11 14 30 "ldp q4, q5, [{c}], #32"],
                [6 7 10 11 15 31 "ldp q6, q7, [{d}], #32"];
                "ldp q8, q9, [{w}], #32"),
        )
    };
}

/// The sums of 4 rows without the bias.
///
/// Registers: v0..v7 two of each row; v8..v11 weights of one channel and of the next; v12..v15 products in int16;
/// v16..v31 four partial sums of each channel and row.
///
/// # Safety
/// In each of the rows, `a_stride` apart, the packed depth and [`ROW_OVERREAD`] bytes are readable; at `w` a block that
/// `steps` tells how to multiply, and [`WEIGHTS_PADDING`] bytes; `steps` ends with [`Step::End`].
#[inline(always)]
pub unsafe fn multiply_4_rows(
    a: *const i8,
    a_stride: usize,
    w: *const i8,
    steps: &[Step],
) -> [int32x4_t; 4] {
    let (s0, s1, s2, s3);
    // SAFETY: the caller's contract; every register that is written is named below.
    unsafe {
        asm!(
            "ldp q8, q9, [{w}], #32",
            "ldp q0, q1, [{a}], #32",
            "ldp q2, q3, [{b}], #32",
            "ldp q4, q5, [{c}], #32",
            "ldp q6, q7, [{d}], #32",
            "ldrb {step:w}, [{steps}], #1",
            "tbnz {step:w}, #0, 5f",
            "cbnz {step:w}, 7f",
            group_of_4_rows!(pairs, "saddlp"),
            "ldrb {step:w}, [{steps}], #1
            cbz {step:w}, 3f
            tbnz {step:w}, #0, 4f
            b 8f",
            "5:",
            group_of_4_rows!(four, "saddlp"),
            "ldrb {step:w}, [{steps}], #1
            tbnz {step:w}, #0, 4f
            cbnz {step:w}, 8f",
            "3:",
            group_of_4_rows!(pairs, "sadalp"),
            "ldrb {step:w}, [{steps}], #1
            cbz {step:w}, 3b
            tbz {step:w}, #0, 8f",
            "4:",
            group_of_4_rows!(four, "sadalp"),
            "ldrb {step:w}, [{steps}], #1
            tbnz {step:w}, #0, 4b
            cbz {step:w}, 3b",
            "8:",
            "tbz {step:w}, #1, 9f",
            "ldp q10, q11, [{w}]",
            half!([0 8 12 16], [2 8 13 17], [4 8 14 18], [6 8 15 19]),
            half!([0 9 12 20], [2 9 13 21], [4 9 14 22], [6 9 15 23]),
            half!([0 10 12 24], [2 10 13 25], [4 10 14 26], [6 10 15 27]),
            half!([0 11 12 28], [2 11 13 29], [4 11 14 30], [6 11 15 31]),
            "b 9f",
            // Half a group is all there is.
            "7:
            movi v16.2d, #0
            movi v17.2d, #0
            movi v18.2d, #0
            movi v19.2d, #0
            movi v20.2d, #0
            movi v21.2d, #0
            movi v22.2d, #0
            movi v23.2d, #0
            movi v24.2d, #0
            movi v25.2d, #0
            movi v26.2d, #0
            movi v27.2d, #0
            movi v28.2d, #0
            movi v29.2d, #0
            movi v30.2d, #0
            movi v31.2d, #0
            b 8b",
            "9:
            addp v16.4s, v16.4s, v20.4s
            addp v17.4s, v17.4s, v21.4s
            addp v18.4s, v18.4s, v22.4s
            addp v19.4s, v19.4s, v23.4s
            addp v24.4s, v24.4s, v28.4s
            addp v25.4s, v25.4s, v29.4s
            addp v26.4s, v26.4s, v30.4s
            addp v27.4s, v27.4s, v31.4s
            addp v16.4s, v16.4s, v24.4s
            addp v17.4s, v17.4s, v25.4s
            addp v18.4s, v18.4s, v26.4s
            addp v19.4s, v19.4s, v27.4s",
            a = inout(reg) a => _,
            b = inout(reg) a.wrapping_add(a_stride) => _,
            c = inout(reg) a.wrapping_add(2 * a_stride) => _,
            d = inout(reg) a.wrapping_add(3 * a_stride) => _,
            w = inout(reg) w => _,
            steps = inout(reg) steps.as_ptr() => _,
            step = out(reg) _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") s0, out("v17") s1, out("v18") s2, out("v19") s3,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(readonly, nostack),
        );
    }
    [s0, s1, s2, s3]
}

/// A whole group of 1 row; `$sum` is [`four`] or [`pairs`].
macro_rules! group_of_1_row {
    ($sum:ident) => {
        $sum!("sadalp",
            [0 1 2 3 20 16 "ldp q2, q3, [{w}], #32"],
            [0 1 4 5 21 17 "ldp q4, q5, [{w}], #32"],
            [0 1 6 7 22 18 "ldp q6, q7, [{w}], #32"],
            [0 1 24 25 23 19 "ldp q24, q25, [{w}], #32"];
            "ldp q0, q1, [{a}], #32")
    };
}

/// The sums of 1 row without the bias.
///
/// Registers: v0, v1 the row; v2..v7, v24, v25 weights of 4 channels; v20..v23 products in int16; v16..v19 four partial
/// sums of each channel.
///
/// # Safety
/// As for [`multiply_4_rows`].
#[inline(always)]
pub unsafe fn multiply_1_row(a: *const i8, w: *const i8, steps: &[Step]) -> int32x4_t {
    let sums;
    // SAFETY: the caller's contract; every register that is written is named below.
    unsafe {
        asm!(
            "movi v16.2d, #0",
            "ldrb {step:w}, [{steps}], #1",
            "movi v17.2d, #0",
            "tbnz {step:w}, #1, 8f",
            "ldp q2, q3, [{w}], #32",
            "ldp q0, q1, [{a}], #32",
            "movi v18.2d, #0",
            "ldp q4, q5, [{w}], #32",
            "movi v19.2d, #0",
            "ldp q6, q7, [{w}], #32",
            "ldp q24, q25, [{w}], #32",
            "tbnz {step:w}, #0, 4f",
            "3:",
            group_of_1_row!(pairs),
            "ldrb {step:w}, [{steps}], #1
            cbz {step:w}, 3b
            tbz {step:w}, #0, 7f",
            "4:",
            group_of_1_row!(four),
            "ldrb {step:w}, [{steps}], #1
            tbnz {step:w}, #0, 4b
            cbz {step:w}, 3b",
            // The weights of half a group are those of the first two loads.
            "7:
            tbz {step:w}, #1, 9f",
            half!([0 2 20 16], [0 3 21 17], [0 4 22 18], [0 5 23 19]),
            "b 9f",
            "8:
            movi v18.2d, #0
            movi v19.2d, #0
            ldp q2, q3, [{w}]
            ldp q4, q5, [{w}, #32]
            ldr q0, [{a}]",
            half!([0 2 20 16], [0 3 21 17], [0 4 22 18], [0 5 23 19]),
            "9:
            addp v16.4s, v16.4s, v17.4s
            addp v18.4s, v18.4s, v19.4s
            addp v16.4s, v16.4s, v18.4s",
            a = inout(reg) a => _,
            w = inout(reg) w => _,
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
