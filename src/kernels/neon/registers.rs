//! Intrinsics that touch registers only, as safe functions that are always inlined.

use std::arch::aarch64::{self, *};

macro_rules! registers_only {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            #[inline(always)]
            pub fn $name($($argument: $type),*) -> $result {
                // SAFETY: the instruction is part of every aarch64 target and touches no memory.
                unsafe { aarch64::$name($($argument),*) }
            }
        )*
    };
}

registers_only! {
    vaddlvq_s16(a: int16x8_t) -> i32;
    vaddq_s16(a: int16x8_t, b: int16x8_t) -> int16x8_t;
    vaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t;
    vcvtnq_s32_f32(a: float32x4_t) -> int32x4_t;
    vcvtq_f32_s32(a: int32x4_t) -> float32x4_t;
    vdupq_n_s8(value: i8) -> int8x16_t;
    vdupq_n_s16(value: i16) -> int16x8_t;
    vdupq_n_s32(value: i32) -> int32x4_t;
    vdupq_n_u32(value: u32) -> uint32x4_t;
    vget_low_s8(a: int8x16_t) -> int8x8_t;
    vget_low_s16(a: int16x8_t) -> int16x4_t;
    vmax_s8(a: int8x8_t, b: int8x8_t) -> int8x8_t;
    vmin_s8(a: int8x8_t, b: int8x8_t) -> int8x8_t;
    vmlal_s16(sum: int32x4_t, a: int16x4_t, b: int16x4_t) -> int32x4_t;
    vmlal_high_s16(sum: int32x4_t, a: int16x8_t, b: int16x8_t) -> int32x4_t;
    vmovl_s8(a: int8x8_t) -> int16x8_t;
    vmulq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t;
    vpadalq_s8(sum: int16x8_t, a: int8x16_t) -> int16x8_t;
    vqaddq_s16(a: int16x8_t, b: int16x8_t) -> int16x8_t;
    vqmovn_high_s32(low: int16x4_t, a: int32x4_t) -> int16x8_t;
    vqmovn_s16(a: int16x8_t) -> int8x8_t;
    vqmovn_s32(a: int32x4_t) -> int16x4_t;
}
