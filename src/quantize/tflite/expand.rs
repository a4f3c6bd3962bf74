//! Operators in the words of the TFLite schema: padding schemes, and attributes that the schema keeps in tensors.

use tract_tflite::tflite::{BuiltinOperator as B, Padding};

use crate::error::{Error, Result};
use crate::graph::{Activation, Op, Padding2d};
use crate::quantize::lower::{Constant, Element, Lowered, Operator, Tensor};
use crate::tensor::Shape;

/// An operator of the file.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub builtin: B,
    pub op: Op,
    /// Meaningful for convolutions and pools.
    pub padding: Padding,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

/// All tensors and operators of the file.
#[derive(Debug)]
pub(super) struct Sheet {
    pub tensors: Vec<Tensor>,
    pub steps: Vec<Step>,
}

/// Expands a quantized model. `model` is for messages.
pub(super) fn expand(lowered: &Lowered, model: &str) -> Result<Sheet> {
    let mut sheet = Sheet {
        tensors: lowered.tensors.clone(),
        steps: Vec::with_capacity(lowered.operators.len()),
    };
    for operator in &lowered.operators {
        sheet.operator(operator, model)?;
    }
    Ok(sheet)
}

impl Sheet {
    fn operator(&mut self, operator: &Operator, model: &str) -> Result<()> {
        let Operator {
            op,
            inputs,
            outputs,
        } = operator;
        let (x, y) = (inputs[0], outputs[0]);
        let mut inputs = inputs.clone();
        let mut padding = Padding::VALID;
        match op {
            Op::Conv2d(conv) | Op::DepthwiseConv2d(conv) => {
                let kernel = self.rows_and_columns(inputs[1]);
                let reach = [0, 1].map(|i| (kernel[i] - 1) * conv.dilation[i] + 1);
                padding = match self.scheme(x, reach, conv.stride, conv.padding) {
                    Some(scheme) => scheme,
                    None => {
                        inputs[0] = self.padded(x, conv.padding);
                        Padding::VALID
                    }
                };
            }
            Op::AvgPool2d(pool) | Op::MaxPool2d(pool) => {
                let scheme = self.scheme(x, pool.window, pool.stride, pool.padding);
                padding = scheme.ok_or_else(|| Error::Unsupported {
                    model: model.into(),
                    feature: format!(
                        "{} padded by {:?} in a .tflite file",
                        op.name(),
                        pool.padding
                    ),
                    advice: "pad the picture by a PAD operator of its own".into(),
                })?;
            }
            Op::Pad { pads } => inputs.push(self.pairs(y, pads)),
            Op::Reshape | Op::Activation(Activation::None) => {
                let dims = self.dims(y);
                inputs.push(self.argument(y, "shape", &[dims.len()], &dims));
            }
            Op::Mean { axes } => inputs.push(self.argument(y, "axes", &[axes.len()], axes)),
            Op::ResizeNearest(_) | Op::ResizeBilinear(_) => {
                let size = self.rows_and_columns(y);
                inputs.push(self.argument(y, "size", &[2], &size));
            }
            Op::Split { axis } => inputs = vec![self.argument(y, "axis", &[], &[*axis]), x],
            Op::Transpose(axes) => inputs.push(self.argument(y, "axes", &[axes.0.len()], &axes.0)),
            Op::ArgMax { axis } => inputs.push(self.argument(y, "axis", &[], &[*axis])),
            Op::SpaceToBatch { block, pads } => {
                let block = self.argument(y, "block", &[2], block);
                inputs.extend([block, self.pairs(y, pads)]);
            }
            Op::BatchToSpace { block, crops } => {
                let block = self.argument(y, "block", &[2], block);
                inputs.extend([block, self.pairs(y, crops)]);
            }
            Op::StridedSlice { begin, end, stride } => {
                return self.strided_slice(operator, [begin, end, stride]);
            }
            _ => {}
        }
        self.push(op.clone(), padding, inputs, outputs.clone());
        Ok(())
    }

    fn push(&mut self, op: Op, padding: Padding, inputs: Vec<usize>, outputs: Vec<usize>) {
        self.steps.push(Step {
            builtin: builtin(&op),
            op,
            padding,
            inputs,
            outputs,
        });
    }

    fn dims(&self, tensor: usize) -> Vec<usize> {
        self.tensors[tensor].shape.dims().to_vec()
    }

    fn rows_and_columns(&self, tensor: usize) -> [usize; 2] {
        let dims = self.tensors[tensor].shape.dims();
        [1, 2].map(|axis| dims.get(axis).copied().unwrap_or(1))
    }

    /// The scheme that pads so, if there is one.
    fn scheme(
        &self,
        x: usize,
        reach: [usize; 2],
        stride: [usize; 2],
        padding: Padding2d,
    ) -> Option<Padding> {
        if padding == Padding2d::default() {
            return Some(Padding::VALID);
        }
        (Padding2d::same(self.rows_and_columns(x), reach, stride) == Some(padding))
            .then_some(Padding::SAME)
    }

