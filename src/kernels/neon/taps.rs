//! The inner loops of the 3x3 depthwise convolution: 16 channels of a row of pixels, or 8.
//!
//! Codes and taps are multiplied as int8. A lane of int16 sums the products of several taps, a chain, as long as the
//! sum of their magnitudes allows it; then the chain is added to int32. A plan says which taps make a chain. Where taps
//! are no int8, codes are widened and 8 channels multiplied as int16.

use std::arch::asm;

use super::output::Path;
use super::registers::{vdupq_n_s8, vdupq_n_u32};

/// How the taps of a block of channels are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Plan {
    /// One chain.
    One = 1,
    /// Two.
    Two = 2,
    /// Four.
    Four = 4,
    /// Four of two taps and one of one: what int8 taps other than -128 always allow.
    Five = 5,
}

/// How many channels a call makes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taps {
    /// 16 channels whose taps, in int8, allow a plan.
    Int8(Plan),
    /// 8 channels whose taps are int16.
    Int16,
}

impl Plan {
    const ALL: [(Self, &'static [&'static [usize]]); 4] = [
        (Self::One, &[&[0, 1, 2, 3, 4, 5, 6, 7, 8]]),
        (Self::Two, &[&[0, 1, 4, 6], &[2, 3, 5, 7, 8]]),
        (Self::Four, &[&[0, 1], &[2, 6, 8], &[3, 4], &[5, 7]]),
        (Self::Five, &[&[0, 1], &[2, 3], &[4, 5], &[6, 7], &[8]]),
    ];

    /// The plan with the fewest chains that all channels of a block allow: `tap(tap, channel)` for 16 channels. `None`
    /// if a tap is no int8 or no plan holds.
    pub fn of(tap: impl Fn(usize, usize) -> i16) -> Option<Self> {
        let is_int8 = |tap: i16| i8::try_from(tap).is_ok();
        if !(0..9).all(|at| (0..16).all(|channel| is_int8(tap(at, channel)))) {
            return None;
        }
        let fits = |chain: &&[usize]| {
            (0..16).all(|channel| {
                let sum: i16 = chain.iter().map(|&at| tap(at, channel).abs()).sum();
                sum <= 255
            })
        };
        let mut plans = Self::ALL.into_iter();
        let plan = plans.find(|(_, chains)| chains.iter().all(fits));
        plan.map(|(plan, _)| plan)
    }

    /// The plan whose number, its value, this is.
    pub fn from_number(number: u8) -> Option<Self> {
        let mut plans = Self::ALL.into_iter().map(|(plan, _)| plan);
        plans.find(|&plan| plan as u8 == number)
    }
}

/// A part of a row, of the channels that [`Taps`] tells.
///
/// Pixel `x` multiplies tap `3 i + j` with the codes at `rows[i] + x * step + j * column`. The first `left` pixels have
/// `fill` in place of column 0, the last `right` in place of column 2.
pub struct Row {
    pub rows: [*const i8; 3],
    /// From one pixel to the next, in bytes.
    pub step: usize,
    /// From one column to the next, in bytes.
    pub column: usize,
    pub left: usize,
    pub inner: usize,
    pub right: usize,
    pub fill: i8,
    /// The first tap of each channel, in the type that [`Taps`] tells; the next ones lie `tap_stride` bytes apart.
    pub taps: *const u8,
    pub tap_stride: usize,
    /// Of each channel.
    pub bias: *const i32,
    /// Of each channel.
    pub scales: *const f32,
    /// The smallest code and the largest.
    pub bounds: [[i8; 16]; 2],
    /// See [`Path::addend`].
    pub addend: u32,
    pub out: *mut i8,
    /// From one pixel of the result to the next, in bytes.
    pub out_stride: usize,
}

