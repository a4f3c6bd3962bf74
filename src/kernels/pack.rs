//! Weights in the order in which a GEMM kernel reads them.
//!
//! Zero points are folded here, once. With activations `a` (zero point `za`) and weights `w` (zero point `zw`) over a
//! depth of `K`:
//!
//! ```text
//! sum (a - za)(w - zw) = sum a (w - zw)  -  za sum (w - zw)
//!                      = sum a w  -  zw sum a  -  za sum w  +  K za zw
//! ```
//!
//! A block of channels whose `w - zw` all fit int8 is packed as `w - zw`, by the first line; else as `w`, by the second.
//! The terms without activations join the bias. `zw sum a` of the second is the row's: the caller passes it
//! ([`row_terms`]), and only these blocks add it. A kernel that multiplies `a + offset` ([`Tile::offset`]) in place of
//! `a` finds `offset sum w` taken off the bias too. Kernels see no zero point.

use std::ops::Range;

/// How a kernel wants its weights: blocks of `nr` output channels; in each, groups of `kr` consecutive elements of the
/// depth for every channel of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows of the result that the kernel makes at a time.
    pub mr: usize,
    /// Output channels of a block.
    pub nr: usize,
    /// Consecutive elements of the depth that lie side by side.
    pub kr: usize,
    /// What the kernel adds to every activation before it multiplies.
    pub offset: i32,
}

/// A `kr` of this long: a kernel sums several products in int16, as [`PackedWeights::steps`] says. A last group that is
/// at most half full is packed half as wide.
pub const LONG_GROUP: usize = 32;

/// Depths of a long group that meet in one lane of int16 lie this far apart.
const LANES: usize = 8;

impl Tile {
    fn is_long(&self) -> bool {
        self.kr == LONG_GROUP
    }

    /// Elements for one channel in the group that begins at element `start` of a depth.
    fn group_width(&self, start: usize, depth: usize) -> usize {
        match self.is_long() && depth - start <= LONG_GROUP / 2 {
            true => LONG_GROUP / 2,
            false => self.kr,
        }
    }

    /// Elements for one channel in all groups.
    fn packed_depth(&self, depth: usize) -> usize {
        match self.is_long() {
            true => depth.next_multiple_of(LONG_GROUP / 2),
            false => depth.next_multiple_of(self.kr),
        }
    }
}

/// What a kernel of long groups does with one group of a block: how many products of a lane it sums in int16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The first two and the last two.
    Pairs = 0,
    /// All four.
    Four = 1,
    /// Half a group: its two.
    Half = 2,
    /// Behind the last group.
    End = 4,
}

/// Whether int16 holds the sum of each lane's products, those of depths 8 apart, whatever the activations are.
fn lanes_fit(weights: &[i8]) -> bool {
    (0..LANES).all(|lane| {
        let sum = |sign: i32| -> i32 {
            let weights = weights.iter().skip(lane).step_by(LANES);
            weights.map(|&w| (i32::from(w) * sign).max(0)).sum()
        };
        let (positive, negative) = (sum(1), sum(-1));
        127 * positive + 128 * negative <= 32767 && 128 * positive + 127 * negative <= 32768
    })
}

/// Weights, bias and scales of one matrix product, packed for one [`Tile`].
#[derive(Clone, Debug)]
pub struct PackedWeights {
    tile: Tile,
    channels: usize,
    depth: usize,
    /// Packed bytes of each block.
    block_bytes: usize,
    /// `[channels / nr][depth / kr][nr][kr]`, both divisions rounded up, filled up with 0.
    data: Vec<i8>,
    /// `[channels / nr][depth / kr + 1]`; empty unless `kr` is [`LONG_GROUP`].
    steps: Vec<Step>,
    /// Of each block, whether the steps hold.
    steps_fit: Vec<bool>,
    /// Folded bias, filled up with 0 to whole blocks.
    bias: Vec<i32>,
    /// Requantization scales, filled up with 1 to whole blocks.
    scales: Vec<f32>,
    /// Of each block, whether its sums need the row's term.
    row_term_blocks: Vec<bool>,
    /// Of each block, [`PackedWeights::furthest_sum`].
    furthest_sums: Vec<u32>,
    has_minimum: bool,
}

