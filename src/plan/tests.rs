//! Blocks that run depth-first give the codes of their layers run one at a time, on any number of threads.

use super::*;
use crate::graph::{Activation, Conv2d, Node, Op, Padding2d, Value, ValueId};
use crate::kernels::Isa;
use crate::tensor::{QuantParams, Shape};

/// Makes graphs of uint8 codes with random weights.
struct Builder {
    graph: Graph,
    random: u64,
}

impl Builder {
    fn new(dims: [usize; 4]) -> (Self, ValueId) {
        let mut builder = Self {
            graph: Graph::default(),
            random: 0x1234_5678_9abc_def1,
        };
        let input = builder.activation(dims);
        builder.graph.inputs.push(input);
        (builder, input)
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn value(&mut self, dims: &[usize], quant: (f32, i32), data: Option<TensorData>) -> ValueId {
        let dtype = data.as_ref().map_or(DType::U8, |data| data.view().dtype());
        self.graph.values.push(Value {
            info: TensorInfo {
                name: format!("value {}", self.graph.values.len()),
                shape: Shape::checked(dims.to_vec()).unwrap(),
                dtype,
                quant: Some(QuantParams::per_tensor(quant.0, quant.1)),
            },
            data,
        });
        ValueId(self.graph.values.len() - 1)
    }

    fn activation(&mut self, dims: [usize; 4]) -> ValueId {
        let zero_point = 100 + (self.next() % 60) as i32;
        self.value(&dims, (0.05, zero_point), None)
    }

    fn dims(&self, id: ValueId) -> [usize; 4] {
        self.graph.shape(id).nhwc().unwrap()
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], output: ValueId) -> ValueId {
        let index = self.graph.nodes.len();
        self.graph.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: vec![output],
            index,
        });
        output
    }

    /// SAME padding. Weights fit int8 less their zero point in most channels, not in all.
    fn windowed(
        &mut self,
        input: ValueId,
        weights: [usize; 4],
        stride: usize,
        deep: bool,
    ) -> ValueId {
        let [_, height, width, _] = self.dims(input);
        let channels = if deep { weights[3] } else { weights[0] };
        let [out_height, out_width] = [height, width].map(|size: usize| size.div_ceil(stride));
        let pad = |size: usize, out: usize, window: usize| {
            ((out - 1) * stride + window).saturating_sub(size)
        };
        let [tall, wide] = [
            pad(height, out_height, weights[1]),
            pad(width, out_width, weights[2]),
        ];
        let count = weights.iter().product();
        let codes: Vec<u8> = (0..count)
            .map(|at: usize| match at % 3001 {
                7 => 255,
                _ => 90 + (self.next() % 70) as u8,
            })
            .collect();
        let bias: Vec<i32> = (0..channels)
            .map(|_| (self.next() % 2000) as i32 - 1000)
            .collect();
        let depth = count / channels;
        let scale = 0.02 / (depth as f32).sqrt();
        let weights = self.value(&weights, (scale, 121), Some(TensorData::U8(codes)));
        let bias = self.value(&[channels], (0.05 * scale, 0), Some(TensorData::I32(bias)));
        let conv = Conv2d {
            stride: [stride; 2],
            dilation: [1, 1],
            padding: Padding2d {
                top: tall / 2,
                bottom: tall - tall / 2,
                left: wide / 2,
                right: wide - wide / 2,
            },
            activation: Activation::None,
        };
        let out = self.activation([1, out_height, out_width, channels]);
        let op = if deep {
            Op::DepthwiseConv2d(conv)
        } else {
            Op::Conv2d(conv)
        };
        self.node(op, &[input, weights, bias], out)
    }

    fn conv(&mut self, input: ValueId, channels: usize, window: usize, stride: usize) -> ValueId {
        let depth = self.dims(input)[3];
        self.windowed(input, [channels, window, window, depth], stride, false)
    }

    fn depthwise(&mut self, input: ValueId, window: usize, stride: usize) -> ValueId {
        let channels = self.dims(input)[3];
        self.windowed(input, [1, window, window, channels], stride, true)
    }

    /// A row and a column of zero points behind the picture.
    fn pad(&mut self, input: ValueId) -> ValueId {
        let [_, height, width, channels] = self.dims(input);
        let out = self.activation([1, height + 1, width + 1, channels]);
        let quant = self.graph.quant(input).cloned();
        self.graph.values[out.0].info.quant = quant;
        let pads = vec![[0, 0], [0, 1], [0, 1], [0, 0]];
        self.node(Op::Pad { pads }, &[input], out)
    }

    fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let out = self.activation(self.dims(a));
        self.node(Op::Add(Activation::None), &[a, b], out)
    }

    /// The output's codes, and how many steps made them.
    fn run(&self, isa: Isa, threads: usize, keep_intermediates: bool) -> (TensorData, usize) {
        self.graph.validate("test").unwrap();
        let kernels = Kernels::of(isa).unwrap();
        let options = CompileOptions {
            threads,
            keep_intermediates,
        };
        let plan = Plan::compile(&self.graph, "test", &kernels, options).unwrap();
        let mut arena = plan.arena();
        let count = self.graph.shape(self.graph.inputs[0]).elements();
        let input: Vec<u8> = (0..count).map(|at| (at * 37 % 251) as u8).collect();
        plan.set_input(&mut arena, 0, TensorView::U8(&input));
        plan.run(&mut arena, &Pool::new(threads).unwrap());
        (plan.output(&arena, 0).to_data(), plan.steps().len())
    }

    /// Checks the graph with the given output; `steps` beside the output's own are expected.
    #[track_caller]
    fn check(mut self, output: ValueId, steps: usize) {
        self.graph.outputs.push(output);
        let (expected, _) = self.run(Isa::Scalar, 1, true);
        let TensorData::U8(codes) = &expected else {
            panic!("uint8 codes");
        };
        let in_range = codes.iter().filter(|&&code| code > 0 && code < 255).count();
        assert!(in_range * 2 > codes.len(), "most codes are not saturated");
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for threads in 1..=4 {
                let (got, made) = self.run(isa, threads, false);
                assert_eq!(made, steps + 1, "steps");
                assert!(got == expected, "{isa}, {threads} threads");
            }
        }
    }
}