/// Loads the codes of a tap, unless its column is `fill`. The load of column 0 moves the row's pointer on by a step; the
/// other two come behind it.
#[rustfmt::skip]
macro_rules! load {
    (left, 0, $x:literal) => { "add {r0}, {r0}, {step}\n" };
    (left, 3, $x:literal) => { "add {r1}, {r1}, {step}\n" };
    (left, 6, $x:literal) => { "add {r2}, {r2}, {step}\n" };
    (right, 2, $x:literal) => { "" };
    (right, 5, $x:literal) => { "" };
    (right, 8, $x:literal) => { "" };
    ($edge:ident, 0, $x:literal) => { concat!("ld1 {{v", $x, ".16b}}, [{r0}], {step}\n") };
    ($edge:ident, 1, $x:literal) => { concat!("ldr q", $x, ", [{r0}, {o1}]\n") };
    ($edge:ident, 2, $x:literal) => { concat!("ldr q", $x, ", [{r0}, {o2}]\n") };
    ($edge:ident, 3, $x:literal) => { concat!("ld1 {{v", $x, ".16b}}, [{r1}], {step}\n") };
    ($edge:ident, 4, $x:literal) => { concat!("ldr q", $x, ", [{r1}, {o1}]\n") };
    ($edge:ident, 5, $x:literal) => { concat!("ldr q", $x, ", [{r1}, {o2}]\n") };
    ($edge:ident, 6, $x:literal) => { concat!("ld1 {{v", $x, ".16b}}, [{r2}], {step}\n") };
    ($edge:ident, 7, $x:literal) => { concat!("ldr q", $x, ", [{r2}, {o1}]\n") };
    ($edge:ident, 8, $x:literal) => { concat!("ldr q", $x, ", [{r2}, {o2}]\n") };
}

/// The register of a tap's codes: `x`, or that of `fill`.
#[rustfmt::skip]
macro_rules! codes {
    (left, 0, $x:literal) => { 28 };
    (left, 3, $x:literal) => { 28 };
    (left, 6, $x:literal) => { 28 };
    (right, 2, $x:literal) => { 28 };
    (right, 5, $x:literal) => { 28 };
    (right, 8, $x:literal) => { 28 };
    ($edge:ident, $tap:tt, $x:literal) => { $x };
}

/// Multiplies a tap: `smull` begins a chain, `smlal` goes on with it. Chain a is v21, v22, chain b v23, v24.
#[rustfmt::skip]
macro_rules! multiply {
    ($op:literal, $edge:ident, a, $tap:tt, $x:literal) => { multiply!($op, $edge, 21, 22, $tap, $x) };
    ($op:literal, $edge:ident, b, $tap:tt, $x:literal) => { multiply!($op, $edge, 23, 24, $tap, $x) };
    ($op:literal, $edge:ident, $low:literal, $high:literal, $tap:tt, $x:literal) => {
        concat!(
            $op, " v", $low, ".8h, v", codes!($edge, $tap, $x), ".8b, v", $tap, ".8b\n",
            $op, "2 v", $high, ".8h, v", codes!($edge, $tap, $x), ".16b, v", $tap, ".16b\n",
        )
    };
}

/// Adds a chain to the sums in v17..v20; the first one to the bias in v9..v12.
#[rustfmt::skip]
macro_rules! gather {
    (first, a) => { gather!(9, 10, 11, 12, 21, 22) };
    (first, b) => { gather!(9, 10, 11, 12, 23, 24) };
    (next, a) => { gather!(17, 18, 19, 20, 21, 22) };
    (next, b) => { gather!(17, 18, 19, 20, 23, 24) };
    ($s0:literal, $s1:literal, $s2:literal, $s3:literal, $low:literal, $high:literal) => {
        concat!(
            "saddw v17.4s, v", $s0, ".4s, v", $low, ".4h\n",
            "saddw2 v18.4s, v", $s1, ".4s, v", $low, ".8h\n",
            "saddw v19.4s, v", $s2, ".4s, v", $high, ".4h\n",
            "saddw2 v20.4s, v", $s3, ".4s, v", $high, ".8h\n",
        )
    };
}

