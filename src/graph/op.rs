//! The operators. Layouts: feature maps NHWC; convolution weights OHWI; depthwise weights 1HWO; fully connected OI.

/// A clamp on the real value of a result, fused into the operator that makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `min(max(x, -1), 1)`
    ReluN1To1,
}

/// Rows and columns of zeros (the zero point, in codes) around a feature map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding2d {
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
}

impl Padding2d {
    /// TFLite's and TensorFlow's scheme SAME for a picture of `size` under a window of `reach` (dilation included), rows
    /// and columns each: `out = ceil(size / stride)`, `total = max((out - 1) * stride + reach - size, 0)`, of which
    /// half, rounded down, comes before (tensorflow/lite/kernels/padding.h). `None` if a number is out of range.
    pub fn same(size: [usize; 2], reach: [usize; 2], stride: [usize; 2]) -> Option<Self> {
        let pads = |axis: usize| {
            let (size, stride) = (size[axis], stride[axis]);
            let outputs = size
                .checked_add(stride)?
                .checked_sub(1)?
                .checked_div(stride)?;
            let steps = outputs.checked_sub(1)?.checked_mul(stride)?;
            let total = steps.checked_add(reach[axis])?.saturating_sub(size);
            Some([total / 2, total - total / 2])
        };
        let ([top, bottom], [left, right]) = (pads(0)?, pads(1)?);
        Some(Self {
            top,
            bottom,
            left,
            right,
        })
    }
}

/// Geometry of a two-dimensional convolution. `stride` and `dilation` are `[rows, columns]`, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding2d,
    pub activation: Activation,
}

/// Geometry of pooling. Average pooling divides by the number of elements inside the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    pub window: [usize; 2],
    pub stride: [usize; 2],
    pub padding: Padding2d,
    pub activation: Activation,
}

/// Which point of the source a pixel of the target reads (TFLite's `align_corners`, `half_pixel_centers`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeMode {
    /// `source = target * in / out`
    Asymmetric,
    /// `source = target * (in - 1) / (out - 1)`
    AlignCorners,
    /// `source = (target + 0.5) * in / out - 0.5`
    HalfPixelCenters,
}

/// Output axis `i` is input axis `self.0[i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransposedAxes(pub Vec<usize>);

/// Options of TFLite_Detection_PostProcess (tensorflow/lite/kernels/detection_postprocess.cc).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectionPostProcess {
    /// Boxes in all, at least 1.
    pub max_detections: usize,
    /// Fast NMS: classes of one anchor that may each give a box.
    pub max_classes_per_detection: usize,
    /// Regular NMS: boxes of one class.
    pub detections_per_class: usize,
    /// NMS for each class on its own.
    pub use_regular_nms: bool,
    /// Scores below it never become boxes.
    pub nms_score_threshold: f32,
    /// A box that overlaps a better one by more than this IoU is dropped; in (0, 1].
    pub nms_iou_threshold: f32,
    /// Classes without the background.
    pub num_classes: usize,
    /// Divisors of the box encodings: y, x, height, width.
    pub scale: [f32; 4],
}

/// Rounding of real values to the grid of codes of `scale` and `zero_point` from `lowest` to `highest`: what quantization
/// does to them, still real (Jacob et al., arXiv:1712.05877, section 3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FakeQuantize {
    /// Finite and above 0.
    pub scale: f32,
    pub zero_point: i32,
    pub lowest: i32,
    pub highest: i32,
}

