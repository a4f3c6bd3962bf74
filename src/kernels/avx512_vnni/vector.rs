//! Loads and stores whose lengths are checked.

use std::arch::x86_64::*;

/// int32 lanes of a register.
pub const LANES: usize = 16;

#[target_feature(enable = "avx512f")]
#[inline]
pub fn load_i32(values: &[i32]) -> __m512i {
    assert!(values.len() >= LANES);
    // SAFETY: the assert leaves 64 readable bytes.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub fn load_f32(values: &[f32]) -> __m512 {
    assert!(values.len() >= LANES);
    // SAFETY: the assert leaves 64 readable bytes.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub fn load_i8(codes: &[i8]) -> __m512i {
    assert!(codes.len() >= 64);
    // SAFETY: the assert leaves 64 readable bytes.
    unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
}

/// Rows of an output, in each of which the same number of elements is written.
pub struct Rows<'a, T> {
    out: &'a mut [T],
    rows: usize,
    stride: usize,
    count: usize,
}

impl<'a, T> Rows<'a, T> {
    /// `count` elements at the beginning of each of `rows` rows, `stride` apart.
    #[inline]
    pub fn new(out: &'a mut [T], rows: usize, stride: usize, count: usize) -> Self {
        assert!(rows > 0 && count > 0 && out.len() >= (rows - 1) * stride + count);
        Self {
            out,
            rows,
            stride,
            count,
        }
    }

    #[inline]
    fn row(&mut self, row: usize) -> *mut T {
        assert!(row < self.rows);
        // SAFETY: `new` found all elements of a row before `rows` in the slice.
        unsafe { self.out.as_mut_ptr().add(row * self.stride) }
    }
}

impl Rows<'_, i8> {
    /// Stores the elements of a row, of which there are at most 64.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub fn store_64(&mut self, row: usize, codes: __m512i) {
        let mask = u64::MAX >> (64 - self.count.min(64));
        // SAFETY: `row` points to `count` elements, and the mask leaves out what lies behind them.
        unsafe { _mm512_mask_storeu_epi8(self.row(row), mask, codes) }
    }

    /// Stores the elements of a row, of which there are at most 32.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    pub fn store_32(&mut self, row: usize, codes: __m256i) {
        let mask = u32::MAX >> (32 - self.count.min(32));
        // SAFETY: `row` points to `count` elements, and the mask leaves out what lies behind them.
        unsafe { _mm256_mask_storeu_epi8(self.row(row), mask, codes) }
    }

    /// Stores the elements of a row, of which there are at most 16.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    pub fn store_16(&mut self, row: usize, codes: __m128i) {
        let mask = u16::MAX >> (16 - self.count.min(16));
        // SAFETY: `row` points to `count` elements, and the mask leaves out what lies behind them.
        unsafe { _mm_mask_storeu_epi8(self.row(row), mask, codes) }
    }
}

impl Rows<'_, i32> {
    /// Stores elements of a row from `first` on: as many as there are, at most 16.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn store(&mut self, row: usize, first: usize, sums: __m512i) {
        assert!(first < self.count);
        let mask = u16::MAX >> (16 - (self.count - first).min(16));
        // SAFETY: `row` points to `count` elements, and the mask leaves out what lies behind them.
        unsafe { _mm512_mask_storeu_epi32(self.row(row).add(first), mask, sums) }
    }
}
