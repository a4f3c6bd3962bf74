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

/// Stores as many codes as `out` is long, at most 64.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub fn store_64(codes: __m512i, out: &mut [i8]) {
    let to = out.as_mut_ptr();
    match out.len() {
        // SAFETY: the slice has 64 bytes.
        64.. => unsafe { _mm512_storeu_si512(to.cast(), codes) },
        // SAFETY: the mask leaves out what lies behind the slice.
        count => unsafe { _mm512_mask_storeu_epi8(to, (1 << count) - 1, codes) },
    }
}

/// Stores as many codes as `out` is long, at most 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub fn store_32(codes: __m256i, out: &mut [i8]) {
    let to = out.as_mut_ptr();
    match out.len() {
        // SAFETY: the slice has 32 bytes.
        32.. => unsafe { _mm256_storeu_si256(to.cast(), codes) },
        // SAFETY: the mask leaves out what lies behind the slice.
        count => unsafe { _mm256_mask_storeu_epi8(to, (1 << count) - 1, codes) },
    }
}

/// Stores as many codes as `out` is long, at most 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub fn store_16(codes: __m128i, out: &mut [i8]) {
    let to = out.as_mut_ptr();
    match out.len() {
        // SAFETY: the slice has 16 bytes.
        16.. => unsafe { _mm_storeu_si128(to.cast(), codes) },
        // SAFETY: the mask leaves out what lies behind the slice.
        count => unsafe { _mm_mask_storeu_epi8(to, (1 << count) - 1, codes) },
    }
}

/// Stores as many sums as `out` is long, at most 16.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn store_i32(sums: __m512i, out: &mut [i32]) {
    let to = out.as_mut_ptr();
    match out.len() {
        // SAFETY: the slice has 64 bytes.
        LANES.. => unsafe { _mm512_storeu_si512(to.cast(), sums) },
        // SAFETY: the mask leaves out what lies behind the slice.
        count => unsafe { _mm512_mask_storeu_epi32(to, (1 << count) - 1, sums) },
    }
}
