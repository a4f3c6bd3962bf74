//! Bilinear resizing with antialiasing, to the bit as Pillow's `Image.resize(size, Image.BILINEAR)` does it on 8-bit
//! pictures (src/libImaging/Resample.c): a triangle filter whose support grows with the reduction, coefficients of
//! [`PRECISION_BITS`], each pass rounded to 8 bits. The horizontal pass always comes first, as in Pillow 11; Pillow 13
//! takes the vertical one first where that is cheaper, which moves single values by 1.

use super::simd::{self, RowLoops};

/// Fractional bits of a coefficient: 32 less 8 of the pixel and 2 of headroom.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Which elements of the source make each element of the target, and with which weights.
#[derive(Clone, Debug)]
pub struct Taps {
    /// For each target element, the first source element that counts.
    firsts: Vec<usize>,
    /// For each target element, the weights of `longest` source elements.
    weights: Vec<i32>,
    longest: usize,
}

impl Taps {
    /// The triangle filter from `source` to `target` elements, both at least 1.
    pub fn new(source: usize, target: usize) -> Self {
        let windows: Vec<_> = (0..target).map(|at| window(source, target, at)).collect();
        let longest = windows.iter().map(|(_, w)| w.len()).max().unwrap_or(1);
        let mut taps = Self {
            firsts: Vec::with_capacity(target),
            weights: Vec::with_capacity(target * longest),
            longest,
        };
        for (first, weights) in windows {
            // At the end of the source, a short window begins earlier, with weights of 0.
            let begin = first.min(source - longest);
            let zeros = |count| std::iter::repeat_n(0, count);
            taps.firsts.push(begin);
            taps.weights.extend(zeros(first - begin));
            taps.weights.extend(&weights);
            taps.weights
                .extend(zeros(begin + longest - first - weights.len()));
        }
        taps
    }

    /// Number of target elements.
    fn len(&self) -> usize {
        self.firsts.len()
    }

    /// First source element and weights of a target element, without the zeros at both ends; never empty.
    fn window(&self, position: usize) -> (usize, &[i32]) {
        let (first, weights) = self.at(position);
        let counts = |&weight: &i32| weight != 0;
        let begin = weights.iter().position(counts).unwrap_or(0);
        let end = weights.iter().rposition(counts).unwrap_or(0);
        (first + begin, &weights[begin..=end])
    }

    /// First source element of a target element, and as many weights as every one has.
    fn at(&self, position: usize) -> (usize, &[i32]) {
        let weights = &self.weights[position * self.longest..][..self.longest];
        (self.firsts[position], weights)
    }
}

/// The first source element that counts for a target element, and its weight and those of its followers; never empty.
fn window(source: usize, target: usize, position: usize) -> (usize, Vec<i32>) {
    let scale = source as f64 / target as f64;
    let filter_scale = scale.max(1.0);
    let center = (position as f64 + 0.5) * scale;
    let first = (center - filter_scale + 0.5).max(0.0) as usize;
    let end = ((center + filter_scale + 0.5) as usize).min(source);
    let triangle = |x: usize| {
        let distance = ((x as f64 - center + 0.5) * (1.0 / filter_scale)).abs();
        (1.0 - distance).max(0.0)
    };
    let sum: f64 = (first..end).map(triangle).sum();
    let fixed = |weight: f64| (0.5 + weight / sum * f64::from(1u32 << PRECISION_BITS)) as i32;
    let mut weights: Vec<_> = (first..end).map(|x| fixed(triangle(x))).collect();
    let skipped = weights.iter().take_while(|&&weight| weight == 0).count();
    weights.drain(..skipped);
    while weights.len() > 1 && weights.last() == Some(&0) {
        weights.pop();
    }
    (first + skipped, weights)
}

/// Rows of the source that the horizontal pass takes at a time, so that a column of them fills a vector.
pub const BAND_ROWS: usize = 8;

/// Pixels of [`BAND_ROWS`] rows, column after column.
pub type Band = [[u32; BAND_ROWS]];