/// What [`PackedWeights::new`] reads.
#[derive(Clone, Copy, Debug)]
pub struct WeightsSource<'a> {
    /// `[channels][depth]`.
    pub weights: &'a [i8],
    /// Zero point of the weights, 0 if symmetric.
    pub weight_zero_point: i32,
    /// Zero point of the activations.
    pub input_zero_point: i32,
    /// One for each channel.
    pub bias: &'a [i32],
    /// One for each channel, finite and above 0.
    pub scales: &'a [f32],
}

impl WeightsSource<'_> {
    fn depth(&self) -> usize {
        let channels = self.scales.len();
        assert!(channels > 0, "a product has at least one output channel");
        assert_eq!(self.bias.len(), channels);
        let depth = self.weights.len() / channels;
        assert_eq!(self.weights.len(), channels * depth);
        depth
    }

    /// What blocks of `nr` channels are packed as: a code less the first number.
    fn zero_point_taken_off(&self, block: &[i8]) -> i32 {
        let fits = |&weight: &i8| i8::try_from(i32::from(weight) - self.weight_zero_point).is_ok();
        match block.iter().all(fits) {
            true => self.weight_zero_point,
            false => 0,
        }
    }

    /// How far from 0 a sum of a channel with weights `row` can be: see [`PackedWeights::furthest_sum`].
    fn furthest_sum(&self, channel: usize, row: &[i8]) -> u32 {
        let za = i64::from(self.input_zero_point);
        let (mut low, mut high) = (i64::from(self.bias[channel]), i64::from(self.bias[channel]));
        for &weight in row {
            let weight = i64::from(weight) - i64::from(self.weight_zero_point);
            let ends = [(-128 - za) * weight, (127 - za) * weight];
            low += ends[0].min(ends[1]);
            high += ends[0].max(ends[1]);
        }
        let furthest = high.max(-low);
        match furthest as f64 * f64::from(self.scales[channel]) < 32_000.0 {
            true => u32::try_from(furthest).unwrap_or(u32::MAX),
            false => u32::MAX,
        }
    }

    /// The codes as they will be packed, block after block: to choose a kernel by.
    pub fn has_minimum(&self, nr: usize) -> bool {
        let depth = self.depth();
        self.weights.chunks((nr * depth).max(1)).any(|block| {
            let taken_off = self.zero_point_taken_off(block);
            let minimum = i32::from(i8::MIN);
            block.iter().any(|&w| i32::from(w) - taken_off == minimum)
        })
    }
}

impl PackedWeights {
    /// Packs for `tile`. The number of channels is that of the scales.
    ///
    /// # Panics
    /// If the lengths contradict each other.
    pub fn new(source: WeightsSource<'_>, tile: Tile) -> Self {
        let (channels, depth) = (source.scales.len(), source.depth());
        let padded = channels.next_multiple_of(tile.nr);
        let mut packed = Self {
            tile,
            channels,
            depth,
            block_bytes: tile.packed_depth(depth) * tile.nr,
            data: vec![0; padded * tile.packed_depth(depth)],
            steps: Vec::new(),
            steps_fit: Vec::new(),
            bias: source.bias.to_vec(),
            scales: source.scales.to_vec(),
            row_term_blocks: Vec::with_capacity(padded / tile.nr),
            furthest_sums: Vec::with_capacity(padded / tile.nr),
            has_minimum: source.has_minimum(tile.nr),
        };
        packed.bias.resize(padded, 0);
        packed.scales.resize(padded, 1.0);
        let blocks = source.weights.chunks((tile.nr * depth).max(1));
        for (block, weights) in blocks.enumerate() {
            packed.pack_block(block, weights, &source);
            let rows = weights.chunks_exact(depth.max(1)).enumerate();
            let sums = rows.map(|(n, row)| source.furthest_sum(block * tile.nr + n, row));
            packed.furthest_sums.push(sums.max().unwrap_or(0));
        }
        packed
    }

