//! Armv8.2 dot products (Cortex-A76): `SDOT` sums four products of int8 codes into each int32 lane, exactly.

mod depthwise;
mod elementwise;
mod gemm;
mod output;
mod vector;

use std::arch::is_aarch64_feature_detected;

use super::depthwise::DepthwiseKernel;
use super::elementwise::{BASELINE, Elementwise};
use super::gemm::GemmKernel;
use super::pack::Tile;
use super::scalar::AddParams;

/// Rows that a product makes at a time.
const MR: usize = 4;
/// Channels of a block.
const NR: usize = 16;
/// Codes that meet in a lane.
const KR: usize = 4;

pub const GEMMS: [GemmKernel; 1] = [GemmKernel {
    name: "i8_gemm_4x16c4_neon_dot",
    tile: Tile {
        mr: MR,
        nr: NR,
        kr: KR,
        offset: 0,
    },
    scratch_per_depth: 0,
    needs_no_minimum: false,
    run: run_gemm,
}];

/// 3x3 over at least 16 channels; what else there is goes to other kernels.
pub const DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "i8_depthwise_3x3_16c_neon_dot",
    block: depthwise::LANES,
    pack: depthwise::pack,
    run: run_depthwise,
};

/// Row terms and additions; all else under the target's own features.
pub const ELEMENTWISE: Elementwise = Elementwise {
    suffix: "neon_dot",
    add: run_add,
    row_terms: run_row_terms,
    ..BASELINE
};

#[allow(unsafe_code)]
fn run_gemm(gemm: super::Gemm<'_>) {
    assert!(is_aarch64_feature_detected!("dotprod"));
    // SAFETY: the assert above proves the feature.
    unsafe { gemm::gemm(gemm) }
}

#[allow(unsafe_code)]
fn run_depthwise(row: super::Depthwise<'_>) {
    assert!(is_aarch64_feature_detected!("dotprod"));
    // SAFETY: the assert above proves the feature.
    unsafe { depthwise::depthwise(row) }
}

#[allow(unsafe_code)]
fn run_row_terms(a: &[i8], stride: usize, depth: usize, zero_point: i32, terms: &mut [i32]) {
    assert!(is_aarch64_feature_detected!("dotprod"));
    // SAFETY: the assert above proves the feature.
    unsafe { elementwise::row_terms(a, stride, depth, zero_point, terms) }
}

#[allow(unsafe_code)]
fn run_add(params: &AddParams, a: &[i8], b: &[i8], out: &mut [i8]) {
    assert!(is_aarch64_feature_detected!("dotprod"));
    // SAFETY: the assert above proves the feature.
    unsafe { elementwise::add(params, a, b, out) }
}
