//! The packed form of 3x3 taps, 16 channels a block.
//!
//! A column of the kernel, its three codes of one channel, lies in the four bytes of an int32 lane and meets the three
//! taps there; a fourth tap of 0 meets a code that is another channel's. From three rows `r`, `s`, `t` of 16 codes come
//! four such registers:
//!
//! ```text
//! even = TRN1(r, s)    r0 s0 r2 s2 ..    ZIP1, ZIP2(even, t)    r0 s0 t0 t1   r2 s2 t2 t3 ..   taps w0 w1 w2 0
//! odd  = TRN2(r, s)    r1 s1 r3 s3 ..    ZIP1, ZIP2(odd, t)     r1 s1 t0 t1   r3 s3 t2 t3 ..   taps w0 w1 0 w2
//! ```
//!
//! so sums, biases and scales are in the order of [`CHANNELS`].

use super::output::{Path, relu_offset};
use crate::kernels::depthwise::{DepthwiseWeights, PackedTaps};
use crate::kernels::neon;

/// Channels of a block.
pub(super) const LANES: usize = 16;

/// Bytes of one int8 part of the taps of a block: 3 columns, 16 channels, 4 taps.
pub(super) const PART: usize = 3 * LANES * 4;

/// int8 parts that are packed of every tap: the first is the tap itself where it fits, then the second is 0.
pub(super) const PARTS: usize = 2;

/// The plan of a block with taps of which two parts are not enough.
pub(super) const NOT_PACKED: u8 = 0;
/// In the plans of all other blocks, beside a bit for each column that has second parts.
const PACKED: u8 = 1 << 3;
/// In the plan of a block whose sums, whatever the codes, lie within 2^22 and, times their scales, within 32,000.
pub(super) const SMALL_RESULTS: u8 = 1 << 4;
/// The bits of the columns.
pub(super) const WIDE_COLUMNS: u8 = 0b111;

/// The channel of each lane of a block's four registers.
pub(super) const CHANNELS: [usize; LANES] = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15];

/// Whether the packed form below is made, or that of the kernel without dot products.
pub(super) fn is_packed(weights: &DepthwiseWeights) -> bool {
    weights.kernel == [3, 3] && weights.channels >= LANES
}

/// Where block `block` begins: the last one overlaps the one before.
pub(super) fn first_channel(block: usize, channels: usize) -> usize {
    (block * LANES).min(channels - LANES)
}

/// Packs for [`super::DEPTHWISE`].
pub(super) fn pack(weights: &DepthwiseWeights) -> PackedTaps {
    if !is_packed(weights) {
        return (neon::DEPTHWISE.pack)(weights);
    }
    let mut packed = PackedTaps::default();
    for block in 0..weights.channels.div_ceil(LANES) {
        let first = first_channel(block, weights.channels);
        let channels = CHANNELS.map(|channel| first + channel);
        let is_small = channels.iter().all(|&channel| is_small(weights, channel));
        for path in [Path::Relu, Path::Small] {
            let start = if is_small { path } else { Path::Any }.start();
            let start = channels.map(|channel| weights.bias[channel].wrapping_add(start));
            packed.bias.extend(start);
        }
        let scales = channels.map(|channel| weights.scales[channel]);
        packed.scales.extend(scales);
        packed.scales.extend(scales.map(relu_offset));
        packed
            .plans
            .push(match pack_block(weights, first, &mut packed.data) {
                Some(wide_columns) if is_small => PACKED | wide_columns | SMALL_RESULTS,
                Some(wide_columns) => PACKED | wide_columns,
                None => NOT_PACKED,
            });
        packed.data.resize((block + 1) * PARTS * PART, 0);
    }
    packed
}

/// Packs the taps of a block; a bit for each column that has second parts, `None` if two parts are not enough.
fn pack_block(weights: &DepthwiseWeights, first_channel: usize, data: &mut Vec<i8>) -> Option<u8> {
    let mut parts = [[0i8; PART]; PARTS];
    let mut wide_columns = 0;
    for (lane, channel) in CHANNELS.into_iter().enumerate() {
        for tap in 0..9 {
            let byte = match tap / 3 {
                2 => 2 + channel % 2,
                row => row,
            };
            let at = (tap % 3 * LANES + lane) * 4 + byte;
            let tap = weights.taps[tap * weights.channels + first_channel + channel];
            let first = tap.clamp(-128, 127) as i8;
            let second = i8::try_from(tap - i16::from(first)).ok()?;
            parts[0][at] = first;
            parts[1][at] = second;
            wide_columns |= u8::from(second != 0) << (at / (4 * LANES));
        }
    }
    data.extend(parts.as_flattened());
    Some(wide_columns)
}

/// Whether sums of the channel lie within 2^22 and, times the scale, within 32,000, whatever the codes.
fn is_small(weights: &DepthwiseWeights, channel: usize) -> bool {
    let (mut low, mut high) = (weights.bias[channel] as i64, weights.bias[channel] as i64);
    for &tap in weights.taps[channel..].iter().step_by(weights.channels) {
        let ends = [-128 * i64::from(tap), 127 * i64::from(tap)];
        low += ends[0].min(ends[1]);
        high += ends[0].max(ends[1]);
    }
    let furthest = high.max(-low);
    furthest < 1 << 22 && furthest as f64 * f64::from(weights.scales[channel]) < 32_000.0
}
