//! x86-64 with AVX2: the loops whose shuffles the compiler does not find.

use std::arch::x86_64::*;

use crate::detect::resize::{BAND_ROWS, Band};
use crate::source::{Frame, PixelFormat, YuvMatrix, YuvRow};

/// [`Frame::pixel_row`] for pixels of four bytes.
#[target_feature(enable = "avx2")]
pub fn pixel_row(frame: &Frame, y: usize, out: &mut [[u8; 4]]) {
    match frame.yuv_row(y) {
        Some((matrix, row)) => yuv_row(matrix, &row, out),
        None if frame.format == PixelFormat::Rgb => rgb_row(frame, y, out),
        None => frame.pixel_row(y, out),
    }
}

/// Blocks of 16 pixels: a register of Y, and one of U and V in turn.
#[target_feature(enable = "avx2")]
fn yuv_row(matrix: &YuvMatrix, row: &YuvRow<'_>, out: &mut [[u8; 4]]) {
    const BLOCK: usize = 16;
    let low_bytes = _mm256_set1_epi16(0xff);
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    let first_of_rest = blocks.len() * BLOCK / 2;
    for (index, out) in blocks.iter_mut().enumerate() {
        let at = index * BLOCK;
        let (luma, chroma) = match *row {
            YuvRow::Yuyv(row) => {
                let pixels = load256(&row[2 * at..]);
                let luma = _mm256_and_si256(pixels, low_bytes);
                (luma, _mm256_andnot_si256(low_bytes, pixels))
            }
            YuvRow::Nv12(luma, chroma) => {
                (widen(load128(&luma[at..])), high(load128(&chroma[at..])))
            }
            YuvRow::I420(luma, us, vs) => {
                let chroma = _mm_unpacklo_epi8(load64(&us[at / 2..]), load64(&vs[at / 2..]));
                (widen(load128(&luma[at..])), high(chroma))
            }
        };
        let [low, high] = convert(matrix, luma, chroma);
        store256(&mut out[..8], low);
        store256(&mut out[8..], high);
    }
    matrix.convert_row(row, first_of_rest, rest);
}

/// Bytes as words.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(bytes: __m128i) -> __m256i {
    _mm256_cvtepu8_epi16(bytes)
}

/// Bytes as the upper halves of words.
#[target_feature(enable = "avx2")]
#[inline]
fn high(bytes: __m128i) -> __m256i {
    _mm256_slli_epi16::<8>(_mm256_cvtepu8_epi16(bytes))
}

/// 16 pixels by the rule of [`YuvMatrix`]: Y in words, U and V in turn in the upper halves of words.
#[target_feature(enable = "avx2")]
#[inline]
fn convert(matrix: &YuvMatrix, luma: __m256i, chroma: __m256i) -> [__m256i; 2] {
    let pairs = |u: i16, v: i16| _mm256_set1_epi32(i32::from(v) << 16 | i32::from(u as u16));
    let luma = _mm256_sub_epi16(luma, _mm256_set1_epi16(matrix.black));
    let luma = _mm256_mulhi_epi16(_mm256_slli_epi16::<7>(luma), _mm256_set1_epi16(matrix.luma));
    let luma = _mm256_add_epi16(luma, _mm256_set1_epi16(16));
    // 128 off the upper half.
    let chroma = _mm256_xor_si256(chroma, _mm256_set1_epi16(i16::MIN));
    let blue_red = _mm256_mulhi_epi16(chroma, pairs(matrix.u_to_blue, matrix.v_to_red));
    let greens = _mm256_mulhi_epi16(chroma, pairs(matrix.u_to_green, matrix.v_to_green));
    let lower = _mm256_slli_epi32::<16>(blue_red);
    let blue = _mm256_or_si256(lower, _mm256_srli_epi32::<16>(lower));
    let upper = _mm256_srli_epi32::<16>(blue_red);
    let red = _mm256_blend_epi16::<0b1010_1010>(upper, blue_red);
    let swapped = _mm256_or_si256(
        _mm256_slli_epi32::<16>(greens),
        _mm256_srli_epi32::<16>(greens),
    );
    let green = _mm256_add_epi16(greens, swapped);
    let [red, green, blue] =
        [red, green, blue].map(|chroma| _mm256_srai_epi16::<5>(_mm256_add_epi16(luma, chroma)));
    let red_blue = _mm256_packus_epi16(red, blue);
    let green_zero = _mm256_packus_epi16(green, _mm256_setzero_si256());
    let red_green = _mm256_unpacklo_epi8(red_blue, green_zero);
    let blue_zero = _mm256_unpackhi_epi8(red_blue, green_zero);
    // Pixels 0..3 and 8..11, and 4..7 and 12..15.
    let even = _mm256_unpacklo_epi16(red_green, blue_zero);
    let odd = _mm256_unpackhi_epi16(red_green, blue_zero);
    [
        _mm256_permute2x128_si256::<0x20>(even, odd),
        _mm256_permute2x128_si256::<0x31>(even, odd),
    ]
}