/// Some rows of a ring, one behind the other, the first one again behind the last.
#[derive(Clone, Copy, Debug)]
pub struct RingRows<'a> {
    ring: &'a [u8],
    /// From one row to the next.
    stride: usize,
    /// Offset of the first of these rows.
    first: usize,
}

impl<'a> RingRows<'a> {
    /// A row by its distance from the first one, which is below the ring's capacity.
    #[inline(always)]
    fn row(&self, index: usize) -> &'a [u8] {
        let at = self.first + index * self.stride;
        let at = at.checked_sub(self.ring.len()).unwrap_or(at);
        &self.ring[at..][..self.stride]
    }
}

/// Resizes pictures of one size to another. Holds tables and scratch, so that resizing allocates nothing.
#[derive(Clone, Debug)]
pub struct Resizer {
    source_height: usize,
    columns: Taps,
    rows: Taps,
    channels: usize,
    /// Rows of the source, pixels of four bytes.
    pixels: Vec<u32>,
    /// The same, as the horizontal pass takes them.
    band: Vec<[u32; BAND_ROWS]>,
    /// Rows of the source at the target's width: row `y` at `y % capacity`.
    ring: Vec<u8>,
    /// From one row of the ring to the next: the last pixel is written as four bytes.
    stride: usize,
    capacity: usize,
}

impl Resizer {
    /// From `source` to `target`, both `[width, height]` of at least 1, with 1 or 3 channels.
    pub fn new(source: [usize; 2], target: [usize; 2], channels: usize) -> Self {
        assert!(channels == 1 || channels == 3, "1 or 3 channels");
        let rows = Taps::new(source[1], target[1]);
        // Whole bands: the window of a row may begin at a band's last row and end at another's first.
        let capacity = (rows.longest + BAND_ROWS - 1).next_multiple_of(BAND_ROWS);
        let stride = target[0] * channels + size_of::<u32>() - channels;
        Self {
            source_height: source[1],
            columns: Taps::new(source[0], target[0]),
            rows,
            channels,
            pixels: vec![0; BAND_ROWS * source[0]],
            band: vec![[0; BAND_ROWS]; source[0]],
            ring: vec![0; capacity * stride],
            stride,
            capacity,
        }
    }

    /// Reads each row of the source that counts once, in order, through `read`, which is given the row's number and
    /// writes its pixels, channels first. Passes the rows that make each row of the target to `write`, with its number
    /// and their weights: what [`blend_rows`] takes.
    pub fn run(
        &mut self,
        loops: &RowLoops,
        mut read: impl FnMut(usize, &mut [[u8; 4]]),
        mut write: impl FnMut(usize, RingRows<'_>, &[i32]),
    ) {
        let width = self.band.len();
        let mut next = 0;
        for y in 0..self.rows.len() {
            let (first, weights) = self.rows.window(y);
            next = next.max(first / BAND_ROWS * BAND_ROWS);
            while next < first + weights.len() {
                let count = BAND_ROWS.min(self.source_height - next);
                let rows = self.pixels.chunks_exact_mut(width).take(count);
                for (row, pixels) in rows.enumerate() {
                    read(next + row, bytemuck::cast_slice_mut(pixels));
                }
                (loops.interleave)(&self.pixels, &mut self.band);
                let shrunk = &mut self.ring[next % self.capacity * self.stride..];
                let shrunk = &mut shrunk[..BAND_ROWS * self.stride];
                (loops.shrink_band)(&self.columns, &self.band, self.channels, shrunk);
                next += BAND_ROWS;
            }
            let rows = RingRows {
                ring: &self.ring,
                stride: self.stride,
                first: first % self.capacity * self.stride,
            };
            write(y, rows, weights);
        }
    }
}

/// Brings [`BAND_ROWS`] rows of pixels, one behind the other, into the order of a band.
#[inline(always)]
pub fn interleave(rows: &[u32], band: &mut Band) {
    let width = band.len();
    let row = |index: usize| &rows[index * width..][..width];
    let wide = width / 4 * 4;
    for part in 0..BAND_ROWS / 4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|index| row(4 * part + index));
        let squares = a.as_chunks::<4>().0.iter().zip(b.as_chunks::<4>().0);
        let squares = squares.zip(c.as_chunks::<4>().0).zip(d.as_chunks::<4>().0);
        for (columns, (((a, b), c), d)) in band.as_chunks_mut::<4>().0.iter_mut().zip(squares) {
            columns[0].as_chunks_mut::<4>().0[part] = [a[0], b[0], c[0], d[0]];
            columns[1].as_chunks_mut::<4>().0[part] = [a[1], b[1], c[1], d[1]];
            columns[2].as_chunks_mut::<4>().0[part] = [a[2], b[2], c[2], d[2]];
            columns[3].as_chunks_mut::<4>().0[part] = [a[3], b[3], c[3], d[3]];
        }
        for x in wide..width {
            band[x].as_chunks_mut::<4>().0[part] = [a[x], b[x], c[x], d[x]];
        }
    }
}

