//! The depthwise convolution for Armv8.0: 3x3 over 16 channels in assembly where taps are int8; else 8 channels whose
//! codes and taps are widened to int16.

use super::output::{CodesStage, load_8, load_8_i16, load_f32, load_i32, needs_clamp, store_8};
use super::registers::*;
use super::taps::{self, Plan};
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
        packed
            .plans
            .push(Plan::of(tap).map_or(0, |plan| plan as u8));
        for at in 0..TAPS {
            packed
                .data
                .extend((0..LANES).map(|lane| tap(at, lane) as i8));
        }
    }
    packed
}

fn run(row: Depthwise<'_>) {
    match row.weights.kernel {
        _ if row.channels < WIDE_LANES => scalar::DEPTHWISE.run(row),
        [3, 3] => match Edges::of(&row) {
            Some(edges) if row.channels >= LANES => blocks(row, edges),
            _ => wide_blocks::<9>(row),
        },
        [5, 5] => wide_blocks::<25>(row),
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
        (is_left_whole && is_right_whole).then_some(Self {
            left,
            inner: inner_end - left,
            right: pixels - inner_end,
        })
    }
}

fn blocks(mut row: Depthwise<'_>, edges: Edges) {
    for block in 0..row.channels.div_ceil(LANES) {
        let first = (block * LANES).min(row.channels - LANES);
        let index = (row.first_channel + first).div_ceil(LANES);
        match Plan::from_number(row.weights.packed.plans[index]) {
            Some(plan) => int8_block(&mut row, edges, first, index, plan),
            None => {
                wide_block::<TAPS>(&mut row, first);
                wide_block::<TAPS>(&mut row, first + WIDE_LANES);
            }
        }
    }
}

/// Makes the 16 channels from `first` on of a row that has [`Edges`].
fn int8_block(row: &mut Depthwise<'_>, edges: Edges, first: usize, index: usize, plan: Plan) {
    let channel = row.first_channel + first;
    let weights = row.weights;
    let stage = CodesStage::new(row.stage);
    let packed = &weights.packed.data[index * TAPS * LANES..][..TAPS * LANES];
    let rows = [row.rows[0], row.rows[1], row.rows[2]];
    let part = taps::Row {
        rows: rows.map(|row_codes| {
            let before = row.padding * row.input_stride;
            row_codes[first..].as_ptr().wrapping_sub(before)
        }),
        step: row.stride * row.input_stride,
        column: row.dilation * row.input_stride,
        left: edges.left,
        inner: edges.inner,
        right: edges.right,
        fill: vdupq_n_s8(row.fill),
        taps: packed.as_ptr(),
        bias: weights.bias[channel..][..LANES].as_ptr(),
        scales: weights.scales[channel..][..LANES].as_ptr(),
        stage,
        out: row.out[first..].as_mut_ptr(),
        out_stride: row.out_stride,
    };
    // SAFETY: `Depthwise::assert_lengths` proves that the rows hold `width` pixels and the output `pixels`, with
    // `channels` codes each; `Edges` that only columns inside the rows are read; the slices above are 16 long.
    unsafe { taps::make(part, plan, needs_clamp(row.stage)) }
}

fn wide_blocks<const TAPS: usize>(mut row: Depthwise<'_>) {
    for block in 0..row.channels.div_ceil(WIDE_LANES) {
        let first = (block * WIDE_LANES).min(row.channels - WIDE_LANES);
        wide_block::<TAPS>(&mut row, first);
    }
}

/// Makes the 8 channels from `first` on: codes and taps as int16, two accumulators of four int32 lanes.
fn wide_block<const TAPS: usize>(row: &mut Depthwise<'_>, first: usize) {
    let weights = row.weights;
    let channel = row.first_channel + first;
    let columns = weights.kernel[1];
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
        for tap in 0..TAPS {
            let column = x * row.stride + tap % columns * row.dilation;
            let column = column.wrapping_sub(row.padding);
            let codes = vmovl_s8(match column < row.width {
                true => load_8(&row.rows[tap / columns][column * row.input_stride + first..]),
                false => load_8(&fill),
            });
            acc[0] = vmlal_s16(acc[0], vget_low_s16(codes), vget_low_s16(taps[tap]));
            acc[1] = vmlal_high_s16(acc[1], codes, taps[tap]);
        }
        store_8(
            stage.codes_of_8(acc, scales),
            &mut row.out[x * row.out_stride + first..],
        );
    }
}
