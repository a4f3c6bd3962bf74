//! The matrix product.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::output::Stage;
use super::vector::{LANES, Rows, load_f32, load_i32};
use crate::kernels::gemm::{Gemm, GemmKernel, Output};
use crate::kernels::pack::Tile;

/// Elements of the depth that one instruction sums.
const KR: usize = 4;

pub const GEMMS: [GemmKernel; 1] = [GemmKernel {
    name: "i8_gemm_14x32c4_avx512_vnni",
    tile: Tile {
        mr: 14,
        nr: 2 * LANES,
        kr: KR,
        offset: 128,
    },
    scratch_per_depth: 0,
    needs_no_minimum: false,
    run: |gemm| {
        assert!(super::is_available());
        // SAFETY: the assert above proves the features.
        unsafe { product(gemm) }
    },
}];

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn product(mut gemm: Gemm<'_>) {
    // Were its value known, the compiler would flip signs before it broadcasts, and not broadcast while it loads.
    let sign = black_box(_mm512_set1_epi8(i8::MIN));
    for (at, block) in gemm.blocks.clone().enumerate() {
        let block = Block::new(&gemm, at, block, sign);
        match block.channels.div_ceil(LANES) {
            1 => block.product::<1, 28, 14, 8>(&mut gemm),
            _ => block.product::<2, 14, 7, 4>(&mut gemm),
        }
    }
}

/// A block of output channels.
struct Block<'a> {
    /// `[groups][nr][KR]`
    weights: &'a [i8],
    bias: &'a [i32],
    scales: &'a [f32],
    has_row_term: bool,
    nr: usize,
    /// Groups of [`KR`] elements of the depth.
    groups: usize,
    channels: usize,
    /// Position in a row of the output.
    first_channel: usize,
    /// What makes signed codes unsigned.
    sign: __m512i,
}

impl<'a> Block<'a> {
    fn new(gemm: &Gemm<'a>, at: usize, block: usize, sign: __m512i) -> Self {
        let (weights, nr) = (gemm.weights, gemm.weights.tile().nr);
        Self {
            weights: weights.block(block),
            bias: weights.bias(block),
            scales: weights.scales(block),
            has_row_term: weights.has_row_term(block),
            nr,
            groups: weights.depth().div_ceil(KR),
            channels: weights.channels_of(block..block + 1),
            first_channel: at * nr,
            sign,
        }
    }

