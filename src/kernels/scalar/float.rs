//! Operators on real values: plain loops that the compiler vectorizes, in a fixed order of operations, so that every
//! instruction set and every number of threads gives the same bits.

use super::Pool;

/// Bounds of a fused activation: `low <= high`, infinite where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub low: f32,
    pub high: f32,
}

impl Bounds {
    /// Clamps. NaN becomes `low`.
    #[inline(always)]
    pub(super) fn clamp(self, x: f32) -> f32 {
        x.max(self.low).min(self.high)
    }
}

/// Output channels that are summed side by side.
const LANES: usize = 16;

/// Weights of a wholly real matrix product.
#[derive(Clone, Debug)]
pub struct FloatWeights {
    /// `[channels / 16][depth][16]`, the division rounded up, filled up with 0.
    blocks: Vec<f32>,
    channels: usize,
    depth: usize,
}

impl FloatWeights {
    /// Packs `[channels][depth]`, neither of them 0.
    pub fn new(weights: &[f32], channels: usize) -> Self {
        let depth = weights.len() / channels;
        let mut blocks = vec![0.0; channels.next_multiple_of(LANES) * depth];
        for (channel, row) in weights.chunks_exact(depth).enumerate() {
            let block = channel / LANES * LANES * depth;
            for (at, &weight) in row.iter().enumerate() {
                blocks[block + at * LANES + channel % LANES] = weight;
            }
        }
        Self {
            blocks,
            channels,
            depth,
        }
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Elements that each output sums over.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        4 * self.blocks.len()
    }
}

/// `out[m][n] = clamp(bias[n] + sum_k a[m][k] * w[n][k])`, from the bias on in the order of `k`, each product and sum
/// in one rounding.
pub struct MatrixProduct<'a> {
    /// `[rows][depth]`
    pub a: &'a [f32],
    pub weights: &'a FloatWeights,
    /// One for each channel.
    pub bias: &'a [f32],
    pub bounds: Bounds,
}

/// The rule of [`MatrixProduct`]. `out` is `[rows][channels]`.
#[inline(always)]
pub fn product_rule(product: &MatrixProduct<'_>, out: &mut [f32]) {
    let weights = product.weights;
    let (depth, channels) = (weights.depth, weights.channels);
    let blocks = weights.blocks.as_chunks::<LANES>().0;
    for (block, w) in blocks.chunks_exact(depth).enumerate() {
        let first = block * LANES;
        let lanes = LANES.min(channels - first);
        let mut bias = [0.0; LANES];
        bias[..lanes].copy_from_slice(&product.bias[first..first + lanes]);
        let rows = product.a.chunks_exact(depth);
        for (a, out) in rows.zip(out.chunks_exact_mut(channels)) {
            let mut acc = bias;
            for (&a, w) in a.iter().zip(w) {
                for lane in 0..LANES {
                    acc[lane] = a.mul_add(w[lane], acc[lane]);
                }
            }
            for (out, &acc) in out[first..first + lanes].iter_mut().zip(&acc) {
                *out = product.bounds.clamp(acc);
            }
        }
    }
}

/// One row of a depthwise convolution. On real values `out[x][c] = clamp(bias[c] + sum)`, from the bias on column
/// by column of the taps, each product and sum in one rounding. On the integers that real values were quantized to
/// `out[x][c] = clamp(sum * scales[c] * input_scale + bias[c])`; their sums are exact while they stay below 2^24.
pub struct FloatDepthwise<'a> {
    /// One padded input row for each kernel row, each `[pixels][channels]`.
    pub rows: &'a [&'a [f32]],
    /// `[kernel rows][kernel columns][channels]`
    pub taps: &'a [f32],
    pub columns: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Of integers: what those of the taps count by, for each channel, and those of the input.
    pub scales: Option<(&'a [f32], f32)>,
    pub bias: &'a [f32],
    pub bounds: Bounds,
}

