//! The rule of `requant.rs` for 64 sums at a time.
//!
//! The bounds are integers, so clamping commutes with rounding: above, sums are clamped before they are rounded, so
//! that they stay in the range of int32; below, int32 that are too small saturate, and codes are clamped at last.

use std::arch::x86_64::*;

use crate::kernels::requant::OutputStage;

/// An [`OutputStage`] in registers.
#[derive(Clone, Copy)]
pub struct Stage {
    high: __m512,
    zero_point: __m512i,
    min: __m512i,
}

impl Stage {
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub fn new(stage: OutputStage) -> Self {
        Self {
            high: _mm512_set1_ps(stage.bounds().1),
            zero_point: _mm512_set1_epi16(stage.zero_point as i16),
            min: _mm512_set1_epi8(stage.min),
        }
    }

    /// Codes of four registers of sums. Each quarter of the result holds the codes of the same quarter of every
    /// register: 4 of the first, 4 of the second and so on.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub fn crossed_codes(&self, sums: [__m512i; 4], scales: [__m512; 4]) -> __m512i {
        let mut rounded = sums;
        for (sums, scales) in rounded.iter_mut().zip(scales) {
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(*sums), scales);
            *sums = _mm512_cvtps_epi32(_mm512_min_ps(scaled, self.high));
        }
        let [a, b, c, d] = rounded;
        let ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), self.zero_point);
        let cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), self.zero_point);
        _mm512_max_epi8(_mm512_packs_epi16(ab, cd), self.min)
    }

    /// Codes of four registers of sums, in order.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub fn codes(&self, sums: [__m512i; 4], scales: [__m512; 4]) -> __m512i {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_permutexvar_epi32(order, self.crossed_codes(sums, scales))
    }
}
