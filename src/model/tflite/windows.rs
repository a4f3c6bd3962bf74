//! Padding schemes become explicit padding.

use tract_tflite::tflite::Padding;

use crate::graph::Padding2d;

/// The padding of both directions, or a reason why there is none.
pub(super) fn padding(
    scheme: Padding,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) -> Result<Padding2d, String> {
    let reach = |axis: usize| {
        let gaps = kernel[axis].checked_sub(1)?;
        gaps.checked_mul(dilation[axis])?.checked_add(1)
    };
    match scheme {
        Padding::VALID => Ok(Padding2d::default()),
        Padding::SAME => match (reach(0), reach(1)) {
            (Some(rows), Some(columns)) => Padding2d::same(size, [rows, columns], stride),
            _ => None,
        }
        .ok_or_else(|| "its kernel, stride or dilation is out of range".into()),
        Padding(other) => Err(format!("padding scheme {other} is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
