//! One step of a plan: what it does, and where its inputs and outputs lie.

use super::arena::{Arena, Slot};
use super::block::Block;
use super::conv::{Conv, DepthwiseConv};
use super::float::{FloatBinary, FloatConv, FloatDepthwiseConv, FloatUnary};
use super::hybrid::HybridConv;
use super::movement::Movement;
use super::pool::Pool;
use super::post_process::PostProcess;
use crate::kernels::Elementwise;
use crate::kernels::postprocess::PostProcessScratch;
use crate::kernels::requant::OutputStage;
use crate::kernels::scalar::{self, AddParams, BilinearAxis, MeanParams, MulParams, SoftmaxTable};
use crate::tensor::TensorInfo;

/// A step with its memory. Slots of one step never overlap, but for inputs among themselves.
pub(super) struct Step {
    /// Position of the operator in the model file.
    pub index: usize,
    pub op: String,
    /// The first value that it makes, in the element type of the file.
    pub output: TensorInfo,
    pub macs: u64,
    pub weight_bytes: usize,
    pub kind: Kind,
    pub inputs: Vec<Slot>,
    pub outputs: Vec<Slot>,
    pub scratch: Slot,
}

/// What a step does.
pub(super) enum Kind {
    Block(Box<Block>),
    Conv(Box<Conv>),
    Depthwise(Box<DepthwiseConv>),
    HybridConv(Box<HybridConv>),
    FloatConv(Box<FloatConv>),
    FloatDepthwise(Box<FloatDepthwiseConv>),
    FloatBinary(FloatBinary),
    Float(FloatUnary),
    Add(AddParams),
    Mul(MulParams),
    Table(Box<[i8; 256]>),
    Move(Movement),
    MaxPool(Pooling),
    AveragePool {
        pooling: Pooling,
        code_offset: i32,
    },
    Mean(Mean),
    Softmax {
        table: SoftmaxTable,
        depth: usize,
    },
    ResizeNearest(Resize<usize>),
    ResizeBilinear(Resize<BilinearAxis>),
    Quantize {
        scale: f32,
        stage: OutputStage,
    },
    Dequantize {
        scale: f32,
        zero_point: i32,
    },
    ArgMax {
        axis: usize,
        inner: usize,
    },
    PostProcess(Box<PostProcess>),
    /// int8 codes to the uint8 codes of the file.
    FlipSign,
}

/// Pooling of whole pictures.
pub(super) struct Pooling {
    pub pool: scalar::Pool,
    /// Rows of an output picture.
    pub out_height: usize,
    pub stage: OutputStage,
}

/// The mean over all rows of each picture.
pub(super) struct Mean {
    pub channels: usize,
    /// Rows that one mean is taken over.
    pub rows: usize,
    pub params: MeanParams,
}

/// Resizing of whole pictures: what every output row and column reads.
pub(super) struct Resize<Axis> {
    pub input: [usize; 2],
    pub channels: usize,
    pub rows: Vec<Axis>,
    pub columns: Vec<Axis>,
}

/// uint8 codes to int8 codes and back.
pub(super) fn flip_sign(input: &[i8], out: &mut [i8]) {
    for (out, &code) in out.iter_mut().zip(input) {
        *out = code ^ i8::MIN;
    }
}

impl Step {
    /// The state that the step needs in an arena.
    pub fn post_process_scratch(&self) -> Option<PostProcessScratch> {
        match &self.kind {
            Kind::PostProcess(post) => Some(post.new_scratch()),
            _ => None,
        }
    }

