//! The table of an instruction set's elementwise kernels.
//!
//! They are the functions of [`scalar`](super::scalar), plain loops, compiled again under the features of the
//! instruction set: the compiler's vectors give the same bits.
#![allow(unsafe_code)]

use super::pack;
use super::requant::OutputStage;
use super::scalar::{self, AddParams, MeanParams, MulParams};

/// Functions over rows of codes; each has the contract of its namesake.
#[derive(Clone, Copy)]
pub struct Elementwise {
    /// Ends the names of these kernels in tables of layers.
    pub suffix: &'static str,
    /// [`scalar::add`].
    pub add: fn(params: &AddParams, a: &[i8], b: &[i8], out: &mut [i8]),
    /// [`scalar::mul`].
    pub mul: fn(params: &MulParams, a: &[i8], b: &[i8], out: &mut [i8]),
    /// [`scalar::dequantize`].
    pub dequantize: fn(input: &[i8], out: &mut [f32], scale: f32, zero_point: i32),
    /// [`scalar::quantize`].
    pub quantize: fn(input: &[f32], out: &mut [i8], scale: f32, stage: OutputStage),
    /// [`scalar::mean_rows`].
    pub mean_rows: fn(params: &MeanParams, input: &[i8], out: &mut [i8], sums: &mut [i32]),
    /// [`pack::row_terms`].
    pub row_terms: fn(a: &[i8], stride: usize, depth: usize, zero_point: i32, terms: &mut [i32]),
    /// [`scalar::row_maxima`].
    pub row_maxima: RowMaxima,
}

/// [`scalar::row_maxima`].
pub type RowMaxima = fn(codes: &[i8], columns: usize, skip: usize, out: &mut [i8]);

/// A table whose functions are compiled for a set of features.
macro_rules! elementwise {
    ($(#[$doc:meta])* $name:ident, $suffix:literal $(, $features:literal, $has:expr)?) => {
        $(#[$doc])*
        pub(super) const $name: Elementwise = Elementwise {
            suffix: $suffix,
            add: elementwise!(scalar::add(params: &AddParams, a: &[i8], b: &[i8], out: &mut [i8]) $(, $features, $has)?),
            mul: elementwise!(scalar::mul(params: &MulParams, a: &[i8], b: &[i8], out: &mut [i8]) $(, $features, $has)?),
            dequantize: elementwise!(scalar::dequantize(input: &[i8], out: &mut [f32], scale: f32, zero_point: i32) $(, $features, $has)?),
            quantize: elementwise!(scalar::quantize(input: &[f32], out: &mut [i8], scale: f32, stage: OutputStage) $(, $features, $has)?),
            mean_rows: elementwise!(scalar::mean_rows(params: &MeanParams, input: &[i8], out: &mut [i8], sums: &mut [i32]) $(, $features, $has)?),
            row_terms: elementwise!(pack::row_terms(a: &[i8], stride: usize, depth: usize, zero_point: i32, terms: &mut [i32]) $(, $features, $has)?),
            row_maxima: elementwise!(scalar::row_maxima(codes: &[i8], columns: usize, skip: usize, out: &mut [i8]) $(, $features, $has)?),
        };
    };
    ($module:ident::$rule:ident($($argument:ident: $type:ty),*)) => { $module::$rule };
    ($module:ident::$rule:ident($($argument:ident: $type:ty),*), $features:literal, $has:expr) => {{
        #[target_feature(enable = $features)]
        fn compiled($($argument: $type),*) {
            $module::$rule($($argument),*);
        }
        |$($argument),*| {
            assert!($has);
            // SAFETY: the assert above proves the features.
            unsafe { compiled($($argument),*) }
        }
    }};
}

elementwise! {
    /// Under the target's own features.
    BASELINE, "baseline"
}

#[cfg(target_arch = "x86_64")]
elementwise! {
    /// With AVX2.
    AVX2, "avx2", "avx2", is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "x86_64")]
elementwise! {
    /// With AVX-512.
    AVX512, "avx512", "avx512f,avx512bw,avx512vl,avx512dq",
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512dq")
}