    fn pack_block(&mut self, block: usize, weights: &[i8], source: &WeightsSource<'_>) {
        let Tile { nr, kr, offset, .. } = self.tile;
        let taken_off = source.zero_point_taken_off(weights);
        let row_zero_point = source.weight_zero_point - taken_off;
        self.row_term_blocks.push(row_zero_point != 0);
        let constant = (self.depth as i32)
            .wrapping_mul(source.input_zero_point)
            .wrapping_mul(row_zero_point);
        let first = block * self.block_bytes;
        for (n, row) in weights.chunks_exact(self.depth.max(1)).enumerate() {
            let mut sum = 0;
            for (group, codes) in row.chunks(kr).enumerate() {
                let start = group * kr;
                let width = self.tile.group_width(start, self.depth);
                let at = first + start * nr + n * width;
                for (packed, &weight) in self.data[at..at + codes.len()].iter_mut().zip(codes) {
                    let weight = i32::from(weight) - taken_off;
                    *packed = weight as i8;
                    sum += weight;
                }
            }
            let bias = &mut self.bias[block * nr + n];
            *bias = bias
                .wrapping_sub((source.input_zero_point + offset).wrapping_mul(sum))
                .wrapping_add(constant);
        }
        if self.tile.is_long() {
            self.plan_steps(block);
        }
    }

    fn plan_steps(&mut self, block: usize) {
        let Tile { nr, kr, .. } = self.tile;
        let first = block * self.block_bytes;
        let mut fits = true;
        for start in (0..self.depth).step_by(kr) {
            let width = self.tile.group_width(start, self.depth);
            let group = &self.data[first + start * nr..][..nr * width];
            fits &= group.chunks_exact(2 * LANES).all(lanes_fit);
            self.steps.push(match width {
                LONG_GROUP if group.chunks_exact(width).all(lanes_fit) => Step::Four,
                LONG_GROUP => Step::Pairs,
                _ => Step::Half,
            });
        }
        self.steps.push(Step::End);
        self.steps_fit.push(fits);
    }

    /// The tile that the weights are packed for.
    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Blocks of output channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.tile.nr)
    }

    /// Output channels of some blocks: the last one may not be full.
    pub fn channels_of(&self, blocks: Range<usize>) -> usize {
        (blocks.end * self.tile.nr).min(self.channels) - blocks.start * self.tile.nr
    }

    /// Elements that each output sums over.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Packed bytes of block `block`.
    pub fn block(&self, block: usize) -> &[i8] {
        let size = self.block_bytes;
        &self.data[block * size..(block + 1) * size]
    }

    /// How to multiply block `block`; `None` if not even pairs of products fit into int16.
    ///
    /// # Panics
    /// Unless `kr` is [`LONG_GROUP`].
    pub fn steps(&self, block: usize) -> Option<&[Step]> {
        let steps = self.depth.div_ceil(LONG_GROUP) + 1;
        let steps = &self.steps[block * steps..(block + 1) * steps];
        self.steps_fit[block].then_some(steps)
    }

    /// Folded bias of block `block`, `nr` long.
    pub fn bias(&self, block: usize) -> &[i32] {
        &self.bias[block * self.tile.nr..(block + 1) * self.tile.nr]
    }

    /// Scales of block `block`, `nr` long.
    pub fn scales(&self, block: usize) -> &[f32] {
        &self.scales[block * self.tile.nr..(block + 1) * self.tile.nr]
    }

    /// Whether the sums of block `block` need the row's term.
    pub fn has_row_term(&self, block: usize) -> bool {
        self.row_term_blocks[block]
    }

    /// Whether any block's sums need the row's term.
    pub fn has_row_terms(&self) -> bool {
        self.row_term_blocks.contains(&true)
    }

    /// How far from 0 sums of block `block`, bias and row term included, can be, whatever the activations; `u32::MAX`
    /// if, times their scales, they can be 32,000 from 0 or more.
    pub fn furthest_sum(&self, block: usize) -> u32 {
        self.furthest_sums[block]
    }

    /// Whether any packed weight is -128: then two products may not be summed in int16.
    pub fn has_minimum(&self) -> bool {
        self.has_minimum
    }

    /// Bytes of memory that the packed form takes.
    pub fn bytes(&self) -> usize {
        let words = self.bias.len() + self.scales.len();
        self.data.len() + 4 * words + 5 * self.blocks() + self.steps.len()
    }
}

