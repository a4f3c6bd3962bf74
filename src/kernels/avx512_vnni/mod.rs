//! x86-64 with AVX-512 and VNNI.
//!
//! `vpdpbusd` sums four products of an unsigned and a signed code into each int32 lane, exactly. Activations are the
//! unsigned ones: `a ^ 0x80` is `a + 128`, and what that adds to a sum is taken off its bias when the weights are packed.
#![allow(unsafe_code)]

mod depthwise;
mod gemm;
mod output;
mod vector;

pub use depthwise::DEPTHWISE;
pub use gemm::GEMMS;

/// Whether this CPU has what the kernels are compiled for.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}