/// Calls the first function with the count as a constant if it is one of the list, else the second.
macro_rules! by_count {
    ($count:expr, [$($known:literal)*], $fixed:ident, $any:ident, $arguments:tt) => {
        match $count {
            $($known => $fixed::<$known> $arguments,)*
            _ => $any $arguments,
        }
    };
}

/// Bytes of a column of a band.
const LANES: usize = size_of::<u32>() * BAND_ROWS;

/// The horizontal pass of a band. Writes `channels` bytes of each pixel to [`BAND_ROWS`] rows, which lie one behind
/// the other; what follows the last pixel of a row is written too.
#[inline(always)]
pub fn shrink_band(columns: &Taps, band: &Band, channels: usize, rows: &mut [u8]) {
    let band = bytemuck::cast_slice(band);
    by_count!(
        columns.longest,
        [1 2 3 4 5 6 7 8 9 10 11 12 13],
        shrink,
        shrink_far,
        (columns, band, channels, rows)
    );
}

/// With `N` weights for each column of the target.
#[inline(always)]
fn shrink<const N: usize>(columns: &Taps, band: &[[u8; LANES]], channels: usize, rows: &mut [u8]) {
    let stride = rows.len() / BAND_ROWS;
    let windows = columns
        .firsts
        .iter()
        .zip(columns.weights.as_chunks::<N>().0);
    for (x, (&first, weights)) in windows.enumerate() {
        let window = &band[first..].as_chunks::<N>().0[0];
        let mut bytes = [0; LANES];
        for (lane, byte) in bytes.iter_mut().enumerate() {
            let mut sum = HALF;
            for (values, &weight) in window.iter().zip(weights) {
                sum += i32::from(values[lane]) * weight;
            }
            *byte = to_byte(sum);
        }
        simd::store_pixels(rows, stride, x * channels, &bytes);
    }
}

/// With any number of weights.
#[inline(always)]
fn shrink_far(columns: &Taps, band: &[[u8; LANES]], channels: usize, rows: &mut [u8]) {
    let stride = rows.len() / BAND_ROWS;
    for x in 0..columns.len() {
        let (first, weights) = columns.at(x);
        let mut sums = [HALF; LANES];
        add_products(&mut sums, weights, |index| &band[first + index]);
        let mut bytes = [0; LANES];
        for (byte, &sum) in bytes.iter_mut().zip(&sums) {
            *byte = to_byte_clamped(sum);
        }
        simd::store_pixels(rows, stride, x * channels, &bytes);
    }
}

/// The vertical pass of one target row. `flip` is XORed to the result.
#[inline(always)]
pub fn blend_rows(rows: RingRows<'_>, weights: &[i32], flip: u8, out: &mut [u8]) {
    by_count!(
        weights.len(),
        [1 2 3 4 5 6 7 8],
        blend,
        blend_far,
        (weights, rows, flip, out)
    );
}