    /// Name of the kernel that does the work.
    pub fn kernel_name(&self, table: &Elementwise) -> String {
        let name = match &self.kind {
            Kind::Block(block) => return block.kernel_names(),
            Kind::Conv(conv) => conv.kernel.name,
            Kind::Depthwise(conv) => conv.kernel.name,
            Kind::HybridConv(conv) => conv.kernel.name,
            Kind::FloatConv(_) => "f32_gemm_scalar",
            Kind::FloatDepthwise(_) => "f32_depthwise_scalar",
            Kind::FloatBinary(_) => "f32_binary_scalar",
            Kind::Float(unary) => unary.kernel_name(),
            Kind::Add(_) => return format!("i8_add_{}", table.suffix),
            Kind::Mul(_) => return format!("i8_mul_{}", table.suffix),
            Kind::Table(_) => "i8_table_scalar",
            Kind::Move(_) => "copy",
            Kind::MaxPool(_) => "i8_max_pool_scalar",
            Kind::AveragePool { .. } => "i8_average_pool_scalar",
            Kind::Mean(_) => return format!("i8_mean_{}", table.suffix),
            Kind::Softmax { .. } => "i8_softmax_scalar",
            Kind::ResizeNearest(_) => "i8_resize_nearest_scalar",
            Kind::ResizeBilinear(_) => "i8_resize_bilinear_scalar",
            Kind::Quantize { .. } => return format!("f32_quantize_{}", table.suffix),
            Kind::Dequantize { .. } => return format!("i8_dequantize_{}", table.suffix),
            Kind::ArgMax { .. } => "i8_arg_max_scalar",
            Kind::PostProcess(post) => post.kernel_name(),
            Kind::FlipSign => "flip_sign",
        };
        name.to_owned()
    }

    /// Bytes of inputs, outputs and weights.
    pub fn bytes_moved(&self) -> u64 {
        let slots = self.inputs.iter().chain(&self.outputs);
        (slots.map(|slot| slot.bytes).sum::<usize>() + self.weight_bytes) as u64
    }

    /// Does the work.
    pub fn run(&self, arena: &mut Arena, pool: &Pool, table: &Elementwise) {
        if let Kind::PostProcess(post) = &self.kind {
            return post.run(&self.inputs, &self.outputs, self.scratch, arena);
        }
        let memory = arena.bytes_mut();
        if let Kind::Block(block) = &self.kind {
            return self.run_block(block, memory, pool);
        }
        if let Kind::Add(_) | Kind::Mul(_) | Kind::FloatBinary(_) = self.kind {
            return self.run_binary(memory, pool, table);
        }
        let (input, out, scratch) = (self.inputs[0], self.outputs[0], self.scratch);
        let [input, out, scratch] =
            disjoint(memory, [input.readable(), out.range(), scratch.range()]);
        let codes = &input[..self.inputs[0].bytes];
        match &self.kind {
            Kind::Conv(conv) => conv.run(input, out, scratch, pool),
            Kind::Depthwise(conv) => conv.run(codes, out, scratch, pool),
            Kind::HybridConv(_) | Kind::FloatConv(_) | Kind::FloatDepthwise(_) | Kind::Float(_) => {
                self.run_float(codes, out, scratch, pool)
            }
            Kind::Table(table) => scalar::apply_table(table, codes, out),
            Kind::Move(movement) => movement.run(codes, out, scratch),
            Kind::MaxPool(pooling) => pooling.each(codes, out, |pool, input, out, stage| {
                scalar::max_pool(pool, input, out, stage);
            }),
            Kind::AveragePool {
                pooling,
                code_offset,
            } => {
                let sums: &mut [i32] = bytemuck::cast_slice_mut(scratch);
                pooling.each(codes, out, |pool, input, out, stage| {
                    scalar::average_pool(pool, input, out, sums, *code_offset, stage);
                });
            }
            Kind::Mean(mean) => mean.run(codes, out, bytemuck::cast_slice_mut(scratch), table),
            Kind::Softmax { table, depth } => table.apply(*depth, codes, out),
            Kind::ResizeNearest(resize) => resize.each(codes, out, |width, input, out| {
                let (rows, columns) = (&resize.rows, &resize.columns);
                scalar::resize_nearest(input, width, resize.channels, rows, columns, out);
            }),
            Kind::ResizeBilinear(resize) => resize.each(codes, out, |width, input, out| {
                let (rows, columns) = (&resize.rows, &resize.columns);
                scalar::resize_bilinear(input, width, resize.channels, rows, columns, out);
            }),
            Kind::Quantize { scale, stage } => {
                (table.quantize)(bytemuck::cast_slice(codes), out, *scale, *stage);
            }
            Kind::Dequantize { scale, zero_point } => {
                (table.dequantize)(codes, bytemuck::cast_slice_mut(out), *scale, *zero_point);
            }
            Kind::ArgMax { axis, inner } => {
                scalar::arg_max(codes, bytemuck::cast_slice_mut(out), *axis, *inner);
            }
            Kind::FlipSign => flip_sign(codes, out),
            Kind::Block(_)
            | Kind::Add(_)
            | Kind::Mul(_)
            | Kind::FloatBinary(_)
            | Kind::PostProcess(_) => {}
        }
    }

