//! Files are written, read again and run; the `.tflite` file of the same model says what they are to answer.

use super::*;
use crate::engine::{self, Options};
use crate::graph::{Activation, Conv2d, Padding2d, Pool2d, ResizeMode, TransposedAxes, ValueId};
use crate::model::{self, Normalization};
use crate::quantize::codes::Activations;
use crate::quantize::lower::InputType;
use crate::quantize::sample::{Sample, settings};
use crate::quantize::tflite;
use crate::tensor::{DType, TensorData, TensorView};

const INT8: Mode = Mode::Static(Activations::Int8);

/// A sample whose values all lie between -3 and 3.
#[derive(Default)]
struct Net(Sample);

impl Net {
    fn op(&mut self, op: Op, inputs: &[ValueId], dims: &[usize]) -> ValueId {
        let name = format!("v{}", self.0.graph.values.len());
        let id = self.0.node(op, inputs, dims, &name);
        self.0.observe(id, &[-3.0, 3.0]);
        id
    }

    /// A pointwise convolution to `filters` channels.
    fn conv(&mut self, x: ValueId, filters: usize, activation: Activation) -> ValueId {
        let depth = self.0.graph.shape(x).channels();
        let weights: Vec<f32> = (0..filters * depth)
            .map(|at| ((at * 37 % 19) as f32 - 9.0) / 9.0)
            .collect();
        let bias: Vec<f32> = (0..filters).map(|at| at as f32 / 8.0).collect();
        let name = format!("v{}", self.0.graph.values.len());
        let id = self.0.conv(x, &weights, &bias, activation, &name);
        self.0.observe(id, &[-1.0, 3.0]);
        id
    }
}

fn interface(sample: &Sample) -> Interface {
    let ids = sample.graph.outputs.iter();
    Interface {
        outputs: ids.map(|&id| sample.graph.info(id).name.clone()).collect(),
        is_nchw: sample.graph.shape(sample.graph.inputs[0]).rank() == 4,
    }
}

fn answers(file: &[u8], input: &[f32]) -> Vec<TensorData> {
    let model = model::load(file, "m").unwrap();
    let mut engine = engine::load(&model, Options::default()).unwrap();
    engine.set_input(0, TensorView::F32(input)).unwrap();
    engine.run().unwrap();
    (0..engine.outputs().len())
        .map(|index| engine.output(index).to_data())
        .collect()
}

/// Asserts that both formats give the same answers, and that the ONNX file has no real values between its ends.
fn check_answers(sample: &Sample) {
    let lowered = sample.lower(&settings(INT8), InputType::Float32);
    let metadata = Metadata::default();
    let file = write(&lowered, &metadata, &interface(sample), "m").unwrap();
    let Program::Graph(graph) = model::load(&file, "m").unwrap().program else {
        panic!("no graph")
    };
    for node in &graph.nodes {
        let is_real = |id: &ValueId| graph.dtype(*id) == DType::F32;
        let converts = matches!(node.op, Op::Quantize | Op::Dequantize);
        assert!(converts || !node.outputs.iter().any(is_real), "{node:?}");
    }
    for (id, name) in graph.outputs.iter().zip(interface(sample).outputs) {
        assert_eq!(graph.info(*id).name, name);
    }
    let elements = sample.graph.shape(sample.graph.inputs[0]).elements();
    let input: Vec<f32> = (0..elements)
        .map(|at| ((at * 31 % 97) as f32 - 48.0) / 48.0)
        .collect();
    let expected = answers(&tflite::write(&lowered, &metadata, "m").unwrap(), &input);
    assert_eq!(answers(&file, &input), expected);
}

fn pool(window: usize) -> Pool2d {
    Pool2d {
        window: [window; 2],
        stride: [window; 2],
        padding: Padding2d::default(),
        activation: Activation::None,
    }
}

#[test]
fn operators_on_maps_give_the_answers_of_the_tflite_file() {
    let mut net = Net::default();
    let x = net.0.input(&[1, 8, 8, 3]);
    let a = net.conv(x, 4, Activation::Relu6);
    let b = net.conv(x, 4, Activation::None);
    let sum = net.op(Op::Add(Activation::Relu), &[a, b], &[1, 8, 8, 4]);
    let product = net.op(Op::Mul(Activation::None), &[a, sum], &[1, 8, 8, 4]);
    let joined = net.op(Op::Concat { axis: 3 }, &[sum, product], &[1, 8, 8, 8]);
    let most = net.op(Op::MaxPool2d(pool(2)), &[joined], &[1, 4, 4, 8]);
    let mean = net.op(Op::AvgPool2d(pool(2)), &[joined], &[1, 4, 4, 8]);
    let nearest = Op::ResizeNearest(ResizeMode::Asymmetric);
    let wide = net.op(nearest, &[most], &[1, 8, 8, 8]);
    let linear = Op::ResizeBilinear(ResizeMode::HalfPixelCenters);
    let smooth = net.op(linear, &[mean], &[1, 8, 8, 8]);
    let both = net.op(Op::Sub(Activation::None), &[wide, smooth], &[1, 8, 8, 8]);
    let pads = vec![[0, 0], [1, 0], [0, 2], [0, 0]];
    let padded = net.op(Op::Pad { pads }, &[both], &[1, 9, 10, 8]);
    let likely = net.op(Op::Logistic, &[padded], &[1, 9, 10, 8]);
    let global = net.op(Op::Mean { axes: vec![1, 2] }, &[padded], &[1, 1, 1, 8]);
    net.0.output(likely);
    net.0.output(global);
    check_answers(&net.0);
}

