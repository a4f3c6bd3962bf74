//! Each operator of the graph in tract's operators.

use tract_onnx::tract_core::internal::{
    AxisOp, DatumType, IntoArcTensor, OutletId, SpecialOps, TDim, TVec, Tensor, ToDim,
    TractErrorContext, TractResult, TypedModel, TypedOp, bail, perm_to_ops, tensor0, tensor1, tvec,
};
use tract_onnx::tract_core::ops::array::{Gather, Pad, PadMode, Slice, TypedConcat};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::change_axes::wire_with_rank_broadcast;
use tract_onnx::tract_core::ops::cnn::{
    Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool,
};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{
    CoordTransformer, DataFormat, Interpolator, Nearest, Reduce, Reducer, Resize, Softmax,
    hard_swish, sigmoid,
};

use crate::graph::{Activation, Conv2d, FakeQuantize, Op, Padding2d, Pool2d, ResizeMode};
use crate::tensor::Shape;

/// A tract model that grows operator by operator.
#[derive(Default)]
pub(super) struct Wiring {
    pub(super) model: TypedModel,
    /// Starts the names of the nodes of one operator; the caller changes it for each.
    pub(super) prefix: String,
    serial: usize,
}

impl Wiring {
    /// Adds one operator; answers where its outputs are. Shapes of the outputs are those that the graph declares.
    pub(super) fn op(
        &mut self,
        op: &Op,
        inputs: &[OutletId],
        outputs: &[&Shape],
    ) -> TractResult<TVec<OutletId>> {
        let &x = inputs.first().context("no input")?;
        let out = outputs.first().context("no output")?.dims();
        let made = match op {
            Op::Conv2d(conv) => self.conv(conv, inputs, false)?,
            Op::DepthwiseConv2d(conv) => self.conv(conv, inputs, true)?,
            Op::FullyConnected(activation) => self.fully_connected(inputs, *activation, out)?,
            Op::Add(activation) => self.binary(math::add(), inputs, *activation)?,
            Op::Sub(activation) => self.binary(math::sub(), inputs, *activation)?,
            Op::Mul(activation) => self.binary(math::mul(), inputs, *activation)?,
            Op::Concat { axis } => self.wire(TypedConcat::new(*axis), inputs)?,
            Op::Reshape => self.reshape(x, out)?,
            Op::Pad { pads } => self.pad(x, pads)?,
            Op::AvgPool2d(pool) => self.average_pool(x, pool)?,
            Op::MaxPool2d(pool) => self.max_pool(x, pool)?,
            Op::Mean { axes } => self.mean(x, axes, out)?,
            Op::Softmax { beta } => self.softmax(x, *beta)?,
            Op::Logistic => self.wire(sigmoid(), &[x])?,
            Op::Activation(activation) => self.activate(x, *activation)?,
            Op::HardSwish => self.wire(hard_swish(), &[x])?,
            Op::FakeQuantize(grid) => self.fake_quantize(x, grid)?,
            Op::ResizeNearest(mode) => self.resize_nearest(x, *mode, out)?,
            Op::ResizeBilinear(mode) => self.resize_bilinear(x, *mode, out)?,
            Op::Pack { axis } => self.pack(inputs, *axis)?,
            Op::Split { axis } => return self.split(x, *axis, outputs.len()),
            Op::StridedSlice { begin, end, stride } => {
                self.strided_slice(x, [begin, end, stride], out)?
            }
            Op::Transpose(axes) => self.transpose(x, &axes.0)?,
            Op::ArgMax { axis } => self.arg_max(x, *axis, out)?,
            Op::SpaceToBatch { block, pads } => self.space_to_batch(x, *block, *pads)?,
            Op::BatchToSpace { block, crops } => self.batch_to_space(x, *block, *crops, out)?,
            Op::Quantize | Op::Dequantize | Op::DetectionPostProcess(_) => {
                bail!("not an operator of the float part")
            }
        };
        Ok(tvec!(made))
    }

