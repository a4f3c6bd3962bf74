//! Armv8.0 Advanced SIMD (Cortex-A53, A72), which every aarch64 target has.
#![allow(unsafe_code)]

mod depthwise;
mod gemm;
mod output;
mod registers;
mod taps;
mod tile;

pub use depthwise::DEPTHWISE;
pub use gemm::GEMMS;
