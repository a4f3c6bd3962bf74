//! One arm for each operator of the schema that the graph has a word for.

use tract_tflite::tflite::{
    ActivationFunctionType, BuiltinOperator as B, FullyConnectedOptionsWeightsFormat, Padding,
};

use super::import::{Importer, Site};
use super::options::{self, activation, axis, positive};
use super::{refusal, slices, windows};
use crate::error::Result;
use crate::graph::{Activation, Conv2d, Op, Pool2d, ResizeMode, TransposedAxes, ValueId, shape};
use crate::tensor::{DType, Shape, TensorData, TensorInfo};

/// Imports one operator that has not been folded away.
pub(super) fn import<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    match site.builtin {
        B::CONV_2D => conv_2d(importer, site),
        B::DEPTHWISE_CONV_2D => depthwise_conv_2d(importer, site),
        B::FULLY_CONNECTED => fully_connected(importer, site),
        B::ADD | B::SUB | B::MUL => arithmetic(importer, site),
        B::CONCATENATION => concat(importer, site),
        B::RESHAPE | B::SQUEEZE | B::EXPAND_DIMS => reshape(importer, site),
        B::PAD | B::PADV2 => pad(importer, site),
        B::AVERAGE_POOL_2D | B::MAX_POOL_2D => pool_2d(importer, site),
        B::MEAN => mean(importer, site),
        B::SOFTMAX => {
            let options = site.operator.builtin_options_as_softmax_options();
            let beta = options.map_or(1.0, |options| options.beta());
            if !beta.is_finite() {
                return Err(site.damaged(format!("its beta is {beta}")));
            }
            unary(importer, site, Op::Softmax { beta })
        }
        B::LOGISTIC => unary(importer, site, Op::Logistic),
        B::RELU => unary(importer, site, Op::Activation(Activation::Relu)),
        B::RELU6 => unary(importer, site, Op::Activation(Activation::Relu6)),
        B::RELU_N1_TO_1 => unary(importer, site, Op::Activation(Activation::ReluN1To1)),
        B::HARD_SWISH => unary(importer, site, Op::HardSwish),
        B::RESIZE_NEAREST_NEIGHBOR | B::RESIZE_BILINEAR => resize(importer, site),
        B::QUANTIZE => unary(importer, site, Op::Quantize),
        B::DEQUANTIZE => dequantize(importer, site),
        B::PACK => pack(importer, site),
        B::SPLIT | B::SPLIT_V => split(importer, site),
        B::STRIDED_SLICE | B::SLICE => slices::import(importer, site),
        B::TRANSPOSE => transpose(importer, site),
        B::ARG_MAX => arg_max(importer, site),
        B::SPACE_TO_BATCH_ND | B::BATCH_TO_SPACE_ND => space_and_batch(importer, site),
        B::CUSTOM if site.name == "TFLite_Detection_PostProcess" => {
            let inputs = importer.inputs(site)?;
            let options = options::detection_post_process(site)?;
            importer.emit(
                site,
                Op::DetectionPostProcess(options),
                inputs,
                &Shape::default(),
            )
        }
        _ => Err(refusal::operator(site.model, site.index, &site.name)),
    }
}

fn unary<'a>(importer: &mut Importer<'a>, site: &Site<'a>, op: Op) -> Result<()> {
    let x = importer.input(site, 0)?;
    importer.emit(site, op, vec![x], &Shape::default())
}

/// Input, weights and, where present, bias. Under a float input symmetric int8 weights stay, other quantized weights
/// become float.
fn weighted_inputs<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<Vec<ValueId>> {
    let x = importer.input(site, 0)?;
    let mut weights = importer.input(site, 1)?;
    if importer.graph().dtype(x) == DType::F32
        && !is_symmetric(site, importer.graph().info(weights))
        && let Some(float) = importer.float_constant(site, weights)?
    {
        weights = float;
    }
    let mut inputs = vec![x, weights];
    inputs.extend(importer.optional_input(site, 2)?);
    Ok(inputs)
}

