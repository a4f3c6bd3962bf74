//! Padding schemes become explicit padding.

use tract_tflite::tflite::Padding;

use crate::graph::Padding2d;

/// Padding before and after `size` elements under a window of `window` (dilation included).
///
/// SAME: `out = ceil(size / stride)`, `total = max((out - 1) * stride + window - size, 0)`, of which half, rounded
/// down, comes before (tensorflow/lite/kernels/padding.h).
fn same(size: usize, window: usize, stride: usize) -> Option<[usize; 2]> {
    let outputs = size
        .checked_add(stride)?
        .checked_sub(1)?
        .checked_div(stride)?;
    let covered = outputs
        .checked_sub(1)?
        .checked_mul(stride)?
        .checked_add(window)?;
    let total = covered.saturating_sub(size);
    Some([total / 2, total - total / 2])
}

/// The padding of both directions, or a reason why there is none.
pub(super) fn padding(
    scheme: Padding,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) -> Result<Padding2d, String> {
    let mut pads = [[0; 2]; 2];
    match scheme {
        Padding::VALID => {}
        Padding::SAME => {
            for (i, pad) in pads.iter_mut().enumerate() {
                *pad = kernel[i]
                    .checked_sub(1)
                    .and_then(|gaps| gaps.checked_mul(dilation[i])?.checked_add(1))
                    .and_then(|window| same(size[i], window, stride[i]))
                    .ok_or("its kernel, stride or dilation is out of range")?;
            }
        }
        Padding(other) => return Err(format!("padding scheme {other} is unknown")),
    }
    let [[top, bottom], [left, right]] = pads;
    Ok(Padding2d {
        top,
        bottom,
        left,
        right,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_puts_the_odd_row_behind() {
        assert_eq!(same(300, 3, 2), Some([0, 1]));
        assert_eq!(same(7, 3, 1), Some([1, 1]));
        assert_eq!(same(257, 3, 2), Some([1, 1]));
        assert_eq!(same(8, 1, 2), Some([0, 0]));
        assert_eq!(same(8, 3, 0), None);
    }

    #[test]
    fn dilation_widens_the_window() {
        let padding = |scheme| padding(scheme, [10, 12], [3, 1], [1, 1], [4, 9]);
        let expected = Padding2d {
            top: 4,
            bottom: 4,
            left: 0,
            right: 0,
        };
        assert_eq!(padding(Padding::SAME), Ok(expected));
        assert_eq!(padding(Padding::VALID), Ok(Padding2d::default()));
        assert!(padding(Padding(7)).is_err());
    }
}