/// [`Taps::Int16`]: loads the codes of a tap and widens them, unless its column is `fill`.
#[rustfmt::skip]
macro_rules! load_wide {
    (left, 0, $x:literal) => { load!(left, 0, $x) };
    (left, 3, $x:literal) => { load!(left, 3, $x) };
    (left, 6, $x:literal) => { load!(left, 6, $x) };
    (right, 2, $x:literal) => { "" };
    (right, 5, $x:literal) => { "" };
    (right, 8, $x:literal) => { "" };
    ($edge:ident, 0, $x:literal) => { load_wide!(concat!("ld1 {{v", $x, ".8b}}, [{r0}], {step}\n"), $x) };
    ($edge:ident, 1, $x:literal) => { load_wide!(concat!("ldr d", $x, ", [{r0}, {o1}]\n"), $x) };
    ($edge:ident, 2, $x:literal) => { load_wide!(concat!("ldr d", $x, ", [{r0}, {o2}]\n"), $x) };
    ($edge:ident, 3, $x:literal) => { load_wide!(concat!("ld1 {{v", $x, ".8b}}, [{r1}], {step}\n"), $x) };
    ($edge:ident, 4, $x:literal) => { load_wide!(concat!("ldr d", $x, ", [{r1}, {o1}]\n"), $x) };
    ($edge:ident, 5, $x:literal) => { load_wide!(concat!("ldr d", $x, ", [{r1}, {o2}]\n"), $x) };
    ($edge:ident, 6, $x:literal) => { load_wide!(concat!("ld1 {{v", $x, ".8b}}, [{r2}], {step}\n"), $x) };
    ($edge:ident, 7, $x:literal) => { load_wide!(concat!("ldr d", $x, ", [{r2}, {o1}]\n"), $x) };
    ($edge:ident, 8, $x:literal) => { load_wide!(concat!("ldr d", $x, ", [{r2}, {o2}]\n"), $x) };
    ($load:expr, $x:literal) => { concat!($load, "sxtl v", $x, ".8h, v", $x, ".8b\n") };
}

/// [`Taps::Int16`]: multiplies a tap; sums a are v17, v18, sums b v19, v20.
#[rustfmt::skip]
macro_rules! multiply_wide {
    ($op:literal, $edge:ident, a, $tap:tt, $x:literal) => { multiply_wide!($op, $edge, 17, 18, $tap, $x) };
    ($op:literal, $edge:ident, b, $tap:tt, $x:literal) => { multiply_wide!($op, $edge, 19, 20, $tap, $x) };
    ($op:literal, $edge:ident, $low:literal, $high:literal, $tap:tt, $x:literal) => {
        concat!(
            $op, " v", $low, ".4s, v", codes!($edge, $tap, $x), ".4h, v", $tap, ".4h\n",
            $op, "2 v", $high, ".4s, v", codes!($edge, $tap, $x), ".8h, v", $tap, ".8h\n",
        )
    };
}

/// [`Taps::Int16`].
#[rustfmt::skip]
macro_rules! wide {
    ($edge:ident, $path:ident) => {
        concat!(
            codes_of_before!(8, 0, $path),
            load_wide!($edge, 0, 25), load_wide!($edge, 3, 26), load_wide!($edge, 6, 27),
            codes_of_before!(8, 1, $path),
            multiply_wide!("smull", $edge, a, 0, 25), load_wide!($edge, 1, 25),
            multiply_wide!("smull", $edge, b, 3, 26), load_wide!($edge, 4, 26),
            codes_of_before!(8, 2, $path),
            multiply_wide!("smlal", $edge, a, 6, 27), load_wide!($edge, 7, 27),
            multiply_wide!("smlal", $edge, b, 1, 25), load_wide!($edge, 2, 25),
            codes_of_before!(8, 3, $path),
            multiply_wide!("smlal", $edge, a, 4, 26), load_wide!($edge, 5, 26),
            codes_of_before!(8, 4, $path),
            multiply_wide!("smlal", $edge, b, 7, 27), load_wide!($edge, 8, 27),
            codes_of_before!(8, 5, $path),
            multiply_wide!("smlal", $edge, a, 2, 25),
            multiply_wide!("smlal", $edge, b, 5, 26),
            codes_of_before!(8, 6, $path),
            multiply_wide!("smlal", $edge, a, 8, 27),
            "add v19.4s, v19.4s, v9.4s\n", "add v20.4s, v20.4s, v10.4s\n",
            codes_of_before!(8, store, $path),
            "add v17.4s, v17.4s, v19.4s\n", "add v18.4s, v18.4s, v20.4s\n",
        )
    };
}

/// [`Plan::One`].
#[rustfmt::skip]
macro_rules! one {
    ($edge:ident, $path:ident) => {
        concat!(
            load!($edge, 0, 25), load!($edge, 1, 26), load!($edge, 2, 27),
            codes_of_before!(16, 0, $path),
            multiply!("smull", $edge, a, 0, 25), load!($edge, 3, 25),
            codes_of_before!(16, 1, $path),
            multiply!("smlal", $edge, a, 1, 26), load!($edge, 4, 26),
            codes_of_before!(16, 2, $path),
            multiply!("smlal", $edge, a, 2, 27), load!($edge, 5, 27),
            codes_of_before!(16, 3, $path),
            multiply!("smlal", $edge, a, 3, 25), load!($edge, 6, 25),
            codes_of_before!(16, 4, $path),
            multiply!("smlal", $edge, a, 4, 26), load!($edge, 7, 26),
            codes_of_before!(16, 5, $path),
            multiply!("smlal", $edge, a, 5, 27), load!($edge, 8, 27),
            codes_of_before!(16, 6, $path),
            multiply!("smlal", $edge, a, 6, 25),
            codes_of_before!(16, 7, $path),
            multiply!("smlal", $edge, a, 7, 26),
            multiply!("smlal", $edge, a, 8, 27),
            codes_of_before!(16, store, $path),
            gather!(first, a),
        )
    };
}