/// The rule of [`FloatDepthwise`]. `out` is `[pixels][channels]`.
#[inline(always)]
pub fn depthwise_rule(row: &FloatDepthwise<'_>, out: &mut [f32]) {
    let channels = row.bias.len();
    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
        for (lane, out) in out.chunks_mut(LANES).enumerate() {
            let first = lane * LANES;
            match <&mut [f32; LANES]>::try_from(&mut *out) {
                Ok(out) => depthwise_lanes(row, x, first, out),
                Err(_) => out.iter_mut().enumerate().for_each(|(at, out)| {
                    let mut one = [0.0];
                    depthwise_lanes(row, x, first + at, &mut one);
                    *out = one[0];
                }),
            }
        }
    }
}

#[inline(always)]
fn depthwise_lanes<const N: usize>(
    row: &FloatDepthwise<'_>,
    x: usize,
    first: usize,
    out: &mut [f32; N],
) {
    let channels = row.bias.len();
    let bias: &[f32; N] = row.bias[first..]
        .first_chunk()
        .expect("N channels are left");
    let mut acc = match row.scales {
        None => *bias,
        Some(_) => [0.0; N],
    };
    for j in 0..row.columns {
        for (i, input) in row.rows.iter().enumerate() {
            let input = &input[(x * row.stride + j * row.dilation) * channels + first..][..N];
            let taps = &row.taps[(i * row.columns + j) * channels + first..][..N];
            for ((acc, &x), &tap) in acc.iter_mut().zip(input).zip(taps) {
                *acc = x.mul_add(tap, *acc);
            }
        }
    }
    if let Some((scales, input_scale)) = row.scales {
        for ((acc, &scale), &bias) in acc.iter_mut().zip(&scales[first..][..N]).zip(bias) {
            *acc = *acc * scale * input_scale + bias;
        }
    }
    for (out, &acc) in out.iter_mut().zip(&acc) {
        *out = row.bounds.clamp(acc);
    }
}

/// An operator on two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    /// `a - b`
    Sub,
    /// `b - a`
    SubFrom,
    Mul,
}

/// `out = clamp(op(a, b))`, `b` repeating along `a`.
pub fn binary(op: BinaryOp, bounds: Bounds, a: &[f32], b: &[f32], out: &mut [f32]) {
    match op {
        BinaryOp::Add => each_pair(a, b, out, |a, b| bounds.clamp(a + b)),
        BinaryOp::Sub => each_pair(a, b, out, |a, b| bounds.clamp(a - b)),
        BinaryOp::SubFrom => each_pair(a, b, out, |a, b| bounds.clamp(b - a)),
        BinaryOp::Mul => each_pair(a, b, out, |a, b| bounds.clamp(a * b)),
    }
}

fn each_pair(a: &[f32], b: &[f32], out: &mut [f32], rule: impl Fn(f32, f32) -> f32) {
    if let &[b] = b {
        for (out, &a) in out.iter_mut().zip(a) {
            *out = rule(a, b);
        }
        return;
    }
    for (a, out) in a.chunks(b.len()).zip(out.chunks_mut(b.len())) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = rule(a, b);
        }
    }
}

/// `out = clamp(x)`.
pub fn clamp(bounds: Bounds, input: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(input) {
        *out = bounds.clamp(x);
    }
}

/// `exp(x)` for `x <= 0`, within two units in the last place; 0 below -87. Powers of two times the Taylor series over
/// `|r| <= ln 2 / 2` (Cody and Waite, Software Manual for the Elementary Functions, 1980).
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    /// Adding it rounds to an integer, which then lies in the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let bounded = x.max(-87.0);
    let shifted = bounded * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (bounded - n * LN_2_HIGH) - n * LN_2_LOW;
    let high = 1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0));
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * high)));
    let exponent = shifted.to_bits().wrapping_sub(MAGIC.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { series * power }
}