    fn run_block(&self, block: &Block, memory: &mut [i8], pool: &Pool) {
        let (input, out) = (self.inputs[0].readable(), self.outputs[0].range());
        match self.inputs.get(1) {
            Some(residual) if *residual != self.inputs[0] => {
                let ranges = [input, residual.range(), out, self.scratch.range()];
                let [input, residual, out, scratch] = disjoint(memory, ranges);
                block.run(input, Some(residual), out, scratch, pool);
            }
            residual => {
                let [input, out, scratch] = disjoint(memory, [input, out, self.scratch.range()]);
                let residual = residual.map(|slot| &input[..slot.bytes]);
                block.run(input, residual, out, scratch, pool);
            }
        }
    }

    /// From real values to real values; both as bytes.
    fn run_float(&self, input: &[i8], out: &mut [i8], scratch: &mut [i8], pool: &Pool) {
        let (input, out) = (bytemuck::cast_slice(input), bytemuck::cast_slice_mut(out));
        match &self.kind {
            Kind::HybridConv(conv) => conv.run(input, out, scratch, pool),
            Kind::FloatConv(conv) => conv.run(input, out, scratch, pool),
            Kind::FloatDepthwise(conv) => conv.run(input, out, scratch, pool),
            Kind::Float(unary) => unary.run(input, out, pool),
            _ => {}
        }
    }

    /// Two inputs, the second repeating along the first.
    fn run_binary(&self, memory: &mut [i8], pool: &Pool, table: &Elementwise) {
        let [a, b] = [self.inputs[0], self.inputs[1]];
        let run = |a: &[i8], b: &[i8], out: &mut [i8]| {
            let rows = pool.rows_per_job(out.len() / b.len().max(1), 1) * b.len();
            let rows = match a.len() == b.len() {
                true => pool.rows_per_job(out.len(), 64),
                false => rows,
            };
            let jobs = a
                .chunks(rows)
                .zip(b.chunks(rows).cycle())
                .zip(out.chunks_mut(rows));
            pool.share(jobs, &|((a, b), out)| match &self.kind {
                Kind::Add(params) => (table.add)(params, a, b, out),
                Kind::Mul(params) => (table.mul)(params, a, b, out),
                Kind::FloatBinary(binary) => binary.run(a, b, out),
                _ => {}
            });
        };
        if a == b {
            let [a, out] = disjoint(memory, [a.range(), self.outputs[0].range()]);
            run(a, a, out);
        } else {
            let [a, b, out] = disjoint(memory, [a.range(), b.range(), self.outputs[0].range()]);
            run(a, b, out);
        }
    }
}

/// Pieces of the arena, each on its own.
pub(super) fn disjoint<const N: usize>(
    memory: &mut [i8],
    ranges: [std::ops::Range<usize>; N],
) -> [&mut [i8]; N] {
    memory
        .get_disjoint_mut(ranges)
        .expect("arena::place keeps values that live together apart")
}

impl Pooling {
    fn each(
        &self,
        input: &[i8],
        out: &mut [i8],
        mut run: impl FnMut(&scalar::Pool, &[i8], &mut [i8], OutputStage),
    ) {
        let channels = self.pool.channels;
        let image = self.pool.input[0] * self.pool.input[1] * channels;
        let result = self.out_height * self.pool.out_width * channels;
        for (input, out) in input.chunks_exact(image).zip(out.chunks_exact_mut(result)) {
            run(&self.pool, input, out, self.stage);
        }
    }
}

impl Mean {
    fn run(&self, input: &[i8], out: &mut [i8], sums: &mut [i32], table: &Elementwise) {
        let sums = &mut sums[..self.channels];
        let images = input.chunks_exact(self.rows * self.channels);
        for (input, out) in images.zip(out.chunks_exact_mut(self.channels)) {
            (table.mean_rows)(&self.params, input, out, sums);
        }
    }
}

impl<Axis> Resize<Axis> {
    fn each(&self, input: &[i8], out: &mut [i8], run: impl Fn(usize, &[i8], &mut [i8])) {
        let image = self.input[0] * self.input[1] * self.channels;
        let result = self.rows.len() * self.columns.len() * self.channels;
        for (input, out) in input.chunks_exact(image).zip(out.chunks_exact_mut(result)) {
            run(self.input[1], input, out);
        }
    }
}