    fn name(&mut self) -> String {
        self.serial += 1;
        format!("{}.{}", self.prefix, self.serial)
    }

    /// Adds a node of one output.
    fn wire(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        let name = self.name();
        let made = self.model.wire_node(name, op, inputs)?;
        made.first().copied().context("a node without output")
    }

    fn constant(&mut self, tensor: Tensor) -> TractResult<OutletId> {
        let name = self.name();
        self.model.add_const(name, tensor.into_arc_tensor())
    }

    fn dims(&self, x: OutletId) -> TractResult<Vec<usize>> {
        let fact = self.model.outlet_fact(x)?;
        let dims = fact.shape.as_concrete().context("a symbolic shape")?;
        Ok(dims.to_vec())
    }

    fn nhwc(&self, x: OutletId) -> TractResult<[usize; 4]> {
        let dims = self.dims(x)?;
        dims.as_slice().try_into().context("expected rank 4")
    }

    /// Adds an operator of two inputs that broadcast.
    fn broadcast(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        let name = self.name();
        let made = wire_with_rank_broadcast(name, &mut self.model, op, inputs)?;
        made.first().copied().context("a node without output")
    }

    fn scalar(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        x: OutletId,
        value: f32,
    ) -> TractResult<OutletId> {
        let value = self.constant(tensor0(value))?;
        self.broadcast(op, &[x, value])
    }

    fn activate(&mut self, x: OutletId, activation: Activation) -> TractResult<OutletId> {
        match activation {
            Activation::None => Ok(x),
            Activation::Relu => self.scalar(math::max(), x, 0.0),
            Activation::Relu6 => self.clamp(x, 0.0, 6.0),
            Activation::ReluN1To1 => self.clamp(x, -1.0, 1.0),
        }
    }

    fn clamp(&mut self, x: OutletId, low: f32, high: f32) -> TractResult<OutletId> {
        let x = self.scalar(math::max(), x, low)?;
        self.scalar(math::min(), x, high)
    }

    /// `(clamp(rhe(x / scale) + zero_point) - zero_point) * scale`
    fn fake_quantize(&mut self, x: OutletId, grid: &FakeQuantize) -> TractResult<OutletId> {
        let codes = self.scalar(math::mul(), x, 1.0 / grid.scale)?;
        let codes = self.wire(math::round_half_to_even(), &[codes])?;
        let [low, high] = [grid.lowest, grid.highest].map(|code| (code - grid.zero_point) as f32);
        let codes = self.clamp(codes, low, high)?;
        self.scalar(math::mul(), codes, grid.scale)
    }

    fn binary(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
        activation: Activation,
    ) -> TractResult<OutletId> {
        let x = self.broadcast(op, inputs)?;
        self.activate(x, activation)
    }

    fn reshape(&mut self, x: OutletId, to: &[usize]) -> TractResult<OutletId> {
        let from = self.dims(x)?;
        if from == to {
            return Ok(x);
        }
        let dims = |dims: &[usize]| -> TVec<TDim> { dims.iter().map(|d| d.to_dim()).collect() };
        self.wire(AxisOp::Reshape(0, dims(&from), dims(to)), &[x])
    }