/// `-zw * sum a` for each row of `a`: the term of asymmetric weights that depends on the activations.
#[inline]
pub fn row_terms(a: &[i8], stride: usize, depth: usize, weight_zero_point: i32, terms: &mut [i32]) {
    for (row, term) in terms.iter_mut().enumerate() {
        let codes = &a[row * stride..row * stride + depth];
        let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
        *term = -weight_zero_point.wrapping_mul(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_and_depth_are_interleaved_and_filled_with_zeros() {
        let weights: Vec<i8> = (1..=9).collect();
        let packed = PackedWeights::new(
            WeightsSource {
                weights: &weights,
                weight_zero_point: 0,
                input_zero_point: 0,
                bias: &[10, 20, 30],
                scales: &[0.5, 0.25, 0.125],
            },
            Tile {
                mr: 1,
                nr: 2,
                kr: 2,
                offset: 0,
            },
        );
        assert_eq!(packed.block(0), [1, 2, 4, 5, 3, 0, 6, 0]);
        assert_eq!(packed.block(1), [7, 8, 0, 0, 9, 0, 0, 0]);
        assert_eq!(packed.bias(1), [30, 0]);
        assert_eq!(packed.scales(1), [0.125, 1.0]);
    }

    #[test]
    fn folding_equals_the_sum_with_zero_points() {
        let (a, za) = ([3i8, -7, 100, -128], -5i32);
        // Less 11, the first weights fit int8 and the second do not.
        for (w, has_row_term) in [([-9i8, 127, -100, 4], false), ([-9, 127, -128, 4], true)] {
            let zw = 11i32;
            let direct: i32 = a
                .iter()
                .zip(&w)
                .map(|(&a, &w)| (i32::from(a) - za) * (i32::from(w) - zw))
                .sum();
            for offset in [0, 128] {
                let tile = Tile {
                    mr: 1,
                    nr: 1,
                    kr: 1,
                    offset,
                };
                let source = WeightsSource {
                    weights: &w,
                    weight_zero_point: zw,
                    input_zero_point: za,
                    bias: &[0],
                    scales: &[1.0],
                };
                let packed = PackedWeights::new(source, tile);
                assert_eq!(packed.has_row_term(0), has_row_term);
                let mut term = [0];
                row_terms(&a, 4, 4, zw, &mut term);
                let products: i32 = a
                    .iter()
                    .zip(packed.block(0))
                    .map(|(&a, &w)| (i32::from(a) + offset) * i32::from(w))
                    .sum();
                let term = if has_row_term { term[0] } else { 0 };
                assert_eq!(products + packed.bias(0)[0] + term, direct);
                assert_eq!(packed.has_minimum(), has_row_term);
            }
        }
    }

    #[test]
    fn long_groups_know_what_fits_into_int16() {
        let tile = Tile {
            mr: 1,
            nr: 2,
            kr: LONG_GROUP,
            offset: 0,
        };
        let steps = |of: [i8; 2]| {
            let weights: Vec<i8> = of.iter().flat_map(|&weight| [weight; 40]).collect();
            let source = WeightsSource {
                weights: &weights,
                weight_zero_point: 0,
                input_zero_point: 0,
                bias: &[0; 2],
                scales: &[1.0; 2],
            };
            let packed = PackedWeights::new(source, tile);
            assert_eq!(packed.block(0).len(), 2 * (32 + 16));
            assert_eq!(packed.block(0)[32..40], [of[1]; 8]);
            assert_eq!(
                packed.block(0)[64 + 8..64 + 24],
                [[0; 8], [of[1]; 8]].concat()
            );
            packed.steps(0).map(<[Step]>::to_vec)
        };
        // Four products of 64 and -128 are -2^15; four of -64 and -128 are one more than fits.
        let four = [Step::Four, Step::Half, Step::End];
        assert_eq!(steps([64, -63]).as_deref(), Some(&four[..]));
        let pairs = [Step::Pairs, Step::Half, Step::End];
        assert_eq!(steps([-64, 1]).as_deref(), Some(&pairs[..]));
        assert_eq!(steps([127, -127]).as_deref(), Some(&pairs[..]));
        assert_eq!(steps([1, -128]), None);
    }
}
