//! The rules on real values that multiply and add in one rounding, run with the CPU's own instruction where it has one.
//!
//! [`f32::mul_add`] gives the same bits with and without; only the time differs. XNNPACK's kernels do the same on every
//! CPU that this program meets.
#![allow(unsafe_code)]

use super::scalar::dynamic::{RowQuant, RowsToReal};
use super::scalar::float::{FloatDepthwise, MatrixProduct, depthwise_rule, product_rule};

/// Makes a function that runs a rule, an inlined function, under the features that have the instruction.
macro_rules! fused {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) as $rule:expr) => {
        $(#[$doc])*
        pub fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn fused($($argument: $type),*) {
                    $rule($($argument),*);
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the condition proves the features.
                    return unsafe { fused($($argument),*) };
                }
            }
            $rule($($argument),*);
        }
    };
}

fused! {
    /// See [`MatrixProduct`].
    matrix_product(product: &MatrixProduct<'_>, out: &mut [f32]) as product_rule
}

fused! {
    /// See [`FloatDepthwise`].
    depthwise_row(row: &FloatDepthwise<'_>, out: &mut [f32]) as depthwise_rule
}

fused! {
    /// See [`RowsToReal::rows_rule`].
    rows_to_real(layer: &RowsToReal<'_>, sums: &[i32], quants: &[RowQuant], out: &mut [f32])
    as RowsToReal::rows_rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::scalar::Bounds;
    use crate::kernels::scalar::float::FloatWeights;

    #[test]
    fn the_instruction_gives_the_bits_of_the_rule() {
        let (depth, channels) = (27, 35);
        let real = |at: usize| ((at * 7919 % 1009) as f32 - 500.0) / 97.0;
        let weights: Vec<f32> = (0..depth * channels).map(real).collect();
        let weights = FloatWeights::new(&weights, channels);
        let a: Vec<f32> = (0..5 * depth).map(|at| real(at + 3)).collect();
        let bias: Vec<f32> = (0..channels).map(real).collect();
        let product = MatrixProduct {
            a: &a,
            weights: &weights,
            bias: &bias,
            bounds: Bounds {
                low: -50.0,
                high: 50.0,
            },
        };
        let (mut fused, mut plain) = (vec![0.0; 5 * channels], vec![0.0; 5 * channels]);
        matrix_product(&product, &mut fused);
        product_rule(&product, &mut plain);
        assert_eq!(fused, plain);
        assert!(fused.iter().any(|x| x.abs() < 50.0 && *x != 0.0));
    }
}