/// [`Plan::Two`]: a 0, 1, 4, 6; b 2, 3, 5, 7, 8.
#[rustfmt::skip]
macro_rules! two {
    ($edge:ident, $path:ident) => {
        concat!(
            load!($edge, 0, 25), load!($edge, 2, 26), load!($edge, 1, 27),
            codes_of_before!(16, 0, $path),
            multiply!("smull", $edge, a, 0, 25), load!($edge, 3, 25),
            multiply!("smull", $edge, b, 2, 26), load!($edge, 4, 26),
            codes_of_before!(16, 1, $path),
            multiply!("smlal", $edge, a, 1, 27), load!($edge, 5, 27),
            multiply!("smlal", $edge, b, 3, 25), load!($edge, 6, 25),
            codes_of_before!(16, 2, $path),
            multiply!("smlal", $edge, a, 4, 26), load!($edge, 7, 26),
            multiply!("smlal", $edge, b, 5, 27), load!($edge, 8, 27),
            codes_of_before!(16, 3, $path),
            multiply!("smlal", $edge, a, 6, 25),
            codes_of_before!(16, 4, $path),
            multiply!("smlal", $edge, b, 7, 26),
            codes_of_before!(16, 5, $path),
            multiply!("smlal", $edge, b, 8, 27),
            codes_of_before!(16, 6, $path),
            gather!(first, a),
            codes_of_before!(16, 7, $path),
            gather!(next, b),
            codes_of_before!(16, store, $path),
        )
    };
}

/// [`Plan::Four`]: a 0, 1; b 2, 6, 8; a 3, 4; b 5, 7.
#[rustfmt::skip]
macro_rules! four {
    ($edge:ident, $path:ident) => {
        concat!(
            load!($edge, 0, 25), load!($edge, 2, 26), load!($edge, 1, 27),
            codes_of_before!(16, 0, $path),
            multiply!("smull", $edge, a, 0, 25), load!($edge, 6, 25),
            multiply!("smull", $edge, b, 2, 26), load!($edge, 8, 26),
            codes_of_before!(16, 1, $path),
            multiply!("smlal", $edge, a, 1, 27), load!($edge, 3, 27),
            multiply!("smlal", $edge, b, 6, 25), load!($edge, 4, 25),
            codes_of_before!(16, 2, $path),
            multiply!("smlal", $edge, b, 8, 26), load!($edge, 5, 26),
            codes_of_before!(16, 3, $path),
            codes_of_before!(16, 4, $path),
            gather!(first, a),
            multiply!("smull", $edge, a, 3, 27), load!($edge, 7, 27),
            codes_of_before!(16, 5, $path),
            gather!(next, b),
            multiply!("smull", $edge, b, 5, 26),
            codes_of_before!(16, 6, $path),
            multiply!("smlal", $edge, a, 4, 25),
            multiply!("smlal", $edge, b, 7, 27),
            codes_of_before!(16, 7, $path),
            gather!(next, a),
            codes_of_before!(16, store, $path),
            gather!(next, b),
        )
    };
}