/// `1 / (1 + exp(-x))`
pub fn logistic(input: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(input) {
        let e = exp_of_negative(-x.abs());
        let numerator = if x < 0.0 { e } else { 1.0 };
        *out = numerator / (1.0 + e);
    }
}

/// `x * relu6(x + 3) / 6`
pub fn hard_swish(input: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(input) {
        *out = x * ((x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0));
    }
}

/// `exp(beta * x)` normalized over each row of `depth` elements. `beta` is above 0.
pub fn softmax(beta: f32, depth: usize, input: &[f32], out: &mut [f32]) {
    let rows = input.chunks_exact(depth).zip(out.chunks_exact_mut(depth));
    for (input, out) in rows {
        let largest = input.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (out, &x) in out.iter_mut().zip(input) {
            *out = exp_of_negative((x - largest) * beta);
        }
        let inverse = 1.0 / out.iter().sum::<f32>();
        out.iter_mut().for_each(|out| *out *= inverse);
    }
}

/// The largest element of each window, clamped.
pub fn max_pool(pool: &Pool, bounds: Bounds, input: &[f32], out: &mut [f32]) {
    for (at, out) in out.chunks_exact_mut(pool.channels).enumerate() {
        out.fill(f32::NEG_INFINITY);
        for pixel in pool.pixels(at) {
            let elements = &input[pixel * pool.channels..][..pool.channels];
            for (out, &x) in out.iter_mut().zip(elements) {
                *out = out.max(x);
            }
        }
        out.iter_mut().for_each(|out| *out = bounds.clamp(*out));
    }
}

/// The mean of each window over the pixels inside the picture, clamped.
pub fn average_pool(pool: &Pool, bounds: Bounds, input: &[f32], out: &mut [f32]) {
    for (at, out) in out.chunks_exact_mut(pool.channels).enumerate() {
        out.fill(0.0);
        let mut count = 0;
        for pixel in pool.pixels(at) {
            add_row(out, &input[pixel * pool.channels..][..pool.channels]);
            count += 1;
        }
        let inverse = 1.0 / count.max(1) as f32;
        for out in out {
            *out = bounds.clamp(*out * inverse);
        }
    }
}

fn add_row(sums: &mut [f32], row: &[f32]) {
    for (sum, &x) in sums.iter_mut().zip(row) {
        *sum += x;
    }
}