/// Whether the weights are int8 codes with a zero point of 0 and one scale, or one for each output channel.
fn is_symmetric(site: &Site<'_>, weights: &TensorInfo) -> bool {
    let axis = match site.builtin {
        B::DEPTHWISE_CONV_2D => 3,
        _ => 0,
    };
    weights.dtype == DType::I8
        && weights.quant.as_ref().is_some_and(|quant| {
            quant.zero_points.iter().all(|&zero| zero == 0)
                && (quant.scales.len() == 1 || quant.axis == axis)
        })
}

/// The spatial dimensions of a rank-4 shape: rows and columns.
fn picture(site: &Site<'_>, shape: &Shape) -> Result<[usize; 2]> {
    match shape.nhwc() {
        Some([_, rows, columns, _]) => Ok([rows, columns]),
        None => Err(site.damaged(format!("{shape} is not batch, height, width, channels"))),
    }
}

/// What the options of both kinds of convolution say; pairs are rows, columns.
struct Geometry {
    padding: Padding,
    stride: [i32; 2],
    dilation: [i32; 2],
    activation: ActivationFunctionType,
}

fn conv_2d<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let options = site.operator.builtin_options_as_conv_2_doptions();
    let options = options.ok_or_else(|| site.damaged("it has no options"))?;
    let geometry = Geometry {
        padding: options.padding(),
        stride: [options.stride_h(), options.stride_w()],
        dilation: [options.dilation_h_factor(), options.dilation_w_factor()],
        activation: options.fused_activation_function(),
    };
    convolution(importer, site, geometry, Op::Conv2d)
}

/// The depth multiplier follows from the shapes.
fn depthwise_conv_2d<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let options = site.operator.builtin_options_as_depthwise_conv_2_doptions();
    let options = options.ok_or_else(|| site.damaged("it has no options"))?;
    let geometry = Geometry {
        padding: options.padding(),
        stride: [options.stride_h(), options.stride_w()],
        dilation: [options.dilation_h_factor(), options.dilation_w_factor()],
        activation: options.fused_activation_function(),
    };
    convolution(importer, site, geometry, Op::DepthwiseConv2d)
}

fn convolution<'a>(
    importer: &mut Importer<'a>,
    site: &Site<'a>,
    geometry: Geometry,
    op: fn(Conv2d) -> Op,
) -> Result<()> {
    let inputs = weighted_inputs(importer, site)?;
    let stride = positive(site, geometry.stride, "stride")?;
    let dilation = positive(site, geometry.dilation, "dilation")?;
    let size = picture(site, importer.shape(inputs[0]))?;
    let kernel = picture(site, importer.shape(inputs[1]))?;
    let conv = Conv2d {
        stride,
        dilation,
        padding: windows::padding(geometry.padding, size, kernel, stride, dilation)
            .map_err(|reason| site.damaged(reason))?,
        activation: activation(site, geometry.activation)?,
    };
    importer.emit(site, op(conv), inputs, &Shape::default())
}

/// With `keep_num_dims` the result keeps the input's leading dimensions: a reshape follows.
fn fully_connected<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let inputs = weighted_inputs(importer, site)?;
    let options = site.operator.builtin_options_as_fully_connected_options();
    let options = options.ok_or_else(|| site.damaged("it has no options"))?;
    if options.weights_format() != FullyConnectedOptionsWeightsFormat::DEFAULT {
        return Err(site.unsupported("with shuffled weights", "convert the model again"));
    }
    let op = Op::FullyConnected(activation(site, options.fused_activation_function())?);
    if !options.keep_num_dims() || importer.shape(inputs[0]).rank() == 2 {
        return importer.emit(site, op, inputs, &Shape::default());
    }
    let shapes: Vec<&Shape> = inputs.iter().map(|id| importer.shape(*id)).collect();
    let flat = shape::output_shapes(&op, &shapes, &Shape::default(), 1)
        .map_err(|reason| site.damaged(reason))?
        .remove(0);
    let mut dims = shapes[0].dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = flat.channels();
    }
    let target = Shape::checked(dims).ok_or_else(|| site.damaged("its output is too large"))?;
    let product = importer.between(site, flat)?;
    importer.push(site, op, inputs, vec![product]);
    importer.emit(site, Op::Reshape, vec![product], &target)
}