/// [`Plan::Five`]: a 0, 1; b 2, 3; a 4, 5; b 6, 7; a 8.
#[rustfmt::skip]
macro_rules! five {
    ($edge:ident, $path:ident) => {
        concat!(
            load!($edge, 0, 25), load!($edge, 2, 26), load!($edge, 1, 27),
            codes_of_before!(16, 0, $path),
            multiply!("smull", $edge, a, 0, 25), load!($edge, 3, 25),
            multiply!("smull", $edge, b, 2, 26), load!($edge, 4, 26),
            codes_of_before!(16, 1, $path),
            multiply!("smlal", $edge, a, 1, 27), load!($edge, 6, 27),
            multiply!("smlal", $edge, b, 3, 25), load!($edge, 5, 25),
            codes_of_before!(16, 2, $path),
            codes_of_before!(16, 3, $path),
            codes_of_before!(16, 4, $path),
            gather!(first, a),
            multiply!("smull", $edge, a, 4, 26), load!($edge, 7, 26),
            codes_of_before!(16, 5, $path),
            gather!(next, b),
            multiply!("smull", $edge, b, 6, 27), load!($edge, 8, 27),
            codes_of_before!(16, 6, $path),
            multiply!("smlal", $edge, a, 5, 25),
            multiply!("smlal", $edge, b, 7, 26),
            codes_of_before!(16, 7, $path),
            gather!(next, a),
            multiply!("smull", $edge, a, 8, 27),
            gather!(next, b),
            codes_of_before!(16, store, $path),
            gather!(next, a),
        )
    };
}

/// The steps from the sums of the pixel before to its codes: 16 channels from v17..v20, free after step 4, by v30 and
/// v31 to v30; 8 channels from v17 and v18, free after step 0, by v21 and v22 to v21.
#[rustfmt::skip]
macro_rules! codes_of_before {
    (16, 0, $path:ident) => { "scvtf v17.4s, v17.4s\nscvtf v18.4s, v18.4s\nscvtf v19.4s, v19.4s\nscvtf v20.4s, v20.4s\n" };
    (16, 1, $path:ident) => { "fmul v17.4s, v17.4s, v13.4s\nfmul v18.4s, v18.4s, v14.4s\nfmul v19.4s, v19.4s, v15.4s\nfmul v20.4s, v20.4s, v16.4s\n" };
    (16, 2, any) => { "fcvtns v17.4s, v17.4s\nfcvtns v18.4s, v18.4s\nfcvtns v19.4s, v19.4s\nfcvtns v20.4s, v20.4s\n" };
    (16, 3, any) => { "sqxtn v30.4h, v17.4s\nsqxtn v31.4h, v19.4s\n" };
    (16, 4, any) => { "sqxtn2 v30.8h, v18.4s\nsqxtn2 v31.8h, v20.4s\n" };
    (16, 2, relu) => { codes_of_before!(16, 2, any) };
    (16, 3, relu) => { codes_of_before!(16, 3, any) };
    (16, 4, relu) => { codes_of_before!(16, 4, any) };
    (16, 5, relu) => { "" };
    (16, 6, relu) => { "sqxtun v30.8b, v30.8h\n" };
    (16, 7, relu) => { "sqxtun2 v30.16b, v31.8h\n" };
    (16, store, relu) => { concat!("eor v30.16b, v30.16b, v29.16b\n", codes_of_before!(16, store, even)) };
    (16, 5, any) => { "sqadd v30.8h, v30.8h, v29.8h\nsqadd v31.8h, v31.8h, v29.8h\n" };
    (16, 2, $path:ident) => { "fadd v17.4s, v17.4s, v29.4s\nfadd v18.4s, v18.4s, v29.4s\nfadd v19.4s, v19.4s, v29.4s\nfadd v20.4s, v20.4s, v29.4s\n" };
    (16, 3, $path:ident) => { "" };
    (16, 4, $path:ident) => { "uzp1 v30.8h, v17.8h, v18.8h\nuzp1 v31.8h, v19.8h, v20.8h\n" };
    (16, 5, $path:ident) => { "" };
    (16, 6, $path:ident) => { "sqxtn v30.8b, v30.8h\n" };
    (16, 7, $path:ident) => { "sqxtn2 v30.16b, v31.8h\n" };
    (16, store, even) => { "st1 {{v30.16b}}, [{out}], {on}\nmov {on}, {out_stride}\n" };
    (16, store, $path:ident) => {
        "ldp q25, q26, [{bounds}]
        smax v30.16b, v30.16b, v25.16b
        smin v30.16b, v30.16b, v26.16b
        st1 {{v30.16b}}, [{out}], {on}
        mov {on}, {out_stride}\n"
    };
    (8, 0, $path:ident) => { "scvtf v21.4s, v17.4s\nscvtf v22.4s, v18.4s\n" };
    (8, 1, $path:ident) => { "fmul v21.4s, v21.4s, v13.4s\nfmul v22.4s, v22.4s, v14.4s\n" };
    (8, 2, any) => { "fcvtns v21.4s, v21.4s\nfcvtns v22.4s, v22.4s\n" };
    (8, 3, any) => { "sqxtn v21.4h, v21.4s\n" };
    (8, 4, any) => { "sqxtn2 v21.8h, v22.4s\n" };
    (8, 2, relu) => { codes_of_before!(8, 2, any) };
    (8, 3, relu) => { codes_of_before!(8, 3, any) };
    (8, 4, relu) => { codes_of_before!(8, 4, any) };
    (8, 5, relu) => { "" };
    (8, 6, relu) => { "sqxtun v21.8b, v21.8h\n" };
    (8, store, relu) => { concat!("eor v21.8b, v21.8b, v29.8b\n", codes_of_before!(8, store, even)) };
    (8, 5, any) => { "sqadd v21.8h, v21.8h, v29.8h\n" };
    (8, 2, $path:ident) => { "fadd v21.4s, v21.4s, v29.4s\nfadd v22.4s, v22.4s, v29.4s\n" };
    (8, 3, $path:ident) => { "" };
    (8, 4, $path:ident) => { "uzp1 v21.8h, v21.8h, v22.8h\n" };
    (8, 5, $path:ident) => { "" };
    (8, 6, $path:ident) => { "sqxtn v21.8b, v21.8h\n" };
    (8, 7, $path:ident) => { "" };
    (8, store, even) => { "st1 {{v21.8b}}, [{out}], {on}\nmov {on}, {out_stride}\n" };
    (8, store, $path:ident) => {
        "ldp q23, q24, [{bounds}]
        smax v21.8b, v21.8b, v23.8b
        smin v21.8b, v21.8b, v24.8b
        st1 {{v21.8b}}, [{out}], {on}
        mov {on}, {out_stride}\n"
    };
}

