//! The matrix product.

use std::arch::x86_64::*;

use super::output::Stage;
use super::vector::{LANES, load_f32, load_i32, store_16, store_32, store_64, store_i32};
use crate::kernels::gemm::{Gemm, GemmKernel, Output};
use crate::kernels::pack::Tile;

/// Elements of the depth that one instruction sums.
const KR: usize = 4;

/// One kernel in three packings: the widest is for products of many channels, the others leave no lane idle in narrow
/// ones.
pub const GEMMS: [GemmKernel; 3] = [
    kernel("i8_gemm_6x64c4_avx512_vnni", 6, 64),
    kernel("i8_gemm_12x32c4_avx512_vnni", 12, 32),
    kernel("i8_gemm_24x16c4_avx512_vnni", 24, 16),
];

const fn kernel(name: &'static str, mr: usize, nr: usize) -> GemmKernel {
    GemmKernel {
        name,
        tile: Tile {
            mr,
            nr,
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
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn product(mut gemm: Gemm<'_>) {
    for (at, block) in gemm.blocks.clone().enumerate() {
        let block = Block::new(&gemm, at, block);
        match block.channels.div_ceil(LANES) {
            1 => {
                let row = block.rows::<24, 1>(&mut gemm, 0);
                let row = block.rows::<12, 1>(&mut gemm, row);
                let row = block.rows::<6, 1>(&mut gemm, row);
                let row = block.rows::<3, 1>(&mut gemm, row);
                block.rows::<1, 1>(&mut gemm, row);
            }
            2 => {
                let row = block.rows::<12, 2>(&mut gemm, 0);
                let row = block.rows::<6, 2>(&mut gemm, row);
                let row = block.rows::<3, 2>(&mut gemm, row);
                block.rows::<1, 2>(&mut gemm, row);
            }
            3 => {
                let row = block.rows::<8, 3>(&mut gemm, 0);
                let row = block.rows::<4, 3>(&mut gemm, row);
                let row = block.rows::<2, 3>(&mut gemm, row);
                block.rows::<1, 3>(&mut gemm, row);
            }
            _ => {
                let row = block.rows::<6, 4>(&mut gemm, 0);
                let row = block.rows::<4, 4>(&mut gemm, row);
                let row = block.rows::<2, 4>(&mut gemm, row);
                block.rows::<1, 4>(&mut gemm, row);
            }
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
}

impl<'a> Block<'a> {
    fn new(gemm: &Gemm<'a>, at: usize, block: usize) -> Self {
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
        }
    }

    /// Makes rows from `row` on, `R` at a time, as long as there are as many. Returns the first row that is left.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn rows<const R: usize, const V: usize>(&self, gemm: &mut Gemm<'_>, mut row: usize) -> usize {
        while row + R <= gemm.rows {
            let a = &gemm.a[row * gemm.a_stride..];
            let acc = self.multiply::<R, V>(a, gemm.a_stride, self.start(gemm, row));
            let at = row * gemm.out_stride + self.first_channel;
            match &mut gemm.out {
                Output::Codes { out, stage, .. } => {
                    self.write_codes(acc, Stage::new(*stage), &mut out[at..], gemm.out_stride);
                }
                Output::Sums(out) => self.write_sums(acc, &mut out[at..], gemm.out_stride),
            }
            row += R;
        }
        row
    }

    /// What the sums of `R` rows begin with: the bias and the rows' terms.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn start<const R: usize, const V: usize>(
        &self,
        gemm: &Gemm<'_>,
        row: usize,
    ) -> [[__m512i; V]; R] {
        let bias: [__m512i; V] = std::array::from_fn(|v| load_i32(&self.bias[v * LANES..]));
        match &gemm.out {
            Output::Codes { row_terms, .. } if self.has_row_term => {
                let terms = &row_terms[row..row + R];
                std::array::from_fn(|r| {
                    let term = _mm512_set1_epi32(terms[r]);
                    bias.map(|bias| _mm512_add_epi32(bias, term))
                })
            }
            _ => [bias; R],
        }
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
        let sign = _mm512_set1_epi8(i8::MIN);
        let (mut w, mut a) = (self.weights.as_ptr(), a.as_ptr());
        for _ in 0..self.groups {
            // SAFETY: the asserts above leave `nr * KR` bytes at `w` and `KR` at `a` and each of the `R - 1` rows
            // behind it, for each of `groups` steps.
            unsafe {
                let weights: [__m512i; V] =
                    std::array::from_fn(|v| _mm512_loadu_si512(w.add(v * LANES * KR).cast()));
                for (r, acc) in acc.iter_mut().enumerate() {
                    let codes = a.add(r * a_stride).cast::<i32>().read_unaligned();
                    let codes = _mm512_xor_si512(_mm512_set1_epi32(codes), sign);
                    for (acc, &weights) in acc.iter_mut().zip(&weights) {
                        *acc = _mm512_dpbusd_epi32(*acc, codes, weights);
                    }
                }
                w = w.add(self.nr * KR);
                a = a.add(KR);
            }
        }
        acc
    }

    /// Four registers of sums at a time become codes: those of one row, two rows or four.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    fn write_codes<const R: usize, const V: usize>(
        &self,
        acc: [[__m512i; V]; R],
        stage: Stage,
        out: &mut [i8],
        out_stride: usize,
    ) {
        let scales: [__m512; V] = std::array::from_fn(|v| load_f32(&self.scales[v * LANES..]));
        let rows_at_a_time = 4 / V.next_power_of_two();
        let of_register = |at: usize| (at / V.next_power_of_two(), at % V.next_power_of_two() % V);
        let scales = std::array::from_fn(|at| scales[of_register(at).1]);
        for first in (0..R).step_by(rows_at_a_time) {
            let sums = std::array::from_fn(|at| {
                let (row, vector) = of_register(at);
                acc[(first + row).min(R - 1)][vector]
            });
            let codes = stage.codes(sums, scales);
            for row in 0..rows_at_a_time.min(R - first) {
                let out = &mut out[(first + row) * out_stride..][..self.channels];
                match (V, row) {
                    (1, 0) => store_16(_mm512_castsi512_si128(codes), out),
                    (1, 1) => store_16(_mm512_extracti32x4_epi32::<1>(codes), out),
                    (1, 2) => store_16(_mm512_extracti32x4_epi32::<2>(codes), out),
                    (1, _) => store_16(_mm512_extracti32x4_epi32::<3>(codes), out),
                    (2, 0) => store_32(_mm512_castsi512_si256(codes), out),
                    (2, _) => store_32(_mm512_extracti64x4_epi64::<1>(codes), out),
                    _ => store_64(codes, out),
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn write_sums<const R: usize, const V: usize>(
        &self,
        acc: [[__m512i; V]; R],
        out: &mut [i32],
        out_stride: usize,
    ) {
        for (row, sums) in acc.into_iter().enumerate() {
            let out = &mut out[row * out_stride..][..self.channels];
            for (out, sums) in out.chunks_mut(LANES).zip(sums) {
                store_i32(sums, out);
            }
        }
    }
}