    fn transpose(&mut self, x: OutletId, axes: &[usize]) -> TractResult<OutletId> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.dims(x)?.len()) {
            bail!("{axes:?} is no permutation of the axes");
        }
        perm_to_ops(axes)
            .into_iter()
            .try_fold(x, |x, op| self.wire(op, &[x]))
    }

    fn slice(
        &mut self,
        x: OutletId,
        axis: usize,
        range: std::ops::Range<usize>,
    ) -> TractResult<OutletId> {
        match self.dims(x)?.get(axis) {
            Some(&dim) if range == (0..dim) => Ok(x),
            Some(&dim) if range.start < range.end && range.end <= dim => {
                self.wire(Slice::new(axis, range.start, range.end), &[x])
            }
            _ => bail!("slice {range:?} along axis {axis} leaves the tensor"),
        }
    }

    fn gather(&mut self, x: OutletId, axis: usize, indices: &[i64]) -> TractResult<OutletId> {
        let indices = self.constant(tensor1(indices))?;
        self.wire(Gather::new(axis), &[x, indices])
    }

    fn conv(
        &mut self,
        conv: &Conv2d,
        inputs: &[OutletId],
        depthwise: bool,
    ) -> TractResult<OutletId> {
        let (&x, &weights) = (&inputs[0], inputs.get(1).context("no weights")?);
        let [_, _, _, input_channels] = self.nhwc(x)?;
        let [first, rows, columns, last] = self.nhwc(weights)?;
        let (kernel, output_channels, group) = match depthwise {
            true => (
                self.transpose(weights, &[3, 0, 1, 2])?,
                last,
                input_channels,
            ),
            false => (
                self.transpose(weights, &[0, 3, 1, 2])?,
                first,
                input_channels / last.max(1),
            ),
        };
        let bias = match inputs.get(2) {
            Some(&bias) => bias,
            None => self.constant(tensor1(&vec![0f32; output_channels]))?,
        };
        let op = Conv {
            pool_spec: PoolSpec {
                data_format: DataFormat::NHWC,
                kernel_shape: tvec!(rows, columns),
                padding: padding(conv.padding),
                dilations: Some(conv.dilation.into_iter().collect()),
                strides: Some(conv.stride.into_iter().collect()),
                input_channels,
                output_channels,
            },
            kernel_fmt: KernelFormat::OIHW,
            group,
            q_params: None,
        };
        let made = self.wire(op, &[x, kernel, bias])?;
        self.activate(made, conv.activation)
    }

    fn fully_connected(
        &mut self,
        inputs: &[OutletId],
        activation: Activation,
        out: &[usize],
    ) -> TractResult<OutletId> {
        let (&x, &weights) = (&inputs[0], inputs.get(1).context("no weights")?);
        let (elements, shape) = (self.dims(x)?.iter().product::<usize>(), self.dims(weights)?);
        let &[outputs, depth] = shape.as_slice() else {
            bail!("weights of shape {shape:?}");
        };
        let x = self.reshape(x, &[elements / depth.max(1), depth])?;
        let product = EinSum::new("bi,oi->bo".parse()?, DatumType::F32);
        let mut made = self.wire(product, &[x, weights])?;
        if let Some(&bias) = inputs.get(2) {
            let bias = self.reshape(bias, &[1, outputs])?;
            made = self.wire(math::add(), &[made, bias])?;
        }
        let made = self.activate(made, activation)?;
        self.reshape(made, out)
    }

    fn pad(&mut self, x: OutletId, pads: &[[usize; 2]]) -> TractResult<OutletId> {
        let dtype = self.model.outlet_fact(x)?.datum_type;
        let zero = Tensor::zero_scalar_dt(dtype)?;
        let op = Pad {
            pads: pads
                .iter()
                .map(|&[before, after]| (before, after))
                .collect(),
            mode: PadMode::Constant(zero.into_arc_tensor()),
        };
        self.wire(op, &[x])
    }

    fn pool_spec(&self, x: OutletId, pool: &Pool2d) -> TractResult<PoolSpec> {
        let [_, _, _, channels] = self.nhwc(x)?;
        Ok(PoolSpec {
            data_format: DataFormat::NHWC,
            kernel_shape: pool.window.into_iter().collect(),
            padding: padding(pool.padding),
            dilations: None,
            strides: Some(pool.stride.into_iter().collect()),
            input_channels: channels,
            output_channels: channels,
        })
    }

    fn average_pool(&mut self, x: OutletId, pool: &Pool2d) -> TractResult<OutletId> {
        let op = SumPool {
            pool_spec: self.pool_spec(x, pool)?,
            count_include_pad: false,
            normalize: true,
        };
        let made = self.wire(op, &[x])?;
        self.activate(made, pool.activation)
    }

    fn max_pool(&mut self, x: OutletId, pool: &Pool2d) -> TractResult<OutletId> {
        let op = MaxPool {
            pool_spec: self.pool_spec(x, pool)?,
            with_index_outputs: None,
        };
        let made = self.wire(op, &[x])?;
        self.activate(made, pool.activation)
    }

    fn mean(&mut self, x: OutletId, axes: &[usize], out: &[usize]) -> TractResult<OutletId> {
        let dims = self.dims(x)?;
        let count = axes
            .iter()
            .map(|&axis| dims.get(axis).copied().context("no such axis"))
            .product::<TractResult<usize>>()?;
        let sum = Reduce::new(axes.iter().copied().collect(), Reducer::Sum);
        let sum = self.wire(sum, &[x])?;
        let mean = self.scalar(math::div(), sum, count as f32)?;
        self.reshape(mean, out)
    }

    fn softmax(&mut self, x: OutletId, beta: f32) -> TractResult<OutletId> {
        let last = self.dims(x)?.len().checked_sub(1).context("a scalar")?;
        let x = match beta {
            1.0 => x,
            beta => self.scalar(math::mul(), x, beta)?,
        };
        let op = Softmax {
            axes: tvec!(last),
            ..Softmax::default()
        };
        self.wire(op, &[x])
    }

    fn resize_nearest(
        &mut self,
        x: OutletId,
        mode: ResizeMode,
        out: &[usize],
    ) -> TractResult<OutletId> {
        let [_, height, width, _] = self.nhwc(x)?;
        let &[_, to_height, to_width, _] = out else {
            bail!("resize to {out:?}");
        };
        let x = self.gather(x, 1, &nearest_indices(height, to_height, mode))?;
        self.gather(x, 2, &nearest_indices(width, to_width, mode))
    }

    fn resize_bilinear(
        &mut self,
        x: OutletId,
        mode: ResizeMode,
        out: &[usize],
    ) -> TractResult<OutletId> {
        let sizes: Vec<i64> = out.iter().map(|&dim| dim as i64).collect();
        let sizes = self.constant(tensor1(&sizes))?;
        let op = Resize {
            coord_transformer: match mode {
                ResizeMode::Asymmetric => CoordTransformer::Asymmetric,
                ResizeMode::AlignCorners => CoordTransformer::AlignCorners,
                ResizeMode::HalfPixelCenters => CoordTransformer::HalfPixel,
            },
            interpolator: Interpolator::Linear,
            nearest: Nearest::Floor,
            optional_scales_input: None,
            optional_sizes_input: Some(1),
        };
        self.wire(op, &[x, sizes])
    }

    fn pack(&mut self, inputs: &[OutletId], axis: usize) -> TractResult<OutletId> {
        let mut parts = TVec::new();
        for &input in inputs {
            parts.push(self.wire(AxisOp::Add(axis), &[input])?);
        }
        self.wire(TypedConcat::new(axis), &parts)
    }

    fn split(&mut self, x: OutletId, axis: usize, parts: usize) -> TractResult<TVec<OutletId>> {
        let dims = self.dims(x)?;
        let length = dims.get(axis).context("no such axis")? / parts;
        (0..parts)
            .map(|part| self.slice(x, axis, part * length..(part + 1) * length))
            .collect()
    }

    fn strided_slice(
        &mut self,
        mut x: OutletId,
        [begin, end, stride]: [&[i64]; 3],
        out: &[usize],
    ) -> TractResult<OutletId> {
        for (axis, dim) in self.dims(x)?.into_iter().enumerate() {
            let at = |list: &[i64]| list.get(axis).copied().context("too few axes");
            let (begin, end, stride) = (at(begin)?, at(end)?, at(stride)?);
            let inside = |index: i64| (0..dim as i64).contains(&index);
            if stride == 1 {
                let range = usize::try_from(begin)?..usize::try_from(end)?;
                x = self.slice(x, axis, range)?;
                continue;
            }
            let step = usize::try_from(stride.unsigned_abs())?;
            let indices: Vec<i64> = match stride {
                0 => bail!("stride 0"),
                1.. => (begin..end).step_by(step).collect(),
                _ => (end + 1..=begin).rev().step_by(step).collect(),
            };
            if indices.is_empty() || !indices.iter().all(|&index| inside(index)) {
                bail!("slice {begin}..{end} along axis {axis} leaves the tensor");
            }
            x = self.gather(x, axis, &indices)?;
        }
        self.reshape(x, out)
    }

    fn arg_max(&mut self, x: OutletId, axis: usize, out: &[usize]) -> TractResult<OutletId> {
        let op = Reduce::new(tvec!(axis), Reducer::ArgMax(false));
        let made = self.wire(op, &[x])?;
        let made = self.wire(cast(DatumType::I32), &[made])?;
        self.reshape(made, out)
    }

    fn space_to_batch(
        &mut self,
        x: OutletId,
        block: [usize; 2],
        [rows, columns]: [[usize; 2]; 2],
    ) -> TractResult<OutletId> {
        let x = self.pad(x, &[[0, 0], rows, columns, [0, 0]])?;
        let [n, h, w, c] = self.nhwc(x)?;
        let [bh, bw] = block;
        if bh == 0 || bw == 0 || h % bh != 0 || w % bw != 0 {
            bail!("blocks of {bh}x{bw} do not divide {h}x{w}");
        }
        let x = self.reshape(x, &[n, h / bh, bh, w / bw, bw, c])?;
        let x = self.transpose(x, &[2, 4, 0, 1, 3, 5])?;
        self.reshape(x, &[n * bh * bw, h / bh, w / bw, c])
    }

    fn batch_to_space(
        &mut self,
        x: OutletId,
        [bh, bw]: [usize; 2],
        [rows, columns]: [[usize; 2]; 2],
        out: &[usize],
    ) -> TractResult<OutletId> {
        let [blocks, h, w, c] = self.nhwc(x)?;
        let &[n, to_h, to_w, _] = out else {
            bail!("output of shape {out:?}");
        };
        if Some(blocks) != n.checked_mul(bh).and_then(|n| n.checked_mul(bw)) {
            bail!("{blocks} blocks of {bh}x{bw} for a batch of {n}");
        }
        let x = self.reshape(x, &[bh, bw, n, h, w, c])?;
        let x = self.transpose(x, &[2, 3, 0, 4, 1, 5])?;
        let x = self.reshape(x, &[n, h * bh, w * bw, c])?;
        let x = self.slice(x, 1, rows[0]..rows[0] + to_h)?;
        self.slice(x, 2, columns[0]..columns[0] + to_w)
    }
}

fn padding(padding: Padding2d) -> PaddingSpec {
    PaddingSpec::Explicit(
        tvec!(padding.top, padding.left),
        tvec!(padding.bottom, padding.right),
    )
}

/// Source index of each target index (tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h).
fn nearest_indices(from: usize, to: usize, mode: ResizeMode) -> Vec<i64> {
    let scale = match mode {
        ResizeMode::AlignCorners if to > 1 => (from as f32 - 1.0) / (to as f32 - 1.0),
        _ => from as f32 / to as f32,
    };
    let source = |target: usize| match mode {
        ResizeMode::Asymmetric => (target as f32 * scale).floor(),
        ResizeMode::AlignCorners => (target as f32 * scale).round(),
        ResizeMode::HalfPixelCenters => ((target as f32 + 0.5) * scale).floor(),
    };
    let last = from as i64 - 1;
    (0..to)
        .map(|target| (source(target) as i64).min(last))
        .collect()
}