/// All of them.
#[rustfmt::skip]
macro_rules! codes_alone {
    ($channels:tt, $path:ident) => {
        concat!(
            codes_of_before!($channels, 0, $path), codes_of_before!($channels, 1, $path),
            codes_of_before!($channels, 2, $path), codes_of_before!($channels, 3, $path),
            codes_of_before!($channels, 4, $path), codes_of_before!($channels, 5, $path),
            codes_of_before!($channels, 6, $path), codes_of_before!($channels, 7, $path),
            codes_of_before!($channels, store, $path),
            "// {bounds}"
        )
    };
}

/// Loads bias and scales.
#[rustfmt::skip]
macro_rules! channels {
    (16) => { "ldp q9, q10, [{bias}]\nldp q11, q12, [{bias}, #32]\nldp q13, q14, [{scales}]\nldp q15, q16, [{scales}, #32]\n" };
    (8) => { "ldp q9, q10, [{bias}]\nldp q13, q14, [{scales}]\nsxtl v28.8h, v28.8b\n" };
}

/// A function that makes a row by one plan.
macro_rules! row_by_plan {
    ($name:ident, $plan:ident, $channels:tt, $path:ident) => {
        /// Registers: v0..v8 taps; v9..v12 bias; v13..v16 scales; v17..v20 sums; v21..v24 two chains; v25..v27 codes;
        /// v28 fill; v29 addend; v30, v31 codes of the pixel before.
        ///
        /// # Safety
        /// The contract of [`make`].
        unsafe fn $name(row: Row) {
            // The first codes, of no pixel, lie where those of the first pixel will: `on` is 0 for them.
            let after_step = |columns: usize| (columns * row.column).wrapping_sub(row.step);
            // SAFETY: the caller's contract; every register that is written is named below.
            unsafe {
                asm!(
                    "ld1 {{v0.16b}}, [{taps}], {tap_stride}
                    ld1 {{v1.16b}}, [{taps}], {tap_stride}
                    ld1 {{v2.16b}}, [{taps}], {tap_stride}
                    ld1 {{v3.16b}}, [{taps}], {tap_stride}
                    ld1 {{v4.16b}}, [{taps}], {tap_stride}
                    ld1 {{v5.16b}}, [{taps}], {tap_stride}
                    ld1 {{v6.16b}}, [{taps}], {tap_stride}
                    ld1 {{v7.16b}}, [{taps}], {tap_stride}
                    ld1 {{v8.16b}}, [{taps}]",
                    channels!($channels),
                    "cbz {left}, 3f",
                    "2:",
                    $plan!(left, $path),
                    "subs {left}, {left}, #1
                    b.ne 2b",
                    "3:
                    cbz {inner}, 5f",
                    "4:",
                    $plan!(inner, $path),
                    "subs {inner}, {inner}, #1
                    b.ne 4b",
                    "5:
                    cbz {right}, 7f",
                    "6:",
                    $plan!(right, $path),
                    "subs {right}, {right}, #1
                    b.ne 6b",
                    "7:",
                    codes_alone!($channels, $path),
                    r0 = inout(reg) row.rows[0] => _,
                    r1 = inout(reg) row.rows[1] => _,
                    r2 = inout(reg) row.rows[2] => _,
                    step = in(reg) row.step,
                    o1 = in(reg) after_step(1),
                    o2 = in(reg) after_step(2),
                    left = inout(reg) row.left => _,
                    inner = inout(reg) row.inner => _,
                    right = inout(reg) row.right => _,
                    taps = inout(reg) row.taps => _,
                    tap_stride = in(reg) row.tap_stride,
                    bias = in(reg) row.bias,
                    scales = in(reg) row.scales,
                    out = inout(reg) row.out => _,
                    out_stride = in(reg) row.out_stride,
                    on = inout(reg) 0usize => _,
                    bounds = in(reg) &row.bounds,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                    out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                    inout("v28") vdupq_n_s8(row.fill) => _,
                    in("v29") vdupq_n_u32(row.addend),
                    out("v30") _, out("v31") _,
                    options(nostack),
                );
            }
        }
    };
}

