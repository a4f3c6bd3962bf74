//! The depthwise convolution for Armv8.0: 3x3 over 16 channels in assembly where taps are int8; else 8 channels whose
//! codes and taps are widened to int16.

use super::output::{CodesStage, Path, load_8, load_8_i16, load_f32, load_i32, store_8};
use super::registers::*;
use super::taps::{self, Plan, Taps};
use crate::kernels::depthwise::{Depthwise, DepthwiseKernel, DepthwiseWeights, PackedTaps};
use crate::kernels::scalar;

/// 3x3 and 5x5 over at least 8 channels; what else there is goes to the reference.
pub const DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "i8_depthwise_16c_neon",
    block: LANES,
    pack,
    run,
};

/// Channels of a block.
const LANES: usize = 16;
/// Channels that are made at a time in int16.
const WIDE_LANES: usize = 8;
const TAPS: usize = 9;

/// Blocks of 16 channels, the last one ending at the last channel: `[blocks][9][16]` taps as int8.
fn pack(weights: &DepthwiseWeights) -> PackedTaps {
    let channels = weights.channels;
    let mut packed = PackedTaps::default();
    if weights.kernel != [3, 3] || channels < LANES {
        return packed;
    }
    for block in 0..channels.div_ceil(LANES) {
        let first = (block * LANES).min(channels - LANES);
        let tap = |tap: usize, lane: usize| weights.taps[tap * channels + first + lane];
        let mut block = first..first + LANES;
        let is_small = block.all(|channel| has_small_results(weights, channel));
        let number = Plan::of(tap).map_or(0, |plan| plan as u8);
        packed
            .plans
            .push(if is_small { SMALL | number } else { number });
        for at in 0..TAPS {
            packed
                .data
                .extend((0..LANES).map(|lane| tap(at, lane) as i8));
        }
    }
    packed
}

/// Marks the number of a plan of a block with small results.
const SMALL: u8 = 0x80;

/// Whether sums of a channel times its scale lie within 32,000 of 0, whatever the codes are.
fn has_small_results(weights: &DepthwiseWeights, channel: usize) -> bool {
    let taps = weights.taps.iter().skip(channel).step_by(weights.channels);
    let bias = i64::from(weights.bias[channel]);
    let (mut low, mut high) = (bias, bias);
    for tap in taps.map(|&tap| i64::from(tap)) {
        low += (-128 * tap).min(127 * tap);
        high += (-128 * tap).max(127 * tap);
    }
    high.max(-low) as f64 * f64::from(weights.scales[channel]) < 32_000.0
}

fn run(row: Depthwise<'_>) {
    match row.weights.kernel {
        _ if row.channels < WIDE_LANES => scalar::DEPTHWISE.run(row),
        [3, 3] => match Edges::of(&row) {
            Some(edges) => blocks(row, edges),
            None => wide_blocks::<3, 9>(row),
        },
        [5, 5] => wide_blocks::<5, 25>(row),
        _ => scalar::DEPTHWISE.run(row),
    }
}

/// How many pixels of a row lack column 0, no column, or column 2.
#[derive(Clone, Copy)]
struct Edges {
    left: usize,
    inner: usize,
    right: usize,
}

impl Edges {
    /// `None` if a pixel lacks other columns, or more than one.
    fn of(row: &Depthwise<'_>) -> Option<Self> {
        let (pixels, stride, padding) = (row.pixels, row.stride, row.padding);
        let reach = 2 * row.dilation;
        let left = padding.div_ceil(stride);
        let inner_end = match (row.width + padding).checked_sub(reach) {
            Some(starts) => starts.div_ceil(stride).min(pixels),
            None => return None,
        };
        let is_left_whole = left <= inner_end && padding <= row.dilation;
        let last_middle = (pixels - 1) * stride + row.dilation;
        let is_right_whole = last_middle < row.width + padding;
        (is_left_whole && is_right_whole).then(|| Self {
            left,
            inner: inner_end - left,
            right: pixels - inner_end,
        })
    }
}