fn arithmetic<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let inputs = importer.inputs(site)?;
    let operator = site.operator;
    let function = match site.builtin {
        B::ADD => operator
            .builtin_options_as_add_options()
            .map(|o| o.fused_activation_function()),
        B::SUB => operator
            .builtin_options_as_sub_options()
            .map(|o| o.fused_activation_function()),
        _ => operator
            .builtin_options_as_mul_options()
            .map(|o| o.fused_activation_function()),
    };
    let activation = function.map_or(Ok(Activation::None), |f| activation(site, f))?;
    let op = match site.builtin {
        B::ADD => Op::Add(activation),
        B::SUB => Op::Sub(activation),
        _ => Op::Mul(activation),
    };
    importer.emit(site, op, inputs, &Shape::default())
}

fn concat<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let inputs = importer.inputs(site)?;
    let options = site.operator.builtin_options_as_concatenation_options();
    let options = options.ok_or_else(|| site.damaged("it has no options"))?;
    if activation(site, options.fused_activation_function())? != Activation::None {
        return Err(site.unsupported("with a fused activation", "convert the model again"));
    }
    let first = inputs
        .first()
        .ok_or_else(|| site.damaged("it has no inputs"))?;
    let axis = axis(site, options.axis().into(), importer.shape(*first).rank())?;
    importer.emit(site, Op::Concat { axis }, inputs, &Shape::default())
}

/// A reshape of a constant is folded.
fn reshape<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let target = match site.builtin {
        B::RESHAPE => reshape_target(importer, site, x)?,
        B::SQUEEZE => squeeze_target(importer, site, x)?,
        _ => {
            let position = importer.integers(site, 1)?;
            let &[position] = position.as_slice() else {
                return Err(site.damaged("it inserts not one axis"));
            };
            let mut dims = importer.shape(x).dims().to_vec();
            dims.insert(axis(site, position, dims.len() + 1)?, 1);
            dims
        }
    };
    let target = Shape::checked(target).ok_or_else(|| site.damaged("its output is too large"))?;
    match importer.graph().constant(x) {
        Some(data) if target.elements() == importer.shape(x).elements() => {
            let data: TensorData = data.clone();
            importer.make_constant(site, target, data)
        }
        _ => importer.emit(site, Op::Reshape, vec![x], &target),
    }
}

/// Resolves the one dimension that may be -1.
fn reshape_target<'a>(
    importer: &mut Importer<'a>,
    site: &Site<'a>,
    x: ValueId,
) -> Result<Vec<usize>> {
    let requested: Vec<i64> = if site.inputs.len() > 1 {
        importer.integers(site, 1)?
    } else {
        let options = site.operator.builtin_options_as_reshape_options();
        let shape = options.and_then(|options| options.new_shape());
        let shape = shape.ok_or_else(|| site.damaged("it has no target shape"))?;
        shape.iter().map(i64::from).collect()
    };
    let wrong = || {
        site.damaged(format!(
            "its target shape is {:.99}",
            format!("{requested:?}")
        ))
    };
    let mut known = 1usize;
    let mut dims = Vec::with_capacity(requested.len().min(8));
    let mut open = None;
    for (i, &dim) in requested.iter().enumerate() {
        if dim == -1 && open.is_none() {
            open = Some(i);
            dims.push(1);
            continue;
        }
        let dim = usize::try_from(dim)
            .ok()
            .filter(|&dim| dim > 0)
            .ok_or_else(wrong)?;
        known = known.checked_mul(dim).ok_or_else(wrong)?;
        dims.push(dim);
    }
    if let Some(open) = open {
        let elements = importer.shape(x).elements();
        if !elements.is_multiple_of(known) {
            return Err(wrong());
        }
        dims[open] = elements / known;
    }
    Ok(dims)
}

