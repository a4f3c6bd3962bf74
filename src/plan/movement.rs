//! Operators that move codes: their strides.

use crate::kernels::scalar::{StridedCopy, apply_table};

/// Elements that change their place, after a fill and through a table where there is one.
#[derive(Default)]
pub(super) struct Movement {
    /// What the output holds where nothing is moved to.
    pub fill: Option<i8>,
    pub copy: StridedCopy,
    /// Applied to every code; then the step has scratch as large as its input.
    pub table: Option<Box<[i8; 256]>>,
}

impl Movement {
    /// `input` and `out` are whole values.
    pub fn run(&self, input: &[i8], out: &mut [i8], scratch: &mut [i8]) {
        if let Some(fill) = self.fill {
            out.fill(fill);
        }
        match &self.table {
            Some(table) => {
                let scratch = &mut scratch[..input.len()];
                apply_table(table, input, scratch);
                self.copy.run(scratch, out);
            }
            None => self.copy.run(input, out),
        }
    }
}

/// Strides in bytes of a packed tensor.
pub(super) fn packed_strides(dims: &[usize], element: usize) -> Vec<isize> {
    let mut strides = vec![0; dims.len()];
    let mut stride = element;
    for (at, &dim) in dims.iter().enumerate().rev() {
        strides[at] = stride as isize;
        stride *= dim;
    }
    strides
}

/// A whole tensor into a part of a larger one: `first[i]` is where it begins along axis `i` of `out`.
pub(super) fn place_into(
    dims: &[usize],
    out: &[usize],
    first: &[usize],
    element: usize,
) -> StridedCopy {
    let out_strides = packed_strides(out, element);
    StridedCopy {
        dims: dims.to_vec(),
        in_strides: packed_strides(dims, element),
        in_offset: 0,
        out_offset: offset(first, &out_strides),
        out_strides,
        run: element,
    }
    .simplified()
}

/// Part of a tensor, `begin[i] + stride[i] * n` along axis `i`, into a whole tensor of `dims`.
pub(super) fn take_from(
    input: &[usize],
    begin: &[usize],
    stride: &[isize],
    dims: &[usize],
    element: usize,
) -> StridedCopy {
    let packed = packed_strides(input, element);
    StridedCopy {
        dims: dims.to_vec(),
        in_offset: offset(begin, &packed),
        in_strides: packed.iter().zip(stride).map(|(a, b)| a * b).collect(),
        out_strides: packed_strides(dims, element),
        out_offset: 0,
        run: element,
    }
    .simplified()
}

/// Output axis `i` is input axis `axes[i]`.
pub(super) fn transpose(input: &[usize], axes: &[usize], element: usize) -> StridedCopy {
    let packed = packed_strides(input, element);
    let dims: Vec<usize> = axes.iter().map(|&axis| input[axis]).collect();
    StridedCopy {
        in_strides: axes.iter().map(|&axis| packed[axis]).collect(),
        in_offset: 0,
        out_strides: packed_strides(&dims, element),
        out_offset: 0,
        run: element,
        dims,
    }
    .simplified()
}

fn offset(index: &[usize], strides: &[isize]) -> usize {
    let parts = index.iter().zip(strides);
    parts.map(|(&at, &stride)| at * stride as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_land_where_they_belong() {
        let copy = place_into(&[2, 1], &[2, 3], &[0, 2], 1);
        let mut out = [0; 6];
        copy.run(&[7, 8], &mut out);
        assert_eq!(out, [0, 0, 7, 0, 0, 8]);
        let copy = take_from(&[2, 3], &[1, 2], &[-1, -2], &[2, 2], 1);
        let mut part = [0; 4];
        copy.run(&[1, 2, 3, 4, 5, 6], &mut part);
        assert_eq!(part, [6, 4, 3, 1]);
        let copy = transpose(&[1, 2, 3], &[2, 0, 1], 1);
        let mut turned = [0; 6];
        copy.run(&[1, 2, 3, 4, 5, 6], &mut turned);
        assert_eq!(turned, [1, 4, 2, 5, 3, 6]);
    }
}