fn blocks(mut row: Depthwise<'_>, edges: Edges) {
    if row.channels < LANES {
        let last = row.channels - WIDE_LANES;
        make(&mut row, edges, 0, Taps::Int16, Path::Any);
        if last > 0 {
            make(&mut row, edges, last, Taps::Int16, Path::Any);
        }
        return;
    }
    for block in 0..row.channels.div_ceil(LANES) {
        let first = (block * LANES).min(row.channels - LANES);
        let index = (row.first_channel + first).div_ceil(LANES);
        let number = row.weights.packed.plans[index];
        let path = Path::of(row.stage, number & SMALL != 0);
        match Plan::from_number(number & !SMALL) {
            Some(plan) => make(&mut row, edges, first, Taps::Int8(plan), path),
            None => {
                make(&mut row, edges, first, Taps::Int16, path);
                make(&mut row, edges, first + WIDE_LANES, Taps::Int16, path);
            }
        }
    }
}

/// Makes the channels from `first` on, as many as `taps` tells, of a row that has [`Edges`].
fn make(row: &mut Depthwise<'_>, edges: Edges, first: usize, taps: Taps, path: Path) {
    let weights = row.weights;
    let channel = row.first_channel + first;
    let (lanes, tap_bytes, tap_stride) = match taps {
        Taps::Int8(_) => {
            let index = channel.div_ceil(LANES);
            let packed = &weights.packed.data[index * TAPS * LANES..][..TAPS * LANES];
            (LANES, bytemuck::cast_slice(packed), LANES)
        }
        Taps::Int16 => {
            let plain = &weights.taps[channel..][..(TAPS - 1) * weights.channels + WIDE_LANES];
            (
                WIDE_LANES,
                bytemuck::cast_slice(plain),
                2 * weights.channels,
            )
        }
    };
    let tap_bytes: &[u8] = tap_bytes;
    let before = row.padding * row.input_stride;
    let start = |at: usize| row.rows[at][first..].as_ptr().wrapping_sub(before);
    let part = taps::Row {
        rows: [start(0), start(1), start(2)],
        step: row.stride * row.input_stride,
        column: row.dilation * row.input_stride,
        left: edges.left,
        inner: edges.inner,
        right: edges.right,
        fill: row.fill,
        taps: tap_bytes.as_ptr(),
        tap_stride,
        bias: weights.bias[channel..][..lanes].as_ptr(),
        scales: weights.scales[channel..][..lanes].as_ptr(),
        bounds: [[row.stage.min; 16], [row.stage.max; 16]],
        addend: path.addend(row.stage),
        out: row.out[first..].as_mut_ptr(),
        out_stride: row.out_stride,
    };
    // SAFETY: `Depthwise::assert_lengths` proves that the rows hold `width` pixels and the output `pixels`, with
    // `channels` codes each; `Edges` that only columns inside the rows are read; the slices above are as long as read.
    unsafe { taps::make(part, taps, path) }
}

fn wide_blocks<const COLUMNS: usize, const TAPS: usize>(mut row: Depthwise<'_>) {
    for block in 0..row.channels.div_ceil(WIDE_LANES) {
        let first = (block * WIDE_LANES).min(row.channels - WIDE_LANES);
        wide_block::<COLUMNS, TAPS>(&mut row, first);
    }
}

/// Makes the 8 channels from `first` on: codes and taps as int16, two accumulators of four int32 lanes.
fn wide_block<const COLUMNS: usize, const TAPS: usize>(row: &mut Depthwise<'_>, first: usize) {
    let weights = row.weights;
    let channel = row.first_channel + first;
    let stage = CodesStage::new(row.stage);
    let mut taps = [vdupq_n_s16(0); TAPS];
    for (at, tap) in taps.iter_mut().enumerate() {
        *tap = load_8_i16(&weights.taps[at * weights.channels + channel..]);
    }
    let bias = [0, 4].map(|at| load_i32(&weights.bias, channel + at));
    let scales = [0, 4].map(|at| load_f32(&weights.scales, channel + at));
    let fill = [row.fill; WIDE_LANES];
    for x in 0..row.pixels {
        let mut acc = bias;
        for (tap, &weights) in taps.iter().enumerate() {
            let column = x * row.stride + tap % COLUMNS * row.dilation;
            let column = column.wrapping_sub(row.padding);
            let codes = vmovl_s8(match column < row.width {
                true => load_8(&row.rows[tap / COLUMNS][column * row.input_stride + first..]),
                false => load_8(&fill),
            });
            acc[0] = vmlal_s16(acc[0], vget_low_s16(codes), vget_low_s16(weights));
            acc[1] = vmlal_high_s16(acc[1], codes, weights);
        }
        let out = &mut row.out[x * row.out_stride + first..];
        store_8(stage.codes_of_8(acc, scales), out);
    }
}