/// An operator with its attributes. Inputs are given in the order that each variant names.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// x, weights `[out, kernel rows, kernel columns, in]`, optional bias `[out]`
    Conv2d(Conv2d),
    /// x `[n, h, w, c]`, weights `[1, kernel rows, kernel columns, c * multiplier]`, optional bias; output channel
    /// `o` reads input channel `o / multiplier`
    DepthwiseConv2d(Conv2d),
    /// x `[..., in]`, weights `[out, in]`, optional bias `[out]`; output `[x elements / in, out]`
    FullyConnected(Activation),
    /// a, b: broadcast as NumPy does
    Add(Activation),
    /// a, b: broadcast as NumPy does
    Sub(Activation),
    /// a, b: broadcast as NumPy does
    Mul(Activation),
    /// any number of inputs, joined along `axis`
    Concat { axis: usize },
    /// x: same elements, the output value's shape
    Reshape,
    /// x: `[before, after]` of zeros (the zero point, in codes) for each axis
    Pad { pads: Vec<[usize; 2]> },
    /// x
    AvgPool2d(Pool2d),
    /// x
    MaxPool2d(Pool2d),
    /// x: mean over `axes` (sorted, distinct); the output value's shape tells whether they are kept
    Mean { axes: Vec<usize> },
    /// x: along the last axis, `exp(beta * x)` normalized
    Softmax { beta: f32 },
    /// x
    Logistic,
    /// x: a clamp on its own
    Activation(Activation),
    /// x: `x * relu6(x + 3) / 6`
    HardSwish,
    /// x: to the height and width of the output value's shape
    ResizeNearest(ResizeMode),
    /// x: to the height and width of the output value's shape
    ResizeBilinear(ResizeMode),
    /// x: real values to codes, or codes to codes of another scale or type
    Quantize,
    /// x: codes to real values
    Dequantize,
    /// x, real: simulates quantization
    FakeQuantize(FakeQuantize),
    /// equal shapes, stacked along a new `axis`
    Pack { axis: usize },
    /// x: into as many equal parts along `axis` as there are outputs
    Split { axis: usize },
    /// x: `begin`, `end` (exclusive) and `stride` (not 0; negative walks back, then `end` may be -1) for each axis;
    /// the output value's shape may drop axes of one element
    StridedSlice {
        begin: Vec<i64>,
        end: Vec<i64>,
        stride: Vec<i64>,
    },
    /// x
    Transpose(TransposedAxes),
    /// x: index of the largest element along `axis`, int32
    ArgMax { axis: usize },
    /// x `[n, h, w, c]` to `[n * blocks, ...]`; `pads` are `[before, after]` of rows and columns
    SpaceToBatch {
        block: [usize; 2],
        pads: [[usize; 2]; 2],
    },
    /// x `[n * blocks, ...]` to `[n, h, w, c]`
    BatchToSpace {
        block: [usize; 2],
        crops: [[usize; 2]; 2],
    },
    /// box encodings `[1, anchors, 4]`, class scores `[1, anchors, classes with background]`, anchors `[anchors, 4]`
    /// (y, x, height, width); outputs boxes `[1, n, 4]` (ymin, xmin, ymax, xmax), classes `[1, n]`, scores `[1, n]`,
    /// count `[1]`, all f32
    DetectionPostProcess(DetectionPostProcess),
}

impl Op {
    /// Whether the operator multiplies its first input with constant weights, its second.
    pub fn has_weights(&self) -> bool {
        matches!(
            self,
            Self::Conv2d(_) | Self::DepthwiseConv2d(_) | Self::FullyConnected(_)
        )
    }

    /// The operator's name as TFLite writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "CONV_2D",
            Self::DepthwiseConv2d(_) => "DEPTHWISE_CONV_2D",
            Self::FullyConnected(_) => "FULLY_CONNECTED",
            Self::Add(_) => "ADD",
            Self::Sub(_) => "SUB",
            Self::Mul(_) => "MUL",
            Self::Concat { .. } => "CONCATENATION",
            Self::Reshape => "RESHAPE",
            Self::Pad { .. } => "PAD",
            Self::AvgPool2d(_) => "AVERAGE_POOL_2D",
            Self::MaxPool2d(_) => "MAX_POOL_2D",
            Self::Mean { .. } => "MEAN",
            Self::Softmax { .. } => "SOFTMAX",
            Self::Logistic => "LOGISTIC",
            Self::Activation(Activation::None) => "IDENTITY",
            Self::Activation(Activation::Relu) => "RELU",
            Self::Activation(Activation::Relu6) => "RELU6",
            Self::Activation(Activation::ReluN1To1) => "RELU_N1_TO_1",
            Self::HardSwish => "HARD_SWISH",
            Self::ResizeNearest(_) => "RESIZE_NEAREST_NEIGHBOR",
            Self::ResizeBilinear(_) => "RESIZE_BILINEAR",
            Self::Quantize => "QUANTIZE",
            Self::Dequantize => "DEQUANTIZE",
            Self::FakeQuantize(_) => "FAKE_QUANT",
            Self::Pack { .. } => "PACK",
            Self::Split { .. } => "SPLIT",
            Self::StridedSlice { .. } => "STRIDED_SLICE",
            Self::Transpose(_) => "TRANSPOSE",
            Self::ArgMax { .. } => "ARG_MAX",
            Self::SpaceToBatch { .. } => "SPACE_TO_BATCH_ND",
            Self::BatchToSpace { .. } => "BATCH_TO_SPACE_ND",
            Self::DetectionPostProcess(_) => "TFLite_Detection_PostProcess",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_puts_the_odd_row_behind() {
        let same = |size, reach, stride| {
            let padding = Padding2d::same([size, 8], [reach, 1], [stride, 2])?;
            assert_eq!((padding.left, padding.right), (0, 0));
            Some([padding.top, padding.bottom])
        };
        assert_eq!(same(300, 3, 2), Some([0, 1]));
        assert_eq!(same(7, 3, 1), Some([1, 1]));
        assert_eq!(same(257, 3, 2), Some([1, 1]));
        assert_eq!(same(8, 1, 2), Some([0, 0]));
        assert_eq!(same(8, 3, 0), None);
    }
}
