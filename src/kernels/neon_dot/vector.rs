//! Single instructions for which there is no stable intrinsic, or which the compiler would take apart.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

/// `acc[n] + sum_i weights[4 n + i] * x[4 LANE + i]`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(super) fn dot_lane<const LANE: i32>(
    mut acc: int32x4_t,
    weights: int8x16_t,
    x: int8x16_t,
) -> int32x4_t {
    // SAFETY: the instruction is part of the enabled feature and touches registers only.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {weights:v}.16b, {x:v}.4b[{lane}]",
            acc = inout(vreg) acc,
            weights = in(vreg) weights,
            x = in(vreg) x,
            lane = const LANE,
            options(nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// `acc[n] + sum_i a[4 n + i] * b[4 n + i]`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(super) fn dot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is part of the enabled feature and touches registers only.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// The next 16 codes.
///
/// # Safety
/// 16 bytes can be read at `from`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn next(from: &mut *const i8) -> int8x16_t {
    // SAFETY: the caller vouches for the bytes.
    let codes = unsafe { vld1q_s8(*from) };
    *from = from.wrapping_add(16);
    codes
}

/// The next 32 codes.
///
/// # Safety
/// 32 bytes can be read at `from`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn next_2(from: &mut *const i8) -> (int8x16_t, int8x16_t) {
    let (first, second);
    // SAFETY: the caller vouches for the bytes that the instruction reads.
    unsafe {
        asm!(
            "ldp {first:q}, {second:q}, [{from}], #32",
            first = out(vreg) first,
            second = out(vreg) second,
            from = inout(reg) *from,
            options(readonly, nostack, preserves_flags),
        );
    }
    (first, second)
}

/// The next 64 codes.
///
/// # Safety
/// 64 bytes can be read at `from`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn next_4(from: &mut *const i8) -> [int8x16_t; 4] {
    let (a, b, c, d);
    // SAFETY: the caller vouches for the bytes that the instruction reads.
    unsafe {
        asm!(
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{from}], #64",
            from = inout(reg) *from,
            out("v0") a,
            out("v1") b,
            out("v2") c,
            out("v3") d,
            options(readonly, nostack, preserves_flags),
        );
    }
    [a, b, c, d]
}

/// 16 floats, or int32 in their place. Loaded at every call, where the compiler would keep and copy them.
///
/// # Safety
/// 16 elements can be read at `from`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn load_16(from: *const f32) -> [float32x4_t; 4] {
    let (a, b, c, d);
    // SAFETY: the caller vouches for the bytes that the instructions read.
    unsafe {
        asm!(
            "ldp {a:q}, {b:q}, [{from}]",
            a = out(vreg) a,
            b = out(vreg) b,
            from = in(reg) from,
            options(readonly, nostack, preserves_flags),
        );
        asm!(
            "ldp {c:q}, {d:q}, [{from}, #32]",
            c = out(vreg) c,
            d = out(vreg) d,
            from = in(reg) from,
            options(readonly, nostack, preserves_flags),
        );
    }
    [a, b, c, d]
}

/// [`load_16`] of int32.
///
/// # Safety
/// As of [`load_16`].
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn load_16_sums(from: *const i32) -> [int32x4_t; 4] {
    // SAFETY: the caller vouches for the elements.
    let [a, b, c, d] = unsafe { load_16(from.cast()) };
    [
        vreinterpretq_s32_f32(a),
        vreinterpretq_s32_f32(b),
        vreinterpretq_s32_f32(c),
        vreinterpretq_s32_f32(d),
    ]
}
