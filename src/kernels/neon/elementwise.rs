//! What the compiler does not vectorize well enough by itself.

use super::output::load_16;
use super::registers::*;
use crate::kernels::elementwise::{BASELINE, Elementwise};

/// [`BASELINE`] but for the row terms.
pub const ELEMENTWISE: Elementwise = Elementwise {
    row_terms,
    ..BASELINE
};

/// Codes whose pairs are summed in int16: 64 sums of two codes for each lane.
const PART: usize = 64 * 16;

/// `pack::row_terms`.
fn row_terms(a: &[i8], stride: usize, depth: usize, weight_zero_point: i32, terms: &mut [i32]) {
    for (row, term) in terms.iter_mut().enumerate() {
        let codes = &a[row * stride..row * stride + depth];
        let sum: i32 = codes.chunks(PART).map(sum_of_part).sum();
        *term = -weight_zero_point.wrapping_mul(sum);
    }
}

fn sum_of_part(codes: &[i8]) -> i32 {
    let mut sums = [vdupq_n_s16(0); 2];
    let mut groups = codes.chunks_exact(64);
    for group in &mut groups {
        for at in 0..4 {
            sums[at % 2] = vpadalq_s8(sums[at % 2], load_16(&group[16 * at..]));
        }
    }
    let mut registers = groups.remainder().chunks_exact(16);
    for register in &mut registers {
        sums[0] = vpadalq_s8(sums[0], load_16(register));
    }
    let rest: i32 = registers
        .remainder()
        .iter()
        .map(|&code| i32::from(code))
        .sum();
    vaddlvq_s16(vaddq_s16(sums[0], sums[1])) + rest
}
