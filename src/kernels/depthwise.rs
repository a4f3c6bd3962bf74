//! The contract of a depthwise convolution, and the table entry of a kernel that makes one.

use super::requant::OutputStage;

/// Some channels of one row of a depthwise convolution's result, channel multiplier 1:
///
/// `out[x][c] = stage(bias[c] + sum_ij rows[i][x * stride + j * dilation - padding][c] * w[i][j][c])`, sums in wrapping
/// int32. Pixels outside the rows hold `fill`.
pub struct Depthwise<'a> {
    /// One input row for each kernel row: pixels `input_stride` elements apart, element 0 being channel
    /// `first_channel` of pixel 0. A row outside the picture is a row of `fill`.
    pub rows: &'a [&'a [i8]],
    pub input_stride: usize,
    /// Pixels of an input row.
    pub width: usize,
    /// Columns of `fill` to the left of the rows; to the right there are as many as are read.
    pub padding: usize,
    pub fill: i8,
    pub weights: &'a DepthwiseWeights,
    /// The channels to make.
    pub first_channel: usize,
    pub channels: usize,
    pub stride: usize,
    pub dilation: usize,
    pub stage: OutputStage,
    /// Pixels `out_stride` elements apart, element 0 being channel `first_channel` of pixel 0.
    pub out: &'a mut [i8],
    pub out_stride: usize,
    /// Pixels to make.
    pub pixels: usize,
}

/// Weights of a depthwise convolution with both zero points folded.
#[derive(Clone, Debug)]
pub struct DepthwiseWeights {
    pub kernel: [usize; 2],
    pub channels: usize,
    /// `[kernel rows][kernel columns][channels]`, less their zero point: `-255..=255`.
    pub taps: Vec<i16>,
    /// `bias - za * sum taps`.
    pub bias: Vec<i32>,
    pub scales: Vec<f32>,
    /// What the kernel made of the taps for itself: [`DepthwiseKernel::pack`].
    pub packed: PackedTaps,
}

/// Taps in the order in which one kernel reads them. Empty until packed, and for kernels that read the taps as they
/// are. No architecture's kernels read all of it.
#[allow(dead_code)]
#[derive(Clone, Debug, Default)]
pub struct PackedTaps {
    pub(super) data: Vec<i8>,
    /// Bias of the packed form.
    pub(super) bias: Vec<i32>,
    /// Scales of the packed form.
    pub(super) scales: Vec<f32>,
    /// For each block of the kernel's channels, how to sum its products: a number that the kernel gives its meaning.
    pub(super) plans: Vec<u8>,
}

impl DepthwiseWeights {
    /// Bytes of memory that they take.
    pub fn bytes(&self) -> usize {
        let floats = self.packed.bias.len() + self.packed.scales.len();
        let packed = self.packed.data.len() + 4 * floats;
        2 * self.taps.len() + 4 * (self.bias.len() + self.scales.len()) + packed
    }
}

impl Depthwise<'_> {
    fn assert_lengths(&self) {
        let weights = self.weights;
        let taps = weights.kernel[0] * weights.kernel[1];
        assert!(self.channels > 0 && self.stride > 0 && self.dilation > 0);
        assert!(self.pixels > 0 && self.width > 0);
        assert!(self.first_channel + self.channels <= weights.channels);
        assert!(self.input_stride >= self.channels && self.out_stride >= self.channels);
        assert_eq!(self.rows.len(), weights.kernel[0]);
        let input = (self.width - 1) * self.input_stride + self.channels;
        assert!(self.rows.iter().all(|row| row.len() >= input));
        assert!(self.out.len() >= (self.pixels - 1) * self.out_stride + self.channels);
        assert_eq!(weights.taps.len(), taps * weights.channels);
        assert!(weights.bias.len() == weights.channels && weights.scales.len() == weights.channels);
    }
}

/// A depthwise variant with the packing it reads.
#[derive(Clone, Copy)]
pub struct DepthwiseKernel {
    pub name: &'static str,
    /// Channels of a block: a part of the channels that one call makes begins at a multiple of it, and ends at one or
    /// at the last channel.
    pub block: usize,
    pub(super) pack: fn(&DepthwiseWeights) -> PackedTaps,
    pub(super) run: fn(Depthwise<'_>),
}

impl DepthwiseKernel {
    /// Brings the taps into the kernel's own order.
    pub fn pack(&self, weights: &mut DepthwiseWeights) {
        weights.packed = (self.pack)(weights);
    }

    /// Runs one row. The weights must have been packed by this kernel.
    ///
    /// # Panics
    /// If a length contradicts the contract of [`Depthwise`].
    pub fn run(&self, row: Depthwise<'_>) {
        row.assert_lengths();
        assert_eq!(row.first_channel % self.block, 0);
        let end = row.first_channel + row.channels;
        assert!(end == row.weights.channels || end.is_multiple_of(self.block));
        (self.run)(row);
    }
}