/// The mean over all rows of each `[rows][channels]`.
pub fn mean(rows: usize, channels: usize, input: &[f32], out: &mut [f32]) {
    let inputs = input.chunks_exact(rows * channels);
    for (input, out) in inputs.zip(out.chunks_exact_mut(channels)) {
        out.fill(0.0);
        for row in input.chunks_exact(channels) {
            add_row(out, row);
        }
        let inverse = 1.0 / rows as f32;
        out.iter_mut().for_each(|out| *out *= inverse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Bounds = Bounds {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };

    #[test]
    fn a_product_by_hand() {
        let channels = 17;
        let weights: Vec<f32> = (0..2 * channels).map(|at| at as f32).collect();
        let packed = FloatWeights::new(&weights, channels);
        let bias: Vec<f32> = (0..channels).map(|c| -(c as f32)).collect();
        let mut out = vec![0.0; 2 * channels];
        let bounds = Bounds {
            low: 0.0,
            high: 40.0,
        };
        let product = MatrixProduct {
            a: &[1.0, 1.0, -1.0, 2.0],
            weights: &packed,
            bias: &bias,
            bounds,
        };
        product_rule(&product, &mut out);
        for c in 0..channels {
            let (even, odd) = (2.0 * c as f32, 2.0 * c as f32 + 1.0);
            assert_eq!(out[c], (even + odd - c as f32).min(40.0));
            assert_eq!(out[channels + c], 2.0 * odd - even - c as f32);
        }
    }

    #[test]
    fn a_depthwise_row_by_hand() {
        let channels = 18;
        let row = |first: f32| -> Vec<f32> {
            (0..3 * channels)
                .map(|at| first + (at / channels) as f32)
                .collect()
        };
        let (top, bottom) = (row(1.0), row(10.0));
        let taps: Vec<f32> = (0..4 * channels).map(|at| (at % channels) as f32).collect();
        let mut out = vec![0.0; channels];
        let row = FloatDepthwise {
            rows: &[&top, &bottom],
            taps: &taps,
            columns: 2,
            stride: 1,
            dilation: 2,
            scales: Some((&[2.0; 18], 0.5)),
            bias: &[1.0; 18],
            bounds: FREE,
        };
        depthwise_rule(&row, &mut out);
        for (c, &out) in out.iter().enumerate() {
            assert_eq!(out, (1.0 + 3.0 + 10.0 + 12.0) * c as f32 + 1.0);
        }
        let real = FloatDepthwise {
            scales: None,
            ..row
        };
        depthwise_rule(&real, &mut out);
        assert_eq!(out[17], (1.0 + 3.0 + 10.0 + 12.0) * 17.0 + 1.0);
    }

    #[test]
    fn operands_repeat_and_keep_their_side() {
        let a = [1.0, 2.0, 3.0, 4.0];
        let mut out = [0.0; 4];
        binary(BinaryOp::Sub, FREE, &a, &[1.0, 10.0], &mut out);
        assert_eq!(out, [0.0, -8.0, 2.0, -6.0]);
        binary(BinaryOp::SubFrom, FREE, &a, &[1.0], &mut out);
        assert_eq!(out, [0.0, -1.0, -2.0, -3.0]);
        binary(BinaryOp::Mul, FREE, &a, &a, &mut out);
        assert_eq!(out, [1.0, 4.0, 9.0, 16.0]);
        let bounds = Bounds {
            low: 0.0,
            high: 6.0,
        };
        binary(BinaryOp::Add, bounds, &a, &[-2.0, 3.5], &mut out);
        assert_eq!(out, [0.0, 5.5, 1.0, 6.0]);
    }

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for at in 0..20_000 {
            let x = at as f32 * -0.005;
            let (got, expected) = (exp_of_negative(x), f64::from(x).exp());
            let error = (f64::from(got) - expected).abs();
            assert!(
                error <= expected * 3e-7 || x < -86.9,
                "{x}: {got} {expected}"
            );
        }
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), 0.0);
        let x = [0.0, 100.0, -100.0, 1.0, -1.0];
        let mut out = [0.0; 5];
        logistic(&x, &mut out);
        assert_eq!(out[..3], [0.5, 1.0, 0.0]);
        assert!((out[3] - 0.731_058_6).abs() < 1e-7 && (out[3] + out[4] - 1.0).abs() < 1e-7);
    }

    #[test]
    fn rows_are_normalized_on_their_own() {
        let mut out = [0.0; 4];
        softmax(1.0, 2, &[1000.0, 1000.0, 0.0, -200.0], &mut out);
        assert_eq!(out, [0.5, 0.5, 1.0, 0.0]);
    }

    #[test]
    fn pools_see_only_the_picture() {
        let pool = Pool {
            input: [2, 2],
            channels: 1,
            window: [2, 2],
            stride: [1, 1],
            padding: [1, 1],
            out_width: 2,
        };
        let input = [1.0, 2.0, 3.0, 6.0];
        let mut out = [0.0; 4];
        average_pool(&pool, FREE, &input, &mut out);
        assert_eq!(out, [1.0, 1.5, 2.0, 3.0]);
        max_pool(&pool, FREE, &input, &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 6.0]);
        let mut out = [0.0; 2];
        mean(2, 2, &input, &mut out);
        assert_eq!(out, [2.0, 4.0]);
        hard_swish(&[-4.0, 3.0], &mut out);
        assert_eq!(out, [0.0, 3.0]);
    }
}
