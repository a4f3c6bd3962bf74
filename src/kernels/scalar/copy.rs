//! Moving elements without changing them.

/// Moves `dims.len()` nested runs of `run` bytes from one place to another. Strides and offsets are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StridedCopy {
    pub dims: Vec<usize>,
    pub in_strides: Vec<isize>,
    pub in_offset: usize,
    pub out_strides: Vec<isize>,
    pub out_offset: usize,
    /// Bytes that lie together on both sides.
    pub run: usize,
}

/// The most dimensions that a copy has.
pub const MAX_RANK: usize = 8;

impl StridedCopy {
    /// Joins inner dimensions that lie together on both sides into the run, and drops dimensions of one element.
    pub fn simplified(mut self) -> Self {
        let mut kept = Self {
            dims: vec![],
            in_strides: vec![],
            out_strides: vec![],
            ..self.clone()
        };
        while let Some(dim) = self.dims.pop() {
            let strides = (self.in_strides.pop(), self.out_strides.pop());
            let (Some(input), Some(out)) = strides else {
                break;
            };
            if dim == 1 {
                continue;
            }
            let run = kept.run as isize;
            if kept.dims.is_empty() && input == run && out == run {
                kept.run *= dim;
            } else {
                kept.dims.insert(0, dim);
                kept.in_strides.insert(0, input);
                kept.out_strides.insert(0, out);
            }
        }
        kept
    }

    /// Copies. Every place that the strides reach lies inside the slices: whoever makes the copy sees to it.
    pub fn run(&self, input: &[i8], out: &mut [i8]) {
        let rank = self.dims.len();
        let mut index = [0usize; MAX_RANK];
        let (mut from, mut to) = (self.in_offset as isize, self.out_offset as isize);
        loop {
            let (source, target) = (from as usize, to as usize);
            out[target..target + self.run].copy_from_slice(&input[source..source + self.run]);
            let mut axis = rank;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                from += self.in_strides[axis];
                to += self.out_strides[axis];
                if index[axis] < self.dims[axis] {
                    break;
                }
                from -= self.in_strides[axis] * self.dims[axis] as isize;
                to -= self.out_strides[axis] * self.dims[axis] as isize;
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_walks_both_strides() {
        let copy = StridedCopy {
            dims: vec![3, 2],
            in_strides: vec![1, 3],
            out_strides: vec![2, 1],
            run: 1,
            ..StridedCopy::default()
        };
        let mut out = [0; 6];
        copy.run(&[1, 2, 3, 4, 5, 6], &mut out);
        assert_eq!(out, [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn what_lies_together_is_one_run() {
        let copy = StridedCopy {
            dims: vec![2, 1, 2, 3],
            in_strides: vec![12, 12, 3, 1],
            out_strides: vec![6, 6, 3, 1],
            run: 1,
            ..StridedCopy::default()
        }
        .simplified();
        assert_eq!((copy.dims.as_slice(), copy.run), ([2].as_slice(), 6));
        let input: Vec<i8> = (0..24).collect();
        let mut out = [0; 12];
        copy.run(&input, &mut out);
        assert_eq!(out, [0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17]);
    }

    #[test]
    fn a_negative_stride_walks_back() {
        let copy = StridedCopy {
            dims: vec![3],
            in_strides: vec![-2],
            in_offset: 4,
            out_strides: vec![1],
            run: 1,
            ..StridedCopy::default()
        };
        let mut out = [0; 3];
        copy.run(&[1, 2, 3, 4, 5], &mut out);
        assert_eq!(out, [5, 3, 1]);
    }
}
