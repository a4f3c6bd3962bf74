//! Which version of an operator a runtime must know (tensorflow/lite/tools/versioning/op_version.cc).

use tract_tflite::tflite::BuiltinOperator as B;

use super::expand::{Sheet, Step};
use crate::graph::{Op, ResizeMode};
use crate::quantize::lower::Element;

/// The least version of an operator that takes these types.
pub(super) fn version(step: &Step, sheet: &Sheet) -> i32 {
    let tensor = |position: usize| &sheet.tensors[step.inputs[position]];
    let of_input = |int8: i32, int16: i32| match tensor(0).element {
        Element::I8 => int8,
        Element::I16 => int16,
        _ => 1,
    };
    let weights = || {
        let is_hybrid = tensor(0).element == Element::F32 && tensor(1).element == Element::I8;
        let quant = tensor(1).quant.as_ref();
        (is_hybrid, quant.is_some_and(|quant| quant.is_per_channel()))
    };
    match (step.builtin, &step.op) {
        (B::CONV_2D, _) => match weights() {
            (true, true) => 5,
            (true, false) => 2,
            (false, _) => of_input(3, 1),
        },
        (B::DEPTHWISE_CONV_2D, Op::DepthwiseConv2d(conv)) => match weights() {
            (true, true) => 6,
            (true, false) => 4,
            (false, _) if tensor(0).element == Element::I8 => 3,
            (false, _) if conv.dilation != [1, 1] => 2,
            (false, _) => 1,
        },
        (B::FULLY_CONNECTED, _) => match weights() {
            (true, true) => 12,
            (true, false) => 3,
            (false, _) => of_input(4, 1),
        },
        (B::DEQUANTIZE, _) => match weights_scale(sheet, step) {
            true => 5,
            false => of_input(2, 3),
        },
        (B::QUANTIZE, _) => match sheet.tensors[step.outputs[0]].element {
            Element::I16 => 2,
            _ => 1,
        },
        (B::SPLIT, _) => match tensor(1).element {
            Element::I8 => 2,
            Element::I16 => 4,
            _ => 1,
        },
        (B::RESIZE_BILINEAR, Op::ResizeBilinear(mode)) => match mode {
            ResizeMode::HalfPixelCenters => of_input(3, 4).max(3),
            _ => of_input(2, 4),
        },
        (B::RESIZE_NEAREST_NEIGHBOR, Op::ResizeNearest(mode)) => match mode {
            ResizeMode::Asymmetric => of_input(2, 4),
            _ => of_input(3, 4).max(3),
        },
        (B::SUB, _) => of_input(2, 5),
        (B::MUL, _) => of_input(2, 4),
        (B::TRANSPOSE, _) => of_input(2, 5),
        (B::SPACE_TO_BATCH_ND | B::BATCH_TO_SPACE_ND, _) => of_input(2, 4),
        (B::STRIDED_SLICE | B::ARG_MAX, _) => of_input(2, 1),
        (
            B::ADD
            | B::AVERAGE_POOL_2D
            | B::MAX_POOL_2D
            | B::RELU
            | B::RELU6
            | B::PACK
            | B::LOGISTIC
            | B::PAD
            | B::CONCATENATION
            | B::SOFTMAX
            | B::MEAN,
            _,
        ) => of_input(2, 3),
        _ => 1,
    }
}

fn weights_scale(sheet: &Sheet, step: &Step) -> bool {
    let quant = &sheet.tensors[step.inputs[0]].quant;
    quant.as_ref().is_some_and(|quant| quant.is_per_channel())
}