/// Eight pixels at a time, as long as the 28 bytes that are read lie in the row.
#[target_feature(enable = "avx2")]
fn rgb_row(frame: &Frame, y: usize, out: &mut [[u8; 4]]) {
    let spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    let row = &frame.data[y * 3 * frame.width..][..3 * frame.width];
    let blocks = row.len().saturating_sub(4) / 24;
    let (wide, rest) = out.split_at_mut(8 * blocks);
    for (index, out) in wide.chunks_exact_mut(8).enumerate() {
        let four = |at: usize| _mm_shuffle_epi8(load128(&row[24 * index + at..]), spread);
        store256(out, _mm256_set_m128i(four(12), four(0)));
    }
    let row = &row[24 * blocks..];
    for (out, &[red, green, blue]) in rest.iter_mut().zip(row.as_chunks::<3>().0) {
        *out = [red, green, blue, 0];
    }
}

/// [`interleave`](super::super::resize::interleave): squares of 8 by 8 pixels.
#[target_feature(enable = "avx2")]
pub fn interleave(rows: &[u32], band: &mut Band) {
    let width = band.len();
    let wide = width / 8 * 8;
    for (index, columns) in band.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let mut square = [_mm256_setzero_si256(); BAND_ROWS];
        for (row, pixels) in square.iter_mut().enumerate() {
            *pixels = load256(bytemuck::cast_slice(&rows[row * width + 8 * index..][..8]));
        }
        for (column, pixels) in columns.iter_mut().zip(transpose(square)) {
            store256(bytemuck::cast_slice_mut(column), pixels);
        }
    }
    for x in wide..width {
        for (row, pixel) in band[x].iter_mut().enumerate() {
            *pixel = rows[row * width + x];
        }
    }
}

/// Rows of a square of 8 by 8 become columns.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let low2 = |a: usize, b: usize| _mm256_unpacklo_epi32(rows[a], rows[b]);
    let high2 = |a: usize, b: usize| _mm256_unpackhi_epi32(rows[a], rows[b]);
    let pairs = [
        [low2(0, 1), low2(2, 3), low2(4, 5), low2(6, 7)],
        [high2(0, 1), high2(2, 3), high2(4, 5), high2(6, 7)],
    ];
    let mut columns = [_mm256_setzero_si256(); 8];
    for (half, [a, b, c, d]) in pairs.into_iter().enumerate() {
        let fours = [
            [_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d)],
            [_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d)],
        ];
        for (quarter, [upper, lower]) in fours.into_iter().enumerate() {
            let column = 2 * half + quarter;
            columns[column] = _mm256_permute2x128_si256::<0x20>(upper, lower);
            columns[column + 4] = _mm256_permute2x128_si256::<0x31>(upper, lower);
        }
    }
    columns
}

#[target_feature(enable = "avx2")]
#[inline]
fn load64(bytes: &[u8]) -> __m128i {
    assert!(bytes.len() >= 8);
    // SAFETY: the assert leaves 8 readable bytes.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load128(bytes: &[u8]) -> __m128i {
    assert!(bytes.len() >= 16);
    // SAFETY: the assert leaves 16 readable bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load256(bytes: &[u8]) -> __m256i {
    assert!(bytes.len() >= 32);
    // SAFETY: the assert leaves 32 readable bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store256(pixels: &mut [[u8; 4]], value: __m256i) {
    assert!(pixels.len() >= 8);
    // SAFETY: the assert leaves 32 writable bytes.
    unsafe { _mm256_storeu_si256(pixels.as_mut_ptr().cast(), value) }
}
