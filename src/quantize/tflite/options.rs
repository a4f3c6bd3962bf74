//! Attributes of operators as the tables of the TFLite schema.

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use tract_tflite::tflite::{
    self, ActivationFunctionType, AddOptions, AddOptionsArgs, ArgMaxOptions, ArgMaxOptionsArgs,
    BuiltinOptions, ConcatenationOptions, ConcatenationOptionsArgs, Conv2DOptions,
    Conv2DOptionsArgs, DepthwiseConv2DOptions, DepthwiseConv2DOptionsArgs, FullyConnectedOptions,
    FullyConnectedOptionsArgs, MulOptions, MulOptionsArgs, PackOptions, PackOptionsArgs,
    Pool2DOptions, Pool2DOptionsArgs, ReducerOptions, ReducerOptionsArgs, ReshapeOptions,
    ReshapeOptionsArgs, ResizeBilinearOptions, ResizeBilinearOptionsArgs,
    ResizeNearestNeighborOptions, ResizeNearestNeighborOptionsArgs, SoftmaxOptions,
    SoftmaxOptionsArgs, SplitOptions, SplitOptionsArgs, StridedSliceOptions,
    StridedSliceOptionsArgs, SubOptions, SubOptionsArgs, TensorType,
};

use super::expand::{Sheet, Step};
use crate::graph::{Activation, Conv2d, DetectionPostProcess, Op, Pool2d, ResizeMode};

type Options = (BuiltinOptions, Option<WIPOffset<UnionWIPOffset>>);

/// The table of an operator's attributes, if it has any.
pub(super) fn options(builder: &mut FlatBufferBuilder<'_>, step: &Step, sheet: &Sheet) -> Options {
    let shape = |tensor: usize| &sheet.tensors[tensor].shape;
    let (kind, table) = match &step.op {
        Op::Conv2d(conv) => conv_2d(builder, step, conv),
        Op::DepthwiseConv2d(conv) => {
            let multiplier = shape(step.outputs[0]).channels() / shape(step.inputs[0]).channels();
            depthwise_conv_2d(builder, step, conv, multiplier)
        }
        Op::FullyConnected(activation) => {
            let options = FullyConnectedOptionsArgs {
                fused_activation_function: fused(*activation),
                ..Default::default()
            };
            let table = FullyConnectedOptions::create(builder, &options);
            (
                BuiltinOptions::FullyConnectedOptions,
                table.as_union_value(),
            )
        }
        Op::Add(activation) | Op::Sub(activation) | Op::Mul(activation) => {
            arithmetic(builder, &step.op, *activation)
        }
        Op::Concat { axis } => {
            let options = ConcatenationOptionsArgs {
                axis: *axis as i32,
                ..Default::default()
            };
            let table = ConcatenationOptions::create(builder, &options);
            (BuiltinOptions::ConcatenationOptions, table.as_union_value())
        }
        Op::Reshape | Op::Activation(Activation::None) => {
            let dims = shape(step.outputs[0]).dims().iter();
            let dims: Vec<i32> = dims.map(|&dim| dim as i32).collect();
            let new_shape = Some(builder.create_vector(&dims));
            let table = ReshapeOptions::create(builder, &ReshapeOptionsArgs { new_shape });
            (BuiltinOptions::ReshapeOptions, table.as_union_value())
        }
        Op::AvgPool2d(pool) | Op::MaxPool2d(pool) => pool_2d(builder, step, pool),
        Op::Mean { .. } => {
            let keep_dims = shape(step.outputs[0]).rank() == shape(step.inputs[0]).rank();
            let table = ReducerOptions::create(builder, &ReducerOptionsArgs { keep_dims });
            (BuiltinOptions::ReducerOptions, table.as_union_value())
        }
        Op::Softmax { beta } => {
            let table = SoftmaxOptions::create(builder, &SoftmaxOptionsArgs { beta: *beta });
            (BuiltinOptions::SoftmaxOptions, table.as_union_value())
        }
        Op::ResizeBilinear(mode) => {
            let options = ResizeBilinearOptionsArgs {
                align_corners: *mode == ResizeMode::AlignCorners,
                half_pixel_centers: *mode == ResizeMode::HalfPixelCenters,
            };
            let table = ResizeBilinearOptions::create(builder, &options);
            (
                BuiltinOptions::ResizeBilinearOptions,
                table.as_union_value(),
            )
        }
        Op::ResizeNearest(mode) => {
            let options = ResizeNearestNeighborOptionsArgs {
                align_corners: *mode == ResizeMode::AlignCorners,
                half_pixel_centers: *mode == ResizeMode::HalfPixelCenters,
            };
            let table = ResizeNearestNeighborOptions::create(builder, &options);
            let table = table.as_union_value();
            (BuiltinOptions::ResizeNearestNeighborOptions, table)
        }
        Op::Pack { axis } => {
            let options = PackOptionsArgs {
                values_count: step.inputs.len() as i32,
                axis: *axis as i32,
            };
            let table = PackOptions::create(builder, &options);
            (BuiltinOptions::PackOptions, table.as_union_value())
        }
        Op::Split { .. } => {
            let options = SplitOptionsArgs {
                num_splits: step.outputs.len() as i32,
            };
            let table = SplitOptions::create(builder, &options);
            (BuiltinOptions::SplitOptions, table.as_union_value())
        }
        Op::StridedSlice { end, .. } => {
            // An end of -1 means before the first element, where the file would count from the last.
            let open = end.iter().enumerate().filter(|(_, end)| **end < 0);
            let options = StridedSliceOptionsArgs {
                end_mask: open.map(|(axis, _)| 1 << axis).sum(),
                ..Default::default()
            };
            let table = StridedSliceOptions::create(builder, &options);
            (BuiltinOptions::StridedSliceOptions, table.as_union_value())
        }
        Op::ArgMax { .. } => {
            let options = ArgMaxOptionsArgs {
                output_type: TensorType::INT32,
            };
            let table = ArgMaxOptions::create(builder, &options);
            (BuiltinOptions::ArgMaxOptions, table.as_union_value())
        }
        _ => return (BuiltinOptions::NONE, None),
    };
    (kind, Some(table))
}