#[test]
fn an_inverted_residual_is_one_step() {
    for (size, channels) in [(7, 24), (9, 16), (40, 16)] {
        let (mut b, input) = Builder::new([1, size, size, channels]);
        let expanded = b.conv(input, 6 * channels, 1, 1);
        let filtered = b.depthwise(expanded, 3, 1);
        let projected = b.conv(filtered, channels, 1, 1);
        let sum = b.add(input, projected);
        b.check(sum, 1);
    }
}

#[test]
fn strips_and_halves_meet_at_every_stride_and_kernel() {
    for (window, stride) in [(3, 2), (5, 1), (5, 2), (2, 1), (3, 3)] {
        for [height, width] in [[11, 6], [64, 50]] {
            let (mut b, input) = Builder::new([1, height, width, 8]);
            let expanded = b.conv(input, 96, 1, 1);
            let filtered = b.depthwise(expanded, window, stride);
            let projected = b.conv(filtered, 20, 1, 1);
            b.check(projected, 1);
        }
    }
}

#[test]
fn the_first_layers_and_separable_convolutions_are_blocks() {
    let (mut b, input) = Builder::new([1, 33, 47, 3]);
    let first = b.conv(input, 32, 3, 2);
    let filtered = b.depthwise(first, 3, 1);
    let pointwise = b.conv(filtered, 24, 1, 1);
    // No convolution before the second: its input is read again by the addition.
    let filtered = b.depthwise(pointwise, 3, 1);
    let projected = b.conv(filtered, 24, 1, 1);
    let sum = b.add(projected, pointwise);
    b.check(sum, 2);
}

#[test]
fn values_that_others_read_are_made() {
    let (mut b, input) = Builder::new([1, 8, 8, 16]);
    let expanded = b.conv(input, 32, 1, 1);
    let filtered = b.depthwise(expanded, 3, 1);
    let projected = b.conv(filtered, 32, 1, 1);
    // The expanded tensor has a second reader: it is made by a step of its own.
    let sum = b.add(projected, expanded);
    b.check(sum, 2);
}

#[test]
fn a_pad_is_part_of_the_block_behind_it() {
    for size in [7, 20] {
        let (mut b, input) = Builder::new([1, size, size, 8]);
        let padded = b.pad(input);
        let expanded = b.conv(padded, 48, 3, 2);
        let padded = b.pad(expanded);
        let filtered = b.depthwise(padded, 3, 2);
        let projected = b.conv(filtered, 16, 1, 1);
        b.check(projected, 1);
    }
}
