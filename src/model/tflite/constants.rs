//! Tensors of the file: element types, quantization parameters, constant data.

use tract_tflite::tflite::{Tensor, TensorType};

use crate::tensor::{DType, QuantParams, Shape, TensorData};

/// What the graph calls an element type. 64-bit integers only count and index, so they become 32-bit ones; half
/// precision constants become single precision.
pub(super) fn dtype(tensor: Tensor<'_>, constant: bool) -> Option<DType> {
    match tensor.type_() {
        TensorType::FLOAT32 => Some(DType::F32),
        TensorType::FLOAT16 if constant => Some(DType::F32),
        TensorType::INT32 => Some(DType::I32),
        TensorType::INT64 if constant => Some(DType::I32),
        TensorType::UINT8 => Some(DType::U8),
        TensorType::INT8 => Some(DType::I8),
        _ => None,
    }
}

/// The schema's name of an element type, in small letters.
pub(super) fn type_name(tensor: Tensor<'_>) -> String {
    match tensor.type_().variant_name() {
        Some(name) => name.to_lowercase(),
        None => format!("element type {}", tensor.type_().0),
    }
}

/// The declared shape, or `None` if a dimension is not positive or the tensor too large.
pub(super) fn shape(tensor: Tensor<'_>) -> Option<Shape> {
    let dims: Option<Vec<usize>> = tensor
        .shape()
        .into_iter()
        .flatten()
        .take(9)
        .map(|dim| usize::try_from(dim).ok().filter(|&dim| dim > 0))
        .collect();
    Shape::checked(dims?)
}

/// Quantization parameters; `None` where there are none. A file may leave zero points out, or give one for all.
pub(super) fn quantization(tensor: Tensor<'_>) -> Result<Option<QuantParams>, String> {
    let Some(parameters) = tensor.quantization() else {
        return Ok(None);
    };
    let scales: Vec<f32> = parameters.scale().into_iter().flatten().collect();
    if scales.is_empty() {
        return Ok(None);
    }
    let zero_points: Result<Vec<i32>, _> = parameters
        .zero_point()
        .into_iter()
        .flatten()
        .map(i32::try_from)
        .collect();
    let mut zero_points = zero_points.map_err(|_| "a zero point is out of range")?;
    if zero_points.len() <= 1 {
        zero_points.resize(scales.len(), zero_points.first().copied().unwrap_or(0));
    }
    let axis = usize::try_from(parameters.quantized_dimension())
        .map_err(|_| "its quantized dimension is negative")?;
    Ok(Some(QuantParams {
        axis: if scales.len() > 1 { axis } else { 0 },
        scales,
        zero_points,
    }))
}

/// The elements in a buffer. The caller has made sure that so many elements may be allocated.
pub(super) fn data(kind: TensorType, bytes: &[u8], elements: usize) -> Result<TensorData, String> {
    let size = match kind {
        TensorType::UINT8 | TensorType::INT8 => 1,
        TensorType::FLOAT16 => 2,
        TensorType::FLOAT32 | TensorType::INT32 => 4,
        TensorType::INT64 => 8,
        _ => return Err("its element type is not supported".into()),
    };
    if elements.checked_mul(size) != Some(bytes.len()) {
        return Err(format!(
            "it has {} bytes of data for {elements} elements",
            bytes.len()
        ));
    }
    Ok(match kind {
        TensorType::UINT8 => TensorData::U8(bytes.to_vec()),
        TensorType::INT8 => TensorData::I8(bytes.iter().map(|&byte| byte.cast_signed()).collect()),
        TensorType::FLOAT16 => TensorData::F32(
            words(bytes)
                .map(|word| half_to_single(u16::from_le_bytes(word)))
                .collect(),
        ),
        TensorType::FLOAT32 => TensorData::F32(words(bytes).map(f32::from_le_bytes).collect()),
        TensorType::INT32 => TensorData::I32(words(bytes).map(i32::from_le_bytes).collect()),
        _ => TensorData::I32(
            words(bytes)
                .map(|word| saturate(i64::from_le_bytes(word)))
                .collect(),
        ),
    })
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// The nearest 32-bit value.
pub(super) fn saturate(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

/// IEEE 754 binary16 to binary32, exact.
fn half_to_single(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(half >> 10 & 0x1f);
    let fraction = f32::from(half & 0x3ff) / 1024.0;
    sign * match exponent {
        0 => fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ];
        for (half, single) in cases {
            assert_eq!(half_to_single(half), single, "{half:#06x}");
        }
        assert!(half_to_single(0x7e00).is_nan());
    }

    #[test]
    fn data_must_have_the_size_of_the_shape() {
        assert_eq!(
            data(TensorType::INT64, &(-1i64 << 40).to_le_bytes(), 1),
            Ok(TensorData::I32(vec![i32::MIN]))
        );
        assert!(data(TensorType::FLOAT32, &[0; 7], 2).is_err());
        assert!(data(TensorType::UINT8, &[], usize::MAX).is_err());
    }
}