/// With `N` weights.
#[inline(always)]
fn blend<const N: usize>(weights: &[i32], rows: RingRows<'_>, flip: u8, out: &mut [u8]) {
    let weights = &weights.as_chunks::<N>().0[0];
    let mut sources = [&[][..]; N];
    for (index, source) in sources.iter_mut().enumerate() {
        *source = &rows.row(index)[..out.len()];
    }
    for (x, out) in out.iter_mut().enumerate() {
        let mut sum = HALF;
        for (source, &weight) in sources.iter().zip(weights) {
            sum += i32::from(source[x]) * weight;
        }
        *out = to_byte(sum) ^ flip;
    }
}

/// With any number of weights.
#[inline(always)]
fn blend_far(weights: &[i32], rows: RingRows<'_>, flip: u8, out: &mut [u8]) {
    const BLOCK: usize = 64;
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let mut sums = [HALF; BLOCK];
        let sums = &mut sums[..out.len()];
        add_products(sums, weights, |index| &rows.row(index)[block * BLOCK..]);
        for (out, &sum) in out.iter_mut().zip(&*sums) {
            *out = to_byte_clamped(sum) ^ flip;
        }
    }
}

/// Adds what `source` has for each weight, times the weight.
#[inline(always)]
fn add_products<'a>(sums: &mut [i32], weights: &[i32], source: impl Fn(usize) -> &'a [u8]) {
    let (fours, rest) = weights.as_chunks::<4>();
    for (group, &[a, b, c, d]) in fours.iter().enumerate() {
        let source = |index: usize| &source(4 * group + index)[..sums.len()];
        let (p, q, r, s) = (source(0), source(1), source(2), source(3));
        for (x, sum) in sums.iter_mut().enumerate() {
            let [p, q, r, s] = [p[x], q[x], r[x], s[x]].map(i32::from);
            *sum += p * a + q * b + r * c + s * d;
        }
    }
    for (index, &weight) in rest.iter().enumerate() {
        for (sum, &value) in sums.iter_mut().zip(source(4 * fours.len() + index)) {
            *sum += i32::from(value) * weight;
        }
    }
}

/// Weights are positive and add up to one, but for half a unit of rounding each: with few of them, no sum of pixels of
/// 255 reaches 256.
#[inline(always)]
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS) as u8
}

