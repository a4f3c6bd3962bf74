//! Weights in the order in which a GEMM kernel reads them.
//!
//! Zero points are folded here, once. With activations `a` (zero point `za`) and weights `w` (zero point `zw`) over a
//! depth of `K`:
//!
//! ```text
//! sum (a - za)(w - zw) = sum a w  -  zw sum a  -  za sum w  +  K za zw
//! ```
//!
//! The last two terms do not depend on the activations and join the bias. The second is 0 for symmetric weights, else
//! the caller passes it row by row ([`row_terms`]). Kernels see neither zero point.

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
}

/// Weights, bias and scales of one matrix product, packed for one [`Tile`].
#[derive(Clone, Debug)]
pub struct PackedWeights {
    tile: Tile,
    channels: usize,
    depth: usize,
    /// `[channels / nr][depth / kr][nr][kr]`, both divisions rounded up, filled up with 0.
    data: Vec<i8>,
    /// Folded bias, filled up with 0 to whole blocks.
    bias: Vec<i32>,
    /// Requantization scales, filled up with 1 to whole blocks.
    scales: Vec<f32>,
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

impl PackedWeights {
    /// Packs for `tile`. The number of channels is that of the scales.
    ///
    /// # Panics
    /// If the lengths contradict each other.
    pub fn new(source: WeightsSource<'_>, tile: Tile) -> Self {
        let channels = source.scales.len();
        assert!(channels > 0, "a product has at least one output channel");
        assert_eq!(source.bias.len(), channels);
        let depth = source.weights.len() / channels;
        assert_eq!(source.weights.len(), channels * depth);
        let padded = channels.next_multiple_of(tile.nr);
        let groups = depth.div_ceil(tile.kr);
        let mut data = vec![0; padded * groups * tile.kr];
        for (channel, row) in source.weights.chunks_exact(depth.max(1)).enumerate() {
            let block = channel / tile.nr * groups * tile.nr * tile.kr;
            for (group, codes) in row.chunks(tile.kr).enumerate() {
                let at = block + (group * tile.nr + channel % tile.nr) * tile.kr;
                data[at..at + codes.len()].copy_from_slice(codes);
            }
        }
        let mut bias = folded_bias(&source, depth);
        bias.resize(padded, 0);
        let mut scales = source.scales.to_vec();
        scales.resize(padded, 1.0);
        Self {
            tile,
            channels,
            depth,
            data,
            bias,
            scales,
            has_minimum: source.weights.contains(&i8::MIN),
        }
    }

    /// The tile that the weights are packed for.
    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Elements that each output sums over.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Packed bytes of block `block`.
    pub fn block(&self, block: usize) -> &[i8] {
        let size = self.depth.div_ceil(self.tile.kr) * self.tile.nr * self.tile.kr;
        &self.data[block * size..(block + 1) * size]
    }

    /// Folded bias of block `block`, `nr` long.
    pub fn bias(&self, block: usize) -> &[i32] {
        &self.bias[block * self.tile.nr..(block + 1) * self.tile.nr]
    }

    /// Scales of block `block`, `nr` long.
    pub fn scales(&self, block: usize) -> &[f32] {
        &self.scales[block * self.tile.nr..(block + 1) * self.tile.nr]
    }

    /// Whether any weight is -128: then two products may not be summed in int16.
    pub fn has_minimum(&self) -> bool {
        self.has_minimum
    }

    /// Bytes of memory that the packed form takes.
    pub fn bytes(&self) -> usize {
        self.data.len() + 4 * (self.bias.len() + self.scales.len())
    }
}

fn folded_bias(source: &WeightsSource<'_>, depth: usize) -> Vec<i32> {
    let constant = (depth as i32)
        .wrapping_mul(source.input_zero_point)
        .wrapping_mul(source.weight_zero_point);
    source
        .weights
        .chunks_exact(depth.max(1))
        .zip(source.bias)
        .map(|(row, &bias)| {
            let sum: i32 = row.iter().map(|&w| i32::from(w)).sum();
            bias.wrapping_sub(source.input_zero_point.wrapping_mul(sum))
                .wrapping_add(constant)
        })
        .collect()
}

/// `-zw * sum a` for each row of `a`: the term of asymmetric weights that depends on the activations.
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
        let (w, zw) = ([-9i8, 127, -128, 4], 11i32);
        let direct: i32 = a
            .iter()
            .zip(&w)
            .map(|(&a, &w)| (i32::from(a) - za) * (i32::from(w) - zw))
            .sum();
        let packed = PackedWeights::new(
            WeightsSource {
                weights: &w,
                weight_zero_point: zw,
                input_zero_point: za,
                bias: &[0],
                scales: &[1.0],
            },
            Tile {
                mr: 1,
                nr: 1,
                kr: 1,
            },
        );
        let mut term = [0];
        row_terms(&a, 4, 4, zw, &mut term);
        let products: i32 = a
            .iter()
            .zip(&w)
            .map(|(&a, &w)| i32::from(a) * i32::from(w))
            .sum();
        assert_eq!(products + packed.bias(0)[0] + term[0], direct);
        assert!(packed.has_minimum());
    }
}
