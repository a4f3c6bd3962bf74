//! aarch64: conversion by the loads and stores that take structures apart, and by `sqdmulh`.

use std::arch::aarch64::*;

use crate::source::{Frame, PixelFormat, YuvMatrix, YuvRow};

/// Pixels of a block.
const BLOCK: usize = 16;

/// [`Frame::pixel_row`] for pixels of four bytes.
#[target_feature(enable = "neon")]
pub fn pixel_row(frame: &Frame, y: usize, out: &mut [[u8; 4]]) {
    match frame.yuv_row(y) {
        Some((matrix, row)) => yuv_row(matrix, &row, out),
        None if frame.format == PixelFormat::Rgb => {
            rgb_row(&frame.data[y * 3 * frame.width..], out);
        }
        None => frame.pixel_row(y, out),
    }
}

#[target_feature(enable = "neon")]
fn yuv_row(matrix: &YuvMatrix, row: &YuvRow<'_>, out: &mut [[u8; 4]]) {
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    let first_of_rest = blocks.len() * BLOCK / 2;
    for (index, out) in blocks.iter_mut().enumerate() {
        let at = index * BLOCK;
        let pairs = match *row {
            YuvRow::Yuyv(row) => {
                let uint8x8x4_t(left, u, right, v) = load_fours(&row[2 * at..]);
                [left, right, u, v]
            }
            YuvRow::Nv12(luma, chroma) => {
                let uint8x8x2_t(left, right) = load_pairs(&luma[at..]);
                let uint8x8x2_t(u, v) = load_pairs(&chroma[at..]);
                [left, right, u, v]
            }
            YuvRow::I420(luma, us, vs) => {
                let uint8x8x2_t(left, right) = load_pairs(&luma[at..]);
                [left, right, load(&us[at / 2..]), load(&vs[at / 2..])]
            }
        };
        store(out, convert(matrix, pairs));
    }
    matrix.convert_row(row, first_of_rest, rest);
}

/// Red, green and blue of eight pairs, by the rule of [`YuvMatrix`]. `sqdmulh` doubles the product, so its factors lack
/// one of the bits that the rule shifts in.
#[target_feature(enable = "neon")]
#[inline]
fn convert(matrix: &YuvMatrix, [left, right, u, v]: [uint8x8_t; 4]) -> [uint8x16_t; 3] {
    let middle = vdup_n_u8(128);
    let black = vdup_n_u8(matrix.black as u8);
    let chroma = [u, v].map(|code| vshlq_n_s16::<7>(vreinterpretq_s16_u16(vsubl_u8(code, middle))));
    let [u, v] = chroma;
    let greens = [
        vqdmulhq_n_s16(u, matrix.u_to_green),
        vqdmulhq_n_s16(v, matrix.v_to_green),
    ];
    let chroma = [
        vqdmulhq_n_s16(v, matrix.v_to_red),
        vaddq_s16(greens[0], greens[1]),
        vqdmulhq_n_s16(u, matrix.u_to_blue),
    ];
    let luma = [left, right].map(|code| {
        let luma = vshlq_n_s16::<6>(vreinterpretq_s16_u16(vsubl_u8(code, black)));
        vaddq_s16(vqdmulhq_n_s16(luma, matrix.luma), vdupq_n_s16(16))
    });
    chroma.map(|chroma| {
        let [left, right] = luma.map(|luma| {
            let byte = vqshrun_n_s16::<5>(vaddq_s16(luma, chroma));
            vcombine_u8(byte, byte)
        });
        vzip1q_u8(left, right)
    })
}

#[target_feature(enable = "neon")]
fn rgb_row(row: &[u8], out: &mut [[u8; 4]]) {
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    let first_of_rest = 3 * BLOCK * blocks.len();
    for (index, out) in blocks.iter_mut().enumerate() {
        let uint8x16x3_t(red, green, blue) = load_threes(&row[3 * BLOCK * index..]);
        store(out, [red, green, blue]);
    }
    let row = row[first_of_rest..].as_chunks::<3>().0;
    for (out, &[red, green, blue]) in rest.iter_mut().zip(row) {
        *out = [red, green, blue, 0];
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn load(bytes: &[u8]) -> uint8x8_t {
    assert!(bytes.len() >= 8);
    // SAFETY: the assert leaves 8 readable bytes.
    unsafe { vld1_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn load_pairs(bytes: &[u8]) -> uint8x8x2_t {
    assert!(bytes.len() >= 16);
    // SAFETY: the assert leaves 16 readable bytes.
    unsafe { vld2_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn load_threes(bytes: &[u8]) -> uint8x16x3_t {
    assert!(bytes.len() >= 48);
    // SAFETY: the assert leaves 48 readable bytes.
    unsafe { vld3q_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn load_fours(bytes: &[u8]) -> uint8x8x4_t {
    assert!(bytes.len() >= 32);
    // SAFETY: the assert leaves 32 readable bytes.
    unsafe { vld4_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn store(pixels: &mut [[u8; 4]; BLOCK], [red, green, blue]: [uint8x16_t; 3]) {
    // SAFETY: `pixels` is 64 bytes long.
    unsafe {
        let planes = uint8x16x4_t(red, green, blue, vdupq_n_u8(0));
        vst4q_u8(pixels.as_mut_ptr().cast(), planes);
    }
}
