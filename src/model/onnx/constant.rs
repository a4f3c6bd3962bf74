//! Tensors whose data is known: initializers, and what follows from them.

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use crate::tensor::{QuantParams, Shape};

/// A tensor of the file with its data, axes in the file's order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub dims: Vec<usize>,
    pub data: Elements,
    /// Codes with these stand for real values.
    pub quant: Option<QuantParams>,
}

/// Elements of a constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Elements {
    F32(Vec<f32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

impl Elements {
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::U8(data) => data.len(),
            Self::I8(data) => data.len(),
            Self::I32(data) => data.len(),
            Self::I64(data) => data.len(),
        }
    }

    /// The elements at these positions, which exist.
    pub fn take(&self, positions: &[usize]) -> Self {
        fn at<T: Copy>(data: &[T], positions: &[usize]) -> Vec<T> {
            positions.iter().map(|&position| data[position]).collect()
        }
        match self {
            Self::F32(data) => Self::F32(at(data, positions)),
            Self::U8(data) => Self::U8(at(data, positions)),
            Self::I8(data) => Self::I8(at(data, positions)),
            Self::I32(data) => Self::I32(at(data, positions)),
            Self::I64(data) => Self::I64(at(data, positions)),
        }
    }
}

impl Constant {
    pub fn new(dims: Vec<usize>, data: Elements) -> Self {
        Self {
            dims,
            data,
            quant: None,
        }
    }

    /// Integers of any width.
    pub fn integers(&self) -> Option<Vec<i64>> {
        match &self.data {
            Elements::U8(data) => Some(data.iter().map(|&x| x.into()).collect()),
            Elements::I8(data) => Some(data.iter().map(|&x| x.into()).collect()),
            Elements::I32(data) => Some(data.iter().map(|&x| x.into()).collect()),
            Elements::I64(data) => Some(data.clone()),
            Elements::F32(_) => None,
        }
    }

    /// Real values, of codes that stand for them too.
    pub fn reals(&self) -> Option<Vec<f32>> {
        if let (Elements::F32(data), None) = (&self.data, &self.quant) {
            return Some(data.clone());
        }
        let quant = self.quant.as_ref()?;
        let (codes, channels) = (self.integers()?, quant.scales.len());
        let inner: usize = self.dims.iter().skip(quant.axis + 1).product();
        let real = |(index, code): (usize, i64)| {
            let channel = match channels {
                1 => 0,
                _ => index / inner.max(1) % channels,
            };
            quant.scales[channel] * (code - i64::from(quant.zero_points[channel])) as f32
        };
        Some(codes.into_iter().enumerate().map(real).collect())
    }

    /// The only element as a real value.
    pub fn scalar(&self) -> Option<f32> {
        match self.reals()?[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]`.
    pub fn permuted(&self, order: &[usize]) -> Self {
        let strides: Vec<usize> = (0..self.dims.len())
            .map(|axis| self.dims[axis + 1..].iter().product())
            .collect();
        let dims: Vec<usize> = order.iter().map(|&axis| self.dims[axis]).collect();
        let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
        let mut positions = vec![0];
        for (&dim, &step) in dims.iter().zip(&steps) {
            positions = positions
                .iter()
                .flat_map(|&start| (0..dim).map(move |at| start + at * step))
                .collect();
        }
        let quant = self.quant.clone().map(|quant| QuantParams {
            axis: match quant.is_per_channel() {
                true => order
                    .iter()
                    .position(|&axis| axis == quant.axis)
                    .unwrap_or(0),
                false => 0,
            },
            ..quant
        });
        Self {
            dims,
            data: self.data.take(&positions),
            quant,
        }
    }

    /// The same elements under other dimensions of as many elements. Per-channel codes only keep their axis.
    pub fn reshaped(&self, dims: Vec<usize>) -> Option<Self> {
        let mut quant = self.quant.clone();
        if let Some(quant) = quant.as_mut().filter(|quant| quant.is_per_channel()) {
            let channels = quant.scales.len();
            let before: usize = self.dims[..quant.axis].iter().product();
            let is_axis = |&axis: &usize| {
                dims[axis] == channels && dims[..axis].iter().product::<usize>() == before
            };
            quant.axis = (0..dims.len()).find(is_axis)?;
        }
        (dims.iter().product::<usize>() == self.data.len()).then(|| Self {
            dims,
            data: self.data.clone(),
            quant,
        })
    }
}

/// Reads a tensor of the file.
pub(super) fn read(tensor: &TensorProto) -> Result<Constant, String> {
    if !tensor.external_data.is_empty() || tensor.data_location.unwrap_or(0) != 0 {
        return Err("its data lie in another file; save the model as one file".into());
    }
    let dims: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect();
    let shape = dims.and_then(Shape::checked);
    let shape = shape.ok_or_else(|| {
        let dims = &tensor.dims[..tensor.dims.len().min(9)];
        format!("it has the impossible shape {dims:?}")
    })?;
    let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let raw = &tensor.raw_data;
    let data = match kind {
        DataType::Float if raw.is_empty() => Elements::F32(tensor.float_data.clone()),
        DataType::Float => Elements::F32(words(raw, f32::from_le_bytes)?),
        DataType::Double if raw.is_empty() => {
            Elements::F32(tensor.double_data.iter().map(|&x| x as f32).collect())
        }
        DataType::Double => Elements::F32(words(raw, |word| f64::from_le_bytes(word) as f32)?),
        DataType::Uint8 if raw.is_empty() => Elements::U8(narrow(&tensor.int32_data)?),
        DataType::Uint8 => Elements::U8(raw.clone()),
        DataType::Int8 if raw.is_empty() => Elements::I8(narrow(&tensor.int32_data)?),
        DataType::Int8 => Elements::I8(raw.iter().map(|&byte| byte as i8).collect()),
        DataType::Int32 if raw.is_empty() => Elements::I32(tensor.int32_data.clone()),
        DataType::Int32 => Elements::I32(words(raw, i32::from_le_bytes)?),
        DataType::Int64 if raw.is_empty() => Elements::I64(tensor.int64_data.clone()),
        DataType::Int64 => Elements::I64(words(raw, i64::from_le_bytes)?),
        DataType::Bool if raw.is_empty() => Elements::U8(narrow(&tensor.int32_data)?),
        DataType::Bool => Elements::U8(raw.clone()),
        other => return Err(format!("it is of {}", type_name(other))),
    };
    if data.len() != shape.elements() {
        return Err(format!(
            "it has {} elements of data for shape {shape}",
            data.len()
        ));
    }
    Ok(Constant::new(shape.dims().to_vec(), data))
}

fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Result<Vec<T>, String> {
    match bytes.as_chunks::<N>() {
        (words, []) => Ok(words.iter().map(|&word| read(word)).collect()),
        _ => Err(format!(
            "its {} bytes of data are no whole elements",
            bytes.len()
        )),
    }
}

fn narrow<T: TryFrom<i32>>(values: &[i32]) -> Result<Vec<T>, String> {
    let narrowed = values.iter().map(|&value| T::try_from(value).ok());
    let narrowed: Option<Vec<T>> = narrowed.collect();
    narrowed.ok_or_else(|| "one of its elements is out of range".into())
}

/// The name of an element type as ONNX has it, in small letters.
pub(super) fn type_name(kind: DataType) -> String {
    match kind {
        DataType::Undefined => "an unknown element type".into(),
        kind => kind.as_str_name().to_lowercase(),
    }
}