fn squeeze_target<'a>(
    importer: &mut Importer<'a>,
    site: &Site<'a>,
    x: ValueId,
) -> Result<Vec<usize>> {
    let dims = importer.shape(x).dims().to_vec();
    let options = site.operator.builtin_options_as_squeeze_options();
    let axes = options.and_then(|options| options.squeeze_dims());
    let axes: Vec<usize> = axes
        .into_iter()
        .flatten()
        .map(|position| axis(site, position.into(), dims.len()))
        .collect::<Result<_>>()?;
    let dropped = |i: usize| dims[i] == 1 && (axes.is_empty() || axes.contains(&i));
    if let Some(axis) = axes.iter().find(|&&axis| dims[axis] != 1) {
        return Err(site.damaged(format!("it drops axis {axis} of shape {dims:?}")));
    }
    Ok((0..dims.len())
        .filter(|&i| !dropped(i))
        .map(|i| dims[i])
        .collect())
}

/// Pairs of counts that are not negative, such as pads and crops.
fn pairs<'a>(
    importer: &mut Importer<'a>,
    site: &Site<'a>,
    position: usize,
) -> Result<Vec<[usize; 2]>> {
    let values = importer.integers(site, position)?;
    let counts: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
    let counts = counts.ok_or_else(|| site.damaged("a pad or crop is negative"))?;
    match counts.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.to_vec()),
        _ => Err(site.damaged("its pads or crops are not pairs")),
    }
}

/// PADV2 may only pad with what PAD pads with: the real value 0.
fn pad<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let pads = pairs(importer, site, 1)?;
    if site.builtin == B::PADV2 {
        let value = importer.input(site, 2)?;
        let zero_point = importer
            .graph()
            .quant(x)
            .map_or(0, |quant| quant.zero_points.first().copied().unwrap_or(0));
        let zero = match importer.graph().constant(value) {
            Some(TensorData::F32(data)) => data.as_slice() == [0.0],
            Some(TensorData::I8(data)) => data.len() == 1 && i32::from(data[0]) == zero_point,
            Some(TensorData::U8(data)) => data.len() == 1 && i32::from(data[0]) == zero_point,
            Some(TensorData::I32(_)) | None => false,
        };
        if !zero {
            return Err(site.unsupported("with another value than 0", "pad with zeros"));
        }
    }
    importer.emit(site, Op::Pad { pads }, vec![x], &Shape::default())
}

fn pool_2d<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let options = site.operator.builtin_options_as_pool_2_doptions();
    let options = options.ok_or_else(|| site.damaged("it has no options"))?;
    let stride = positive(site, [options.stride_h(), options.stride_w()], "stride")?;
    let window = positive(
        site,
        [options.filter_height(), options.filter_width()],
        "window",
    )?;
    let size = picture(site, importer.shape(x))?;
    let pool = Pool2d {
        window,
        stride,
        padding: windows::padding(options.padding(), size, window, stride, [1, 1])
            .map_err(|reason| site.damaged(reason))?,
        activation: activation(site, options.fused_activation_function())?,
    };
    let op = match site.builtin {
        B::AVERAGE_POOL_2D => Op::AvgPool2d(pool),
        _ => Op::MaxPool2d(pool),
    };
    importer.emit(site, op, vec![x], &Shape::default())
}

fn mean<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let dims = importer.shape(x).dims().to_vec();
    let mut axes: Vec<usize> = importer
        .integers(site, 1)?
        .into_iter()
        .map(|position| axis(site, position, dims.len()))
        .collect::<Result<_>>()?;
    axes.sort_unstable();
    axes.dedup();
    let options = site.operator.builtin_options_as_reducer_options();
    let keep = options.is_some_and(|options| options.keep_dims());
    let reduced: Vec<usize> = (0..dims.len())
        .filter(|i| keep || !axes.contains(i))
        .map(|i| if axes.contains(&i) { 1 } else { dims[i] })
        .collect();
    let declared =
        Shape::checked(reduced).ok_or_else(|| site.damaged("its output is too large"))?;
    importer.emit(site, Op::Mean { axes }, vec![x], &declared)
}