row_by_plan!(one_even, one, 16, even);
row_by_plan!(two_even, two, 16, even);
row_by_plan!(four_even, four, 16, even);
row_by_plan!(five_even, five, 16, even);
row_by_plan!(wide_even, wide, 8, even);
row_by_plan!(one_even_bounded, one, 16, even_bounded);
row_by_plan!(two_even_bounded, two, 16, even_bounded);
row_by_plan!(four_even_bounded, four, 16, even_bounded);
row_by_plan!(five_even_bounded, five, 16, even_bounded);
row_by_plan!(wide_even_bounded, wide, 8, even_bounded);
row_by_plan!(one_relu, one, 16, relu);
row_by_plan!(two_relu, two, 16, relu);
row_by_plan!(four_relu, four, 16, relu);
row_by_plan!(five_relu, five, 16, relu);
row_by_plan!(wide_relu, wide, 8, relu);
row_by_plan!(one_any, one, 16, any);
row_by_plan!(two_any, two, 16, any);
row_by_plan!(four_any, four, 16, any);
row_by_plan!(five_any, five, 16, any);
row_by_plan!(wide_any, wide, 8, any);

/// Makes a row.
///
/// # Safety
/// For the channels of `taps`, all that [`Row`] tells of is readable, and a code is writable for each pixel and channel.
pub unsafe fn make(row: Row, taps: Taps, path: Path) {
    let run = match (taps, path) {
        (Taps::Int8(Plan::One), Path::Even) => one_even,
        (Taps::Int8(Plan::Two), Path::Even) => two_even,
        (Taps::Int8(Plan::Four), Path::Even) => four_even,
        (Taps::Int8(Plan::Five), Path::Even) => five_even,
        (Taps::Int16, Path::Even) => wide_even,
        (Taps::Int8(Plan::One), Path::EvenBounded) => one_even_bounded,
        (Taps::Int8(Plan::Two), Path::EvenBounded) => two_even_bounded,
        (Taps::Int8(Plan::Four), Path::EvenBounded) => four_even_bounded,
        (Taps::Int8(Plan::Five), Path::EvenBounded) => five_even_bounded,
        (Taps::Int16, Path::EvenBounded) => wide_even_bounded,
        (Taps::Int8(Plan::One), Path::Relu) => one_relu,
        (Taps::Int8(Plan::Two), Path::Relu) => two_relu,
        (Taps::Int8(Plan::Four), Path::Relu) => four_relu,
        (Taps::Int8(Plan::Five), Path::Relu) => five_relu,
        (Taps::Int16, Path::Relu) => wide_relu,
        (Taps::Int8(Plan::One), Path::Any) => one_any,
        (Taps::Int8(Plan::Two), Path::Any) => two_any,
        (Taps::Int8(Plan::Four), Path::Any) => four_any,
        (Taps::Int8(Plan::Five), Path::Any) => five_any,
        (Taps::Int16, Path::Any) => wide_any,
    };
    // SAFETY: the caller's contract.
    unsafe { run(row) }
}
