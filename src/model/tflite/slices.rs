//! SLICE and STRIDED_SLICE: masks, negative indices and open ends become explicit ranges.

use tract_tflite::tflite::BuiltinOperator as B;

use super::import::{Importer, Site};
use crate::error::Result;
use crate::graph::{Op, ValueId, shape};
use crate::tensor::Shape;

/// Where a slice of every axis begins and ends, and the shape that it leaves.
pub(super) struct Slice {
    pub begin: Vec<i64>,
    pub end: Vec<i64>,
    pub stride: Vec<i64>,
    pub shape: Vec<usize>,
}

pub(super) fn import<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let slice = resolve(importer, site, x)?;
    let declared =
        Shape::checked(slice.shape).ok_or_else(|| site.damaged("its output is too large"))?;
    let op = Op::StridedSlice {
        begin: slice.begin,
        end: slice.end,
        stride: slice.stride,
    };
    importer.emit(site, op, vec![x], &declared)
}

/// SLICE reads `x, begin, size` (size -1: to the end); STRIDED_SLICE `x, begin, end, stride` and bit masks.
pub(super) fn resolve<'a>(
    importer: &mut Importer<'a>,
    site: &Site<'a>,
    x: ValueId,
) -> Result<Slice> {
    let dims = importer.shape(x).dims().to_vec();
    let begin = importer.integers(site, 1)?;
    let second = importer.integers(site, 2)?;
    let (stride, masks) = match site.builtin {
        B::SLICE => (vec![1; begin.len()], [0; 3]),
        _ => (importer.integers(site, 3)?, slice_masks(site)?),
    };
    let count = begin.len();
    if second.len() != count || stride.len() != count || count > dims.len() {
        return Err(site.damaged("begin, end and stride do not fit its input"));
    }
    let mut slice = Slice {
        begin: vec![],
        end: vec![],
        stride: vec![],
        shape: vec![],
    };
    for (i, &dim) in dims.iter().enumerate() {
        let size = i64::try_from(dim).map_err(|_| site.damaged("its input is too large"))?;
        let asked = (i < count).then(|| [begin[i], second[i], stride[i]]);
        let set = |mask: i32| i < 31 && mask >> i & 1 == 1;
        let [first, last, step] = match asked {
            None => [0, size, 1],
            Some([b, length, _]) if site.builtin == B::SLICE => {
                let e = if length == -1 {
                    size
                } else {
                    b.saturating_add(length)
                };
                [b, e, 1]
            }
            Some(asked) => strided_axis(asked, size, masks.map(set)),
        };
        if step == 0 || (set(masks[2]) && i < count && !(0..size).contains(&first)) {
            return Err(site.damaged(format!("its slice of axis {i} is out of range")));
        }
        if !(i < count && set(masks[2])) {
            slice.shape.push(shape::slice_length(first, last, step));
        }
        slice.begin.push(first);
        slice.end.push(last);
        slice.stride.push(step);
    }
    Ok(slice)
}

/// The masks of begin, end and of axes that are dropped.
fn slice_masks(site: &Site<'_>) -> Result<[i32; 3]> {
    let options = site.operator.builtin_options_as_strided_slice_options();
    let options = options.ok_or_else(|| site.damaged("it has no options"))?;
    if options.ellipsis_mask() != 0 || options.new_axis_mask() != 0 {
        return Err(site.unsupported("with ellipses or new axes", "convert the model again"));
    }
    Ok([
        options.begin_mask(),
        options.end_mask(),
        options.shrink_axis_mask(),
    ])
}

/// `begin`, `end` and `stride` of one axis inside `0..size`, or inside `-1..size` walking back
/// (tensorflow/lite/kernels/internal/strided_slice_logic.h).
fn strided_axis(
    [begin, end, stride]: [i64; 3],
    size: i64,
    [open_begin, open_end, shrink]: [bool; 3],
) -> [i64; 3] {
    let (least, most) = if stride < 0 {
        (-1, size - 1)
    } else {
        (0, size)
    };
    let inside = |value: i64| {
        let value = if value < 0 {
            value.saturating_add(size)
        } else {
            value
        };
        value.clamp(least, most)
    };
    let (from, to) = if stride < 0 {
        (most, least)
    } else {
        (least, most)
    };
    if shrink {
        let begin = if begin < 0 {
            begin.saturating_add(size)
        } else {
            begin
        };
        return [begin, begin.saturating_add(1), 1];
    }
    [
        if open_begin { from } else { inside(begin) },
        if open_end { to } else { inside(end) },
        stride,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_axes_follow_the_masks() {
        let none = [false; 3];
        assert_eq!(strided_axis([1, 9, 2], 5, none), [1, 5, 2]);
        assert_eq!(strided_axis([-2, -1, 1], 5, none), [3, 4, 1]);
        assert_eq!(strided_axis([-1, -9, -1], 5, none), [4, -1, -1]);
        assert_eq!(strided_axis([3, 2, 1], 5, [true, true, false]), [0, 5, 1]);
        assert_eq!(
            strided_axis([3, 2, -1], 5, [true, true, false]),
            [4, -1, -1]
        );
        assert_eq!(strided_axis([-1, 0, 1], 5, [false, false, true]), [4, 5, 1]);
    }
}