    /// A PAD of the picture before a convolution.
    fn padded(&mut self, x: usize, padding: Padding2d) -> usize {
        let Padding2d {
            top,
            bottom,
            left,
            right,
        } = padding;
        let pads = [[0, 0], [top, bottom], [left, right], [0, 0]];
        let mut padded = self.tensors[x].clone();
        let dims = padded.shape.dims().iter().zip(pads);
        let dims = dims
            .map(|(dim, [before, after])| dim + before + after)
            .collect();
        padded.name += "/padded";
        padded.shape = Shape::checked(dims).unwrap_or_default();
        self.tensors.push(padded);
        let y = self.tensors.len() - 1;
        let inputs = vec![x, self.pairs(y, &pads)];
        let op = Op::Pad { pads: pads.into() };
        self.push(op, Padding::VALID, inputs, vec![y]);
        y
    }

    /// A slice that keeps every axis, and a reshape where axes are dropped.
    fn strided_slice(
        &mut self,
        operator: &Operator,
        [begin, end, stride]: [&[i64]; 3],
    ) -> Result<()> {
        let (x, y) = (operator.inputs[0], operator.outputs[0]);
        let axes = begin.len();
        let list = |values: &[i64]| Constant::Codes(values.to_vec());
        let inputs = vec![
            x,
            self.integers(y, "begin", &[axes], list(begin)),
            self.integers(y, "end", &[axes], list(end)),
            self.integers(y, "stride", &[axes], list(stride)),
        ];
        let length = |at: usize| {
            let (span, step) = (end[at] - begin[at], stride[at]);
            usize::try_from((span + step - step.signum()) / step).unwrap_or(0)
        };
        let kept = Shape::checked((0..axes).map(length).collect()).unwrap_or_default();
        let mut whole = y;
        if kept != self.tensors[y].shape {
            let mut tensor = self.tensors[y].clone();
            tensor.name += "/slice";
            tensor.shape = kept;
            self.tensors.push(tensor);
            whole = self.tensors.len() - 1;
        }
        self.push(operator.op.clone(), Padding::VALID, inputs, vec![whole]);
        if whole != y {
            let dims = self.dims(y);
            let shape = self.argument(y, "shape", &[dims.len()], &dims);
            self.push(Op::Reshape, Padding::VALID, vec![whole, shape], vec![y]);
        }
        Ok(())
    }

    /// A constant `[n, 2]` of int32.
    fn pairs(&mut self, of: usize, pairs: &[[usize; 2]]) -> usize {
        self.argument(of, "pads", &[pairs.len(), 2], pairs.as_flattened())
    }

    fn argument(&mut self, of: usize, role: &str, dims: &[usize], values: &[usize]) -> usize {
        let codes = values.iter().map(|&value| value as i64).collect();
        self.integers(of, role, dims, Constant::Codes(codes))
    }

    /// A constant of int32 that belongs to the maker of a tensor.
    fn integers(&mut self, of: usize, role: &str, dims: &[usize], data: Constant) -> usize {
        self.tensors.push(Tensor {
            name: format!("{}/{role}", self.tensors[of].name),
            shape: Shape::checked(dims.to_vec()).unwrap_or_default(),
            element: Element::I32,
            quant: None,
            data: Some(data),
        });
        self.tensors.len() - 1
    }
}

/// The schema's operator.
fn builtin(op: &Op) -> B {
    match op {
        Op::Conv2d(_) => B::CONV_2D,
        Op::DepthwiseConv2d(_) => B::DEPTHWISE_CONV_2D,
        Op::FullyConnected(_) => B::FULLY_CONNECTED,
        Op::Add(_) => B::ADD,
        Op::Sub(_) => B::SUB,
        Op::Mul(_) => B::MUL,
        Op::Concat { .. } => B::CONCATENATION,
        Op::Reshape | Op::Activation(Activation::None) => B::RESHAPE,
        Op::Pad { .. } => B::PAD,
        Op::AvgPool2d(_) => B::AVERAGE_POOL_2D,
        Op::MaxPool2d(_) => B::MAX_POOL_2D,
        Op::Mean { .. } => B::MEAN,
        Op::Softmax { .. } => B::SOFTMAX,
        Op::Logistic => B::LOGISTIC,
        Op::Activation(Activation::Relu) => B::RELU,
        Op::Activation(Activation::Relu6) => B::RELU6,
        Op::Activation(Activation::ReluN1To1) => B::RELU_N1_TO_1,
        Op::HardSwish => B::HARD_SWISH,
        Op::ResizeNearest(_) => B::RESIZE_NEAREST_NEIGHBOR,
        Op::ResizeBilinear(_) => B::RESIZE_BILINEAR,
        Op::Quantize => B::QUANTIZE,
        Op::Dequantize => B::DEQUANTIZE,
        Op::FakeQuantize(_) => B::FAKE_QUANT,
        Op::Pack { .. } => B::PACK,
        Op::Split { .. } => B::SPLIT,
        Op::StridedSlice { .. } => B::STRIDED_SLICE,
        Op::Transpose(_) => B::TRANSPOSE,
        Op::ArgMax { .. } => B::ARG_MAX,
        Op::SpaceToBatch { .. } => B::SPACE_TO_BATCH_ND,
        Op::BatchToSpace { .. } => B::BATCH_TO_SPACE_ND,
        Op::DetectionPostProcess(_) => B::CUSTOM,
    }
}