fn resize<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let size: Option<Vec<usize>> = importer
        .integers(site, 1)?
        .into_iter()
        .map(|value| usize::try_from(value).ok())
        .collect();
    let (Some(&[rows, columns]), Some([batch, _, _, channels])) =
        (size.as_deref(), importer.shape(x).nhwc())
    else {
        return Err(site.damaged("its input or its target size is no picture"));
    };
    let bilinear = site.operator.builtin_options_as_resize_bilinear_options();
    let nearest = site
        .operator
        .builtin_options_as_resize_nearest_neighbor_options();
    let flags = bilinear
        .map(|o| (o.align_corners(), o.half_pixel_centers()))
        .or(nearest.map(|o| (o.align_corners(), o.half_pixel_centers())));
    let mode = match flags.unwrap_or_default() {
        (false, false) => ResizeMode::Asymmetric,
        (true, false) => ResizeMode::AlignCorners,
        (false, true) => ResizeMode::HalfPixelCenters,
        (true, true) => {
            return Err(site.damaged("it aligns both corners and pixel centres"));
        }
    };
    let declared = Shape::checked(vec![batch, rows, columns, channels])
        .ok_or_else(|| site.damaged("its output is too large"))?;
    let op = match site.builtin {
        B::RESIZE_BILINEAR => Op::ResizeBilinear(mode),
        _ => Op::ResizeNearest(mode),
    };
    importer.emit(site, op, vec![x], &declared)
}

/// Dequantizing a constant gives a constant.
fn dequantize<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    match importer.float_constant(site, x)? {
        Some(float) => importer.alias(site, float),
        None => importer.emit(site, Op::Dequantize, vec![x], &Shape::default()),
    }
}

fn pack<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let inputs = importer.inputs(site)?;
    let options = site.operator.builtin_options_as_pack_options();
    let options = options.ok_or_else(|| site.damaged("it has no options"))?;
    let first = inputs
        .first()
        .ok_or_else(|| site.damaged("it has no inputs"))?;
    let axis = axis(
        site,
        options.axis().into(),
        importer.shape(*first).rank() + 1,
    )?;
    importer.emit(site, Op::Pack { axis }, inputs, &Shape::default())
}

/// SPLIT reads `axis, x`; SPLIT_V reads `x, sizes, axis` and must split equally.
fn split<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let (x, axis_input) = match site.builtin {
        B::SPLIT => (importer.input(site, 1)?, 0),
        _ => (importer.input(site, 0)?, 2),
    };
    if site.builtin == B::SPLIT_V {
        let sizes = importer.integers(site, 1)?;
        if sizes.iter().any(|size| *size != sizes[0]) {
            return Err(site.unsupported("into unequal parts", "split into equal parts"));
        }
    }
    let position = importer.integers(site, axis_input)?;
    let &[position] = position.as_slice() else {
        return Err(site.damaged("it splits along not one axis"));
    };
    let axis = axis(site, position, importer.shape(x).rank())?;
    importer.emit(site, Op::Split { axis }, vec![x], &Shape::default())
}

fn transpose<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let rank = importer.shape(x).rank();
    let axes = importer.integers(site, 1)?;
    let axes: Vec<usize> = axes
        .into_iter()
        .map(|position| axis(site, position, rank))
        .collect::<Result<_>>()?;
    importer.emit(
        site,
        Op::Transpose(TransposedAxes(axes)),
        vec![x],
        &Shape::default(),
    )
}

fn arg_max<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let position = importer.integers(site, 1)?;
    let &[position] = position.as_slice() else {
        return Err(site.damaged("it has not one axis"));
    };
    let axis = axis(site, position, importer.shape(x).rank())?;
    importer.emit(site, Op::ArgMax { axis }, vec![x], &Shape::default())
}

fn space_and_batch<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<()> {
    let x = importer.input(site, 0)?;
    let block = importer.integers(site, 1)?;
    let block: Option<Vec<usize>> = block.iter().map(|&v| usize::try_from(v).ok()).collect();
    let margins = pairs(importer, site, 2)?;
    let (Some(&[rows, columns]), &[vertical, horizontal]) = (block.as_deref(), margins.as_slice())
    else {
        return Err(site.unsupported("on other than rows and columns", "use pictures of rank 4"));
    };
    let (block, margins) = ([rows, columns], [vertical, horizontal]);
    let op = match site.builtin {
        B::SPACE_TO_BATCH_ND => Op::SpaceToBatch {
            block,
            pads: margins,
        },
        _ => Op::BatchToSpace {
            block,
            crops: margins,
        },
    };
    importer.emit(site, op, vec![x], &Shape::default())
}