    /// Makes all rows: most of them `LARGE` at a time, the rest so that tiles too small to keep the multipliers busy are
    /// rare. A tile that would end behind the last row ends with it, and makes some rows twice.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn product<const V: usize, const LARGE: usize, const MIDDLE: usize, const SMALL: usize>(
        &self,
        gemm: &mut Gemm<'_>,
    ) {
        let rows = gemm.rows;
        let row = self.rows::<LARGE, V>(gemm, 0, rows / LARGE);
        let middle = match rows >= MIDDLE {
            true => (rows - row + MIDDLE - SMALL - 1) / MIDDLE,
            false => 0,
        };
        let row = self.rows::<MIDDLE, V>(gemm, row, middle);
        match rows >= SMALL {
            true => self.rows::<SMALL, V>(gemm, row, (rows - row).div_ceil(SMALL)),
            false => self.rows::<1, V>(gemm, row, rows - row),
        };
    }

    /// Makes rows from `row` on in tiles of `R` rows. Returns the first row that is left.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn rows<const R: usize, const V: usize>(
        &self,
        gemm: &mut Gemm<'_>,
        first: usize,
        tiles: usize,
    ) -> usize {
        for tile in 0..tiles {
            let row = (first + tile * R).min(gemm.rows - R);
            let a = &gemm.a[row * gemm.a_stride..];
            let acc = self.multiply::<R, V>(a, gemm.a_stride, self.start(gemm, row));
            let (at, stride) = (row * gemm.out_stride + self.first_channel, gemm.out_stride);
            match &mut gemm.out {
                Output::Codes { out, stage, .. } => {
                    let out = Rows::new(&mut out[at..], R, stride, self.channels);
                    self.write_codes(acc, Stage::new(*stage), out);
                }
                Output::Sums(out) => {
                    let mut out = Rows::new(&mut out[at..], R, stride, self.channels);
                    for r in 0..R {
                        for v in 0..V {
                            out.store(r, v * LANES, acc[r][v]);
                        }
                    }
                }
            }
        }
        (first + tiles * R).min(gemm.rows)
    }

    /// What the sums of `R` rows begin with: the bias and the rows' terms.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn start<const R: usize, const V: usize>(
        &self,
        gemm: &Gemm<'_>,
        row: usize,
    ) -> [[__m512i; V]; R] {
        let mut bias = [_mm512_setzero_si512(); V];
        for v in 0..V {
            bias[v] = load_i32(&self.bias[v * LANES..]);
        }
        let mut acc = [bias; R];
        if let (Output::Codes { row_terms, .. }, true) = (&gemm.out, self.has_row_term) {
            let terms = &row_terms[row..row + R];
            for r in 0..R {
                for v in 0..V {
                    acc[r][v] = _mm512_add_epi32(acc[r][v], _mm512_set1_epi32(terms[r]));
                }
            }
        }
        acc
    }

    /// Adds the products of `R` rows and `V * LANES` channels over the whole depth.
    ///
    /// Registers: `R * V` accumulate, `V` hold the weights of a group of the depth, one the broadcast group of
    /// activations of a row, one what makes these unsigned.
    #[target_feature(enable = "avx512f,avx512vnni")]
    #[inline]
    fn multiply<const R: usize, const V: usize>(
        &self,
        a: &[i8],
        a_stride: usize,
        mut acc: [[__m512i; V]; R],
    ) -> [[__m512i; V]; R] {
        assert!(V * LANES <= self.nr && self.weights.len() >= self.groups * self.nr * KR);
        assert!(a.len() >= (R - 1) * a_stride + self.groups * KR);
        let (mut w, mut a) = (self.weights.as_ptr(), a.as_ptr());
        let mut weights = [_mm512_setzero_si512(); V];
        for _ in 0..self.groups {
            // SAFETY: the asserts above leave `nr * KR` bytes at `w` and `KR` at `a` and each of the `R - 1` rows
            // behind it, for each of `groups` steps.
            unsafe {
                for v in 0..V {
                    weights[v] = _mm512_loadu_si512(w.add(v * LANES * KR).cast());
                }
                for r in 0..R {
                    let codes = a.add(r * a_stride).cast::<i32>().read_unaligned();
                    let codes = _mm512_xor_si512(_mm512_set1_epi32(codes), self.sign);
                    for v in 0..V {
                        acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], codes, weights[v]);
                    }
                }
                w = w.add(self.nr * KR);
                a = a.add(KR);
            }
        }
        acc
    }

    /// Four registers of sums at a time become codes: those of two rows, or of four.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    fn write_codes<const R: usize, const V: usize>(
        &self,
        acc: [[__m512i; V]; R],
        stage: Stage,
        mut out: Rows<'_, i8>,
    ) {
        let mut scales = [_mm512_setzero_ps(); 4];
        for (at, scale) in scales.iter_mut().enumerate() {
            *scale = load_f32(&self.scales[at % V * LANES..]);
        }
        for group in 0..(R * V).div_ceil(4) {
            let mut sums = [acc[0][0]; 4];
            for (at, sums) in sums.iter_mut().enumerate() {
                let at = (4 * group + at).min(R * V - 1);
                *sums = acc[at / V][at % V];
            }
            let codes = stage.codes(sums, scales);
            for part in 0..(4 / V).min(R - group * 4 / V) {
                let row = group * 4 / V + part;
                match (V, part) {
                    (1, 0) => out.store_16(row, _mm512_castsi512_si128(codes)),
                    (1, 1) => out.store_16(row, _mm512_extracti32x4_epi32::<1>(codes)),
                    (1, 2) => out.store_16(row, _mm512_extracti32x4_epi32::<2>(codes)),
                    (1, _) => out.store_16(row, _mm512_extracti32x4_epi32::<3>(codes)),
                    (_, 0) => out.store_32(row, _mm512_castsi512_si256(codes)),
                    (_, _) => out.store_32(row, _mm512_extracti64x4_epi64::<1>(codes)),
                }
            }
        }
    }
}