/// The same for any number of weights.
#[inline(always)]
fn to_byte_clamped(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).min(255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    /// Resizes a packed picture with the loops of an instruction set.
    fn resize_with(
        loops: &RowLoops,
        data: &[u8],
        source: [usize; 2],
        target: [usize; 2],
        channels: usize,
    ) -> Vec<u8> {
        let mut out = vec![0; target[0] * target[1] * channels];
        let stride = target[0] * channels;
        Resizer::new(source, target, channels).run(
            loops,
            |y, pixels| {
                let row = data[y * source[0] * channels..].chunks(channels);
                for (pixel, values) in pixels.iter_mut().zip(row) {
                    pixel[..channels].copy_from_slice(values);
                }
            },
            |y, rows, weights| {
                (loops.blend_rows)(rows, weights, 0, &mut out[y * stride..][..stride]);
            },
        );
        out
    }

    fn resize(data: &[u8], source: [usize; 2], target: [usize; 2], channels: usize) -> Vec<u8> {
        resize_with(&RowLoops::of(Isa::Scalar), data, source, target, channels)
    }

    /// One pass over an axis, `inner` elements lying side by side for each place on it.
    fn resize_axis(data: &[u8], source: usize, target: usize, inner: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for outer in data.chunks(source * inner) {
            for at in 0..target {
                let (first, weights) = window(source, target, at);
                for i in 0..inner {
                    let products = weights.iter().enumerate();
                    let products = products.map(|(k, &weight)| {
                        i64::from(outer[(first + k) * inner + i]) * i64::from(weight)
                    });
                    let sum = products.sum::<i64>() + i64::from(HALF);
                    out.push((sum >> PRECISION_BITS).clamp(0, 255) as u8);
                }
            }
        }
        out
    }

    #[test]
    fn every_instruction_set_equals_the_plain_sum() {
        let lengths = [1, 2, 5, 8, 9, 31, 64, 100, 201];
        for isa in Isa::ALL {
            let loops = RowLoops::of(isa);
            for (at, source_width) in lengths.into_iter().enumerate() {
                for target_width in [1, 3, 16, 33, 70, 128] {
                    let source = [source_width, lengths[(at + target_width) % lengths.len()]];
                    let target = [
                        target_width,
                        lengths[(at * 2 + target_width) % lengths.len()],
                    ];
                    let channels = if at % 2 == 0 { 3 } else { 1 };
                    let data: Vec<u8> = (0..source[0] * source[1] * channels)
                        .map(|i| match at % 3 {
                            0 => (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3],
                            1 => 255,
                            _ => (i % 2 * 255) as u8,
                        })
                        .collect();
                    let narrow = resize_axis(&data, source[0], target[0], channels);
                    let stride = target[0] * channels;
                    let expected = resize_axis(&narrow, source[1], target[1], stride);
                    let ours = resize_with(&loops, &data, source, target, channels);
                    assert!(ours == expected, "{isa} {source:?} {target:?} {channels}");
                }
            }
        }
    }

    #[test]
    fn same_size_is_identity() {
        let data: Vec<u8> = (0..5 * 4 * 3).map(|i| (i * 37 % 256) as u8).collect();
        assert_eq!(resize(&data, [5, 4], [5, 4], 3), data);
    }

    #[test]
    fn halving_weighs_four_pixels() {
        // Window of target 0: source 0..3 at distances .5, .5, 1.5 of a half-width of 2: .75, .75, .25 of 1.75.
        // (0 * .75 + 70 * .75 + 140 * .25) / 1.75 = 50; target 1: (70 * .25 + 140 * .75 + 210 * .75) / 1.75 = 160.
        assert_eq!(resize(&[0, 70, 140, 210], [4, 1], [2, 1], 1), [50, 160]);
        assert_eq!(resize(&[0, 70, 140, 210], [1, 4], [1, 2], 1), [50, 160]);
    }

    #[test]
    fn doubling_interpolates_between_centers() {
        // Centers at .25, .75, 1.25, 1.75: weights .75 and .25 inside, the edge repeats.
        assert_eq!(resize(&[0, 100], [2, 1], [4, 1], 1), [0, 25, 75, 100]);
    }

    #[test]
    fn white_stays_white_at_every_ratio() {
        for source in [1, 2, 7, 99, 640] {
            for target in [1, 3, 50, 300] {
                let white = vec![255; source * source];
                let out = resize(&white, [source, source], [target, target], 1);
                assert!(out.iter().all(|&v| v == 255), "{source} to {target}");
            }
        }
    }

    /// The golden inputs of ../shared were made with Pillow from ../shared/images.
    #[test]
    fn equals_pillow_on_photographs() {
        let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
        if !std::path::Path::new(shared).exists() {
            println!("SKIPPED: ../shared is absent");
            return;
        }
        let cases = [
            ("cat.bmp", "cat_224.png"),
            ("cat.bmp", "cat_128.png"),
            ("grace_hopper.bmp", "grace_96.png"),
            ("kite_and_cold.jpg", "kite_300.png"),
            ("kite_and_cold.jpg", "kite_320.png"),
        ];
        for (picture, golden) in cases {
            let source = image::open(format!("{shared}/images/{picture}"))
                .unwrap()
                .to_rgb8();
            let golden = image::open(format!("{shared}/data/golden/inputs/{golden}"))
                .unwrap()
                .to_rgb8();
            let size = |image: &image::RgbImage| [image.width() as usize, image.height() as usize];
            let ours = resize(&source, size(&source), size(&golden), 3);
            let worst = ours
                .iter()
                .zip(golden.as_raw())
                .map(|(a, b)| a.abs_diff(*b))
                .max();
            // JPEG decoders differ by a few codes before any resizing.
            let tolerance = if picture.ends_with("jpg") { 3 } else { 0 };
            assert!(worst <= Some(tolerance), "{picture}: off by {worst:?}");
        }
    }
}
