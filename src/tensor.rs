//! Shapes, element types, quantization parameters and the data of tensors.

use std::fmt;

/// Dimensions of a tensor, outermost first. Pictures and feature maps are NHWC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The largest number of elements that a tensor may have (2^28: a quarter of a gigabyte of codes).
    pub const MAX_ELEMENTS: usize = 1 << 28;

    /// A shape, or `None` if the number of elements is above [`Self::MAX_ELEMENTS`] or the rank above 8.
    pub fn checked(dims: Vec<usize>) -> Option<Self> {
        if dims.len() > 8 {
            return None;
        }
        let mut elements = 1usize;
        for &dim in &dims {
            elements = elements.checked_mul(dim)?;
        }
        (elements <= Self::MAX_ELEMENTS).then_some(Self(dims))
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements; 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// `[batch, height, width, channels]` of a tensor of rank 4.
    pub fn nhwc(&self) -> Option<[usize; 4]> {
        self.0.as_slice().try_into().ok()
    }

    /// The last dimension; 1 for a scalar.
    pub fn channels(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// For shapes known to be small; files go through [`Shape::checked`].
    fn from(dims: [usize; N]) -> Self {
        Self(dims.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Type of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    U8,
    I8,
    I32,
    F32,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I32 | Self::F32 => 4,
        }
    }

    /// The name that NumPy gives to it: `uint8`, `int8`, `int32`, `float32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::I32 => "int32",
            Self::F32 => "float32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Affine quantization: `real = scale * (code - zero_point)`.
///
/// Per tensor: one scale and one zero point. Per channel: as many as `axis` has elements.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    /// Real value of one step, finite and above 0.
    pub scales: Vec<f32>,
    /// Code of the real value 0, within the range of the element type. As long as `scales`.
    pub zero_points: Vec<i32>,
    /// The dimension that per-channel parameters run along; 0 when per tensor.
    pub axis: usize,
}

impl QuantParams {
    /// Per-tensor parameters.
    pub fn per_tensor(scale: f32, zero_point: i32) -> Self {
        Self {
            scales: vec![scale],
            zero_points: vec![zero_point],
            axis: 0,
        }
    }

    /// Whether there is a scale for every channel.
    pub fn is_per_channel(&self) -> bool {
        self.scales.len() > 1
    }

    /// The scale of a per-tensor quantization (the first one otherwise).
    pub fn scale(&self) -> f32 {
        self.scales[0]
    }

    /// The zero point of a per-tensor quantization (the first one otherwise).
    pub fn zero_point(&self) -> i32 {
        self.zero_points[0]
    }
}

/// Elements of a tensor, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    U8(Vec<u8>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    F32(Vec<f32>),
}

impl TensorData {
    /// A view of the elements.
    pub fn view(&self) -> TensorView<'_> {
        match self {
            Self::U8(data) => TensorView::U8(data),
            Self::I8(data) => TensorView::I8(data),
            Self::I32(data) => TensorView::I32(data),
            Self::F32(data) => TensorView::F32(data),
        }
    }
}

/// Elements of a tensor, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TensorView<'a> {
    U8(&'a [u8]),
    I8(&'a [i8]),
    I32(&'a [i32]),
    F32(&'a [f32]),
}

impl<'a> TensorView<'a> {
    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            Self::U8(_) => DType::U8,
            Self::I8(_) => DType::I8,
            Self::I32(_) => DType::I32,
            Self::F32(_) => DType::F32,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(data) => data.len(),
            Self::I8(data) => data.len(),
            Self::I32(data) => data.len(),
            Self::F32(data) => data.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements in memory order, little endian on every supported target.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::U8(data) => data,
            Self::I8(data) => bytemuck::cast_slice(data),
            Self::I32(data) => bytemuck::cast_slice(data),
            Self::F32(data) => bytemuck::cast_slice(data),
        }
    }

    /// A copy that owns its elements.
    pub fn to_data(&self) -> TensorData {
        match self {
            Self::U8(data) => TensorData::U8(data.to_vec()),
            Self::I8(data) => TensorData::I8(data.to_vec()),
            Self::I32(data) => TensorData::I32(data.to_vec()),
            Self::F32(data) => TensorData::F32(data.to_vec()),
        }
    }
}

/// What is known of a tensor without its data.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name in the model file.
    pub name: String,
    pub shape: Shape,
    pub dtype: DType,
    /// `None` for tensors that hold real values or plain integers.
    pub quant: Option<QuantParams>,
}