fn fused(activation: Activation) -> ActivationFunctionType {
    match activation {
        Activation::None => ActivationFunctionType::NONE,
        Activation::Relu => ActivationFunctionType::RELU,
        Activation::Relu6 => ActivationFunctionType::RELU6,
        Activation::ReluN1To1 => ActivationFunctionType::RELU_N1_TO_1,
    }
}

type Table = (BuiltinOptions, WIPOffset<UnionWIPOffset>);

fn conv_2d(builder: &mut FlatBufferBuilder<'_>, step: &Step, conv: &Conv2d) -> Table {
    let options = Conv2DOptionsArgs {
        padding: step.padding,
        stride_h: conv.stride[0] as i32,
        stride_w: conv.stride[1] as i32,
        dilation_h_factor: conv.dilation[0] as i32,
        dilation_w_factor: conv.dilation[1] as i32,
        fused_activation_function: fused(conv.activation),
    };
    let table = Conv2DOptions::create(builder, &options);
    (BuiltinOptions::Conv2DOptions, table.as_union_value())
}

fn depthwise_conv_2d(
    builder: &mut FlatBufferBuilder<'_>,
    step: &Step,
    conv: &Conv2d,
    multiplier: usize,
) -> Table {
    let options = DepthwiseConv2DOptionsArgs {
        padding: step.padding,
        stride_h: conv.stride[0] as i32,
        stride_w: conv.stride[1] as i32,
        depth_multiplier: multiplier as i32,
        dilation_h_factor: conv.dilation[0] as i32,
        dilation_w_factor: conv.dilation[1] as i32,
        fused_activation_function: fused(conv.activation),
    };
    let table = DepthwiseConv2DOptions::create(builder, &options);
    (
        BuiltinOptions::DepthwiseConv2DOptions,
        table.as_union_value(),
    )
}

fn pool_2d(builder: &mut FlatBufferBuilder<'_>, step: &Step, pool: &Pool2d) -> Table {
    let options = Pool2DOptionsArgs {
        padding: step.padding,
        stride_h: pool.stride[0] as i32,
        stride_w: pool.stride[1] as i32,
        filter_height: pool.window[0] as i32,
        filter_width: pool.window[1] as i32,
        fused_activation_function: fused(pool.activation),
    };
    let table = Pool2DOptions::create(builder, &options);
    (BuiltinOptions::Pool2DOptions, table.as_union_value())
}

/// Scales of 16-bit operands are any number, not powers of two.
fn arithmetic(builder: &mut FlatBufferBuilder<'_>, op: &Op, activation: Activation) -> Table {
    let fused_activation_function = fused(activation);
    match op {
        Op::Add(_) => {
            let options = AddOptionsArgs {
                fused_activation_function,
                pot_scale_int16: false,
            };
            let table = AddOptions::create(builder, &options);
            (BuiltinOptions::AddOptions, table.as_union_value())
        }
        Op::Sub(_) => {
            let options = SubOptionsArgs {
                fused_activation_function,
                pot_scale_int16: false,
            };
            let table = SubOptions::create(builder, &options);
            (BuiltinOptions::SubOptions, table.as_union_value())
        }
        _ => {
            let options = MulOptionsArgs {
                fused_activation_function,
            };
            let table = MulOptions::create(builder, &options);
            (BuiltinOptions::MulOptions, table.as_union_value())
        }
    }
}

/// The FlexBuffer map that TFLite_Detection_PostProcess reads (tensorflow/lite/kernels/detection_postprocess.cc).
pub(super) fn post_process(options: &DetectionPostProcess) -> Vec<u8> {
    let mut builder = flexbuffers::Builder::default();
    let mut map = builder.start_map();
    map.push("max_detections", options.max_detections as i32);
    map.push(
        "max_classes_per_detection",
        options.max_classes_per_detection as i32,
    );
    map.push("detections_per_class", options.detections_per_class as i32);
    map.push("use_regular_nms", options.use_regular_nms);
    map.push("nms_score_threshold", options.nms_score_threshold);
    map.push("nms_iou_threshold", options.nms_iou_threshold);
    map.push("num_classes", options.num_classes as i32);
    let keys = ["y_scale", "x_scale", "h_scale", "w_scale"];
    for (key, scale) in keys.into_iter().zip(options.scale) {
        map.push(key, scale);
    }
    map.end_map();
    builder.take_buffer()
}

/// The schema's element type.
pub(super) fn tensor_type(element: crate::quantize::lower::Element) -> tflite::TensorType {
    use crate::quantize::lower::Element;
    match element {
        Element::F32 => TensorType::FLOAT32,
        Element::U8 => TensorType::UINT8,
        Element::I8 => TensorType::INT8,
        Element::I16 => TensorType::INT16,
        Element::I32 => TensorType::INT32,
        Element::I64 => TensorType::INT64,
    }
}