#[test]
fn depthwise_and_strided_convolutions_give_the_answers_of_the_tflite_file() {
    let mut net = Net::default();
    let x = net.0.input(&[1, 8, 8, 3]);
    let a = net.conv(x, 4, Activation::Relu6);
    let weights: Vec<f32> = (0..36).map(|at| (at % 7) as f32 / 9.0 - 0.3).collect();
    let constant = |net: &mut Net, dims: &[usize], data: &[f32]| {
        let id = net.op(Op::Reshape, &[], dims);
        net.0.graph.nodes.pop();
        net.0.graph.values[id.0].data = Some(crate::tensor::TensorData::F32(data.to_vec()));
        id
    };
    let depthwise = constant(&mut net, &[1, 3, 3, 4], &weights);
    let bias = constant(&mut net, &[4], &[0.1, -0.1, 0.5, 0.0]);
    let conv = Conv2d {
        stride: [2, 2],
        dilation: [1, 1],
        padding: Padding2d {
            top: 0,
            bottom: 1,
            left: 0,
            right: 1,
        },
        activation: Activation::Relu,
    };
    let op = Op::DepthwiseConv2d(conv);
    let b = net.op(op, &[a, depthwise, bias], &[1, 4, 4, 4]);
    let factors = constant(&mut net, &[4], &[0.5, 1.0, -1.0, 2.0]);
    let scaled = net.op(Op::Mul(Activation::None), &[b, factors], &[1, 4, 4, 4]);
    net.0.output(scaled);
    check_answers(&net.0);
}

#[test]
fn operators_on_lists_give_the_answers_of_the_tflite_file() {
    let mut net = Net::default();
    let x = net.0.input(&[1, 8, 8, 3]);
    let a = net.conv(x, 4, Activation::None);
    let b = net.conv(x, 4, Activation::None);
    let rows = net.op(Op::Reshape, &[a], &[1, 64, 4]);
    let likely = net.op(Op::Softmax { beta: 1.0 }, &[rows], &[1, 64, 4]);
    let begin_end = [vec![0, 1, 0, 3], vec![1, 8, 8, 4]];
    let [begin, end] = begin_end.map(|list| list.into_iter().map(i64::from).collect());
    let stride = vec![1, 2, 1, 1];
    let slice = Op::StridedSlice { begin, end, stride };
    let cut = net.op(slice, &[b], &[1, 4, 8]);
    let order = TransposedAxes(vec![0, 2, 1]);
    let turned = net.op(Op::Transpose(order), &[cut], &[1, 8, 4]);
    let packed = net.op(Op::Pack { axis: 1 }, &[turned, turned], &[1, 2, 8, 4]);
    let mean = net.op(Op::Mean { axes: vec![1, 2] }, &[b], &[1, 4]);
    for id in [likely, packed, mean] {
        net.0.output(id);
    }
    check_answers(&net.0);
}

#[test]
fn metadata_is_recorded() {
    let mut net = Net::default();
    let x = net.0.input(&[1, 8, 8, 3]);
    let y = net.conv(x, 2, Activation::None);
    net.0.output(y);
    let lowered = net.0.lower(&settings(INT8), InputType::UInt8);
    let metadata = Metadata {
        labels: Some("a\nb\n".into()),
        description: Some("two".into()),
        normalization: Some(Normalization {
            mean: vec![127.5],
            std: vec![127.5],
        }),
        ..Metadata::default()
    };
    let file = write(&lowered, &metadata, &interface(&net.0), "m").unwrap();
    let model = model::load(&file, "m").unwrap();
    assert_eq!(model.metadata, metadata);
    assert_eq!(model.nchw_inputs, [0]);
    let Program::Graph(graph) = &model.program else {
        panic!("no graph")
    };
    assert_eq!(graph.dtype(graph.inputs[0]), DType::U8);
}

#[test]
fn stored_weights_run_in_float() {
    let mut net = Net::default();
    let x = net.0.input(&[1, 4, 4, 3]);
    let y = net.conv(x, 2, Activation::Relu6);
    net.0.output(y);
    let lowered = net.0.lower(&settings(Mode::Weights), InputType::Float32);
    let file = write(&lowered, &Metadata::default(), &interface(&net.0), "m").unwrap();
    let model = model::load(&file, "m").unwrap();
    assert!(matches!(model.program, Program::Onnx(_)));
    assert!(
        model.format.ends_with("weights quantized"),
        "{}",
        model.format
    );
    let found = answers(&file, &[0.5; 48]);
    let TensorData::F32(found) = &found[0] else {
        panic!("not real")
    };
    assert_eq!(found.len(), 32);
}

#[test]
fn what_onnx_lacks_is_refused_by_name() {
    let mut net = Net::default();
    let x = net.0.input(&[1, 4, 4, 3]);
    let y = net.op(Op::Softmax { beta: 2.0 }, &[x], &[1, 4, 4, 3]);
    net.0.output(y);
    let refused = |mode| check(&net.0.graph, mode, "m").unwrap_err().to_string();
    assert!(refused(INT8).contains("SOFTMAX in an .onnx file"));
    assert!(refused(Mode::Dynamic).contains("--mode dynamic"));
}
