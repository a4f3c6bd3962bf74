use super::*;
use crate::graph::{
    Activation, Conv2d, DetectionPostProcess, FakeQuantize, Node, Op, Padding2d, Pool2d,
    ResizeMode, TransposedAxes, Value, ValueId,
};
use crate::tensor::DType;

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");

fn value(name: &str, dims: &[usize], dtype: DType, data: Option<TensorData>) -> Value {
    let info = TensorInfo {
        name: name.into(),
        shape: Shape::checked(dims.to_vec()).unwrap(),
        dtype,
        quant: None,
    };
    Value { info, data }
}

fn float(name: &str, dims: &[usize]) -> Value {
    value(name, dims, DType::F32, None)
}

fn weights(dims: &[usize], data: &[f32]) -> Value {
    let data = Some(TensorData::F32(data.to_vec()));
    value("weights", dims, DType::F32, data)
}

/// A graph of one node: input 0 is fed, the others are constants, the outputs follow.
fn graph(op: Op, inputs: Vec<Value>, outputs: Vec<Value>) -> Graph {
    let (count, made) = (inputs.len(), outputs.len());
    let ids = |range: std::ops::Range<usize>| range.map(ValueId).collect::<Vec<_>>();
    Graph {
        values: inputs.into_iter().chain(outputs).collect(),
        nodes: vec![Node {
            op,
            inputs: ids(0..count),
            outputs: ids(count..count + made),
            index: 0,
        }],
        inputs: ids(0..1),
        outputs: ids(count..count + made),
    }
}

fn answers(graph: &Graph, input: &[f32]) -> Vec<TensorData> {
    let mut engine = FloatEngine::from_graph(graph, "test", false).unwrap();
    engine.set_input(0, TensorView::F32(input)).unwrap();
    engine.run().unwrap();
    let outputs = 0..engine.outputs().len();
    outputs
        .map(|index| engine.output(index).to_data())
        .collect()
}

/// The single f32 output of one operator on `0, 1, 2, ...`.
#[track_caller]
fn check(op: Op, from: &[usize], constants: Vec<Value>, to: &[usize], expected: &[f32]) {
    let input: Vec<f32> = (0..from.iter().product())
        .map(|i: usize| i as f32)
        .collect();
    let inputs = std::iter::once(float("x", from)).chain(constants).collect();
    let graph = graph(op, inputs, vec![float("y", to)]);
    assert_near(&answers(&graph, &input)[0], expected);
}

#[track_caller]
fn assert_near(found: &TensorData, expected: &[f32]) {
    let TensorData::F32(found) = found else {
        panic!("{found:?}");
    };
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
    assert_eq!(found.len(), expected.len());
    assert!(
        found.iter().zip(expected).all(near),
        "{found:?} is not {expected:?}"
    );
}

fn conv(activation: Activation) -> Conv2d {
    Conv2d {
        stride: [1, 1],
        dilation: [1, 1],
        padding: Padding2d::default(),
        activation,
    }
}

#[test]
fn convolution_reads_ohwi_and_pads_each_side_as_told() {
    let bias = weights(&[2], &[0.5, -1.0]);
    let kernel = weights(&[2, 1, 1, 2], &[1.0, 10.0, -1.0, 0.0]);
    let expected = [10.5, 0.0, 32.5, 0.0, 54.5, 0.0, 76.5, 0.0];
    let op = Op::Conv2d(conv(Activation::Relu));
    check(
        op,
        &[1, 2, 2, 2],
        vec![kernel, bias],
        &[1, 2, 2, 2],
        &expected,
    );
    let kernel = weights(&[1, 2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]);
    let op = Op::Conv2d(Conv2d {
        padding: Padding2d {
            bottom: 1,
            right: 1,
            ..Padding2d::default()
        },
        ..conv(Activation::None)
    });
    let expected = [3210.0, 301.0, 32.0, 3.0];
    check(op, &[1, 2, 2, 1], vec![kernel], &[1, 2, 2, 1], &expected);
}

#[test]
fn depthwise_output_channels_share_input_channels_in_order() {
    let kernel = weights(&[1, 1, 2, 4], &[1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]);
    let op = Op::DepthwiseConv2d(conv(Activation::None));
    let expected = [20.0, 40.0, 93.0, 124.0];
    check(op, &[1, 1, 2, 2], vec![kernel], &[1, 1, 1, 4], &expected);
}

#[test]
fn fully_connected_multiplies_rows() {
    let op = || Op::FullyConnected(Activation::Relu6);
    let matrix = || weights(&[2, 3], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let bias = weights(&[2], &[0.5, 0.0]);
    let expected = [0.5, 3.0, 3.5, 6.0];
    check(
        op(),
        &[1, 2, 1, 3],
        vec![matrix(), bias],
        &[2, 2],
        &expected,
    );
    check(
        op(),
        &[2, 3],
        vec![matrix()],
        &[1, 2, 2],
        &[0.0, 3.0, 3.0, 6.0],
    );
}

#[test]
fn arithmetic_broadcasts_as_numpy_does() {
    let row = || vec![weights(&[3], &[1.0, 2.0, 3.0])];
    let shape = [1, 2, 3];
    let add = [1.0, 3.0, 5.0, 4.0, 6.0, 8.0];
    check(Op::Add(Activation::None), &shape, row(), &shape, &add);
    let sub = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0];
    check(Op::Sub(Activation::ReluN1To1), &shape, row(), &shape, &sub);
    let mul = [0.0, 2.0, 6.0, 3.0, 6.0, 6.0];
    check(Op::Mul(Activation::Relu6), &shape, row(), &shape, &mul);
}

#[test]
fn average_pooling_divides_by_what_lies_inside() {
    let pool = Pool2d {
        window: [2, 2],
        stride: [2, 2],
        padding: Padding2d {
            bottom: 1,
            right: 1,
            ..Padding2d::default()
        },
        activation: Activation::None,
    };
    let (from, to) = ([1, 3, 3, 1], [1, 2, 2, 1]);
    check(
        Op::AvgPool2d(pool),
        &from,
        vec![],
        &to,
        &[2.0, 3.5, 6.5, 8.0],
    );
    check(
        Op::MaxPool2d(pool),
        &from,
        vec![],
        &to,
        &[4.0, 5.0, 7.0, 8.0],
    );
}

#[test]
fn reductions_and_activations() {
    let mean = || Op::Mean { axes: vec![1, 2] };
    check(mean(), &[1, 2, 2, 2], vec![], &[1, 2], &[3.0, 4.0]);
    check(mean(), &[1, 2, 2, 2], vec![], &[1, 1, 1, 2], &[3.0, 4.0]);
    let e = [1.0, 2f32.exp()].map(|x| x / (1.0 + 2f32.exp()));
    check(Op::Softmax { beta: 2.0 }, &[1, 2], vec![], &[1, 2], &e);
    let sigmoid = [0.5, 1.0 / (1.0 + (-1f32).exp())];
    check(Op::Logistic, &[2], vec![], &[2], &sigmoid);
    let expected = [0.0, 4.0 / 6.0, 10.0 / 6.0, 3.0, 4.0];
    check(Op::HardSwish, &[5], vec![], &[5], &expected);
    // Codes 0, 1.25, 2.5 and 3.75, to even neighbours, at most 2 steps from the zero point.
    let grid = Op::FakeQuantize(FakeQuantize {
        scale: 0.8,
        zero_point: -1,
        lowest: -2,
        highest: 1,
    });
    check(grid, &[4], vec![], &[4], &[0.0, 0.8, 1.6, 1.6]);
    let graph = graph(
        Op::ArgMax { axis: 1 },
        vec![float("x", &[2, 3])],
        vec![value("y", &[2], DType::I32, None)],
    );
    let found = answers(&graph, &[0.0, 5.0, 5.0, 9.0, 1.0, 2.0]);
    assert_eq!(found, [TensorData::I32(vec![1, 0])]);
}

#[test]
fn shapes_change_without_touching_elements() {
    let range: Vec<f32> = (0..6).map(|i| i as f32).collect();
    check(Op::Reshape, &[1, 2, 3], vec![], &[3, 2], &range);
    let op = Op::Transpose(TransposedAxes(vec![1, 0]));
    check(
        op,
        &[2, 3],
        vec![],
        &[3, 2],
        &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0],
    );
    let op = Op::Pad {
        pads: vec![[1, 0], [0, 1]],
    };
    check(
        op,
        &[1, 2],
        vec![],
        &[2, 3],
        &[0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    );
    let other = || vec![weights(&[1, 2], &[8.0, 9.0])];
    let joined = [0.0, 1.0, 8.0, 9.0];
    check(Op::Concat { axis: 1 }, &[1, 2], other(), &[1, 4], &joined);
    let packed = [0.0, 8.0, 1.0, 9.0];
    check(Op::Pack { axis: 2 }, &[1, 2], other(), &[1, 2, 2], &packed);
    let parts = vec![float("a", &[2, 1]), float("b", &[2, 1])];
    let split = graph(Op::Split { axis: 1 }, vec![float("x", &[2, 2])], parts);
    let found = answers(&split, &range[..4]);
    assert_near(&found[0], &[0.0, 2.0]);
    assert_near(&found[1], &[1.0, 3.0]);
}

#[test]
fn slices_walk_both_ways() {
    let op = |begin: [i64; 2], end: [i64; 2], stride: [i64; 2]| Op::StridedSlice {
        begin: begin.to_vec(),
        end: end.to_vec(),
        stride: stride.to_vec(),
    };
    check(
        op([1, 0], [2, 3], [1, 2]),
        &[2, 3],
        vec![],
        &[2],
        &[3.0, 5.0],
    );
    check(
        op([0, 2], [1, -1], [1, -1]),
        &[2, 3],
        vec![],
        &[1, 3],
        &[2.0, 1.0, 0.0],
    );
}

#[test]
fn resize_reads_the_points_that_the_mode_names() {
    let nearest = |mode, expected: &[f32]| {
        check(
            Op::ResizeNearest(mode),
            &[1, 1, 3, 1],
            vec![],
            &[1, 1, 4, 1],
            expected,
        );
    };
    nearest(ResizeMode::Asymmetric, &[0.0, 0.0, 1.0, 2.0]);
    nearest(ResizeMode::AlignCorners, &[0.0, 1.0, 1.0, 2.0]);
    nearest(ResizeMode::HalfPixelCenters, &[0.0, 1.0, 1.0, 2.0]);
    let bilinear = |mode, expected: &[f32]| {
        check(
            Op::ResizeBilinear(mode),
            &[1, 1, 2, 1],
            vec![],
            &[1, 1, 4, 1],
            expected,
        );
    };
    bilinear(ResizeMode::Asymmetric, &[0.0, 0.5, 1.0, 1.0]);
    bilinear(ResizeMode::AlignCorners, &[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
    bilinear(ResizeMode::HalfPixelCenters, &[0.0, 0.25, 0.75, 1.0]);
}

#[test]
fn space_and_batch_trade_places() {
    let split = Op::SpaceToBatch {
        block: [2, 2],
        pads: [[0, 0], [0, 1]],
    };
    let blocks = [0.0, 2.0, 1.0, 0.0, 3.0, 5.0, 4.0, 0.0];
    check(split, &[1, 2, 3, 1], vec![], &[4, 1, 2, 1], &blocks);
    let join = Op::BatchToSpace {
        block: [2, 2],
        crops: [[0, 0], [0, 1]],
    };
    let joined = [0.0, 2.0, 1.0, 4.0, 6.0, 5.0];
    check(join, &[4, 1, 2, 1], vec![], &[1, 2, 3, 1], &joined);
}

fn post_process_graph() -> Graph {
    let op = Op::DetectionPostProcess(DetectionPostProcess {
        max_detections: 2,
        max_classes_per_detection: 1,
        detections_per_class: 1,
        use_regular_nms: false,
        nms_score_threshold: 0.4,
        nms_iou_threshold: 0.5,
        num_classes: 1,
        scale: [10.0, 10.0, 5.0, 5.0],
    });
    let mut graph = graph(
        op,
        vec![
            weights(&[1, 2, 4], &[0.0; 8]),
            float("scores", &[1, 2, 2]),
            weights(&[2, 4], &[0.5, 0.5, 1.0, 1.0, 3.0, 3.0, 1.0, 2.0]),
        ],
        vec![
            float("boxes", &[1, 2, 4]),
            float("classes", &[1, 2]),
            float("kept", &[1, 2]),
            float("count", &[1]),
        ],
    );
    // The scores come from a node of tract.
    graph.values.push(float("x", &[1, 2, 2]));
    let x = ValueId(graph.values.len() - 1);
    let add = Node {
        op: Op::Activation(Activation::Relu6),
        inputs: vec![x],
        outputs: vec![ValueId(1)],
        index: 0,
    };
    graph.nodes.insert(0, add);
    graph.inputs = vec![x];
    graph
}

#[test]
fn post_processing_follows_tract() {
    let found = answers(&post_process_graph(), &[0.0, 0.5, 0.0, 0.75]);
    assert_near(&found[0], &[2.5, 2.0, 3.5, 4.0, 0.0, 0.0, 1.0, 1.0]);
    assert_near(&found[1], &[0.0, 0.0]);
    assert_near(&found[2], &[0.75, 0.5]);
    assert_near(&found[3], &[2.0]);
}

#[test]
fn an_input_may_skip_tract() {
    let mut graph = post_process_graph();
    graph.values[0] = float("encodings", &[1, 2, 4]);
    graph.inputs.push(ValueId(0));
    let mut engine = FloatEngine::from_graph(&graph, "test", false).unwrap();
    let scores = TensorView::F32(&[0.0, 0.5, 0.0, 0.75]);
    engine.set_input(0, scores).unwrap();
    let encodings = [0.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0];
    engine.set_input(1, TensorView::F32(&encodings)).unwrap();
    engine.run().unwrap();
    let expected = [3.5, 2.0, 4.5, 4.0, 0.0, 0.0, 1.0, 1.0];
    assert_near(&engine.output(0).to_data(), &expected);
}

#[test]
fn every_value_is_kept_when_asked_for() {
    let graph = post_process_graph();
    let mut engine = FloatEngine::from_graph(&graph, "test", true).unwrap();
    engine
        .set_input(0, TensorView::F32(&[-1.0, 0.5, 9.0, 0.1]))
        .unwrap();
    assert_eq!(engine.run_profiled().unwrap().len(), engine.steps().len());
    let made = engine.intermediates();
    let names: Vec<_> = made.iter().map(|(info, _)| info.name.as_str()).collect();
    assert_eq!(names, ["scores", "boxes", "classes", "kept", "count"]);
    assert_near(&made[0].1, &[0.0, 0.5, 6.0, 0.1]);
}

#[test]
fn post_processing_must_be_last_and_consistent() {
    let mut early = post_process_graph();
    early.nodes.swap(0, 1);
    let refused = FloatEngine::from_graph(&early, "test", false)
        .err()
        .unwrap();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    let mut wrong = post_process_graph();
    wrong.values[2] = weights(&[1, 4], &[0.0; 4]);
    let refused = FloatEngine::from_graph(&wrong, "test", false)
        .err()
        .unwrap();
    assert!(matches!(refused, Error::Model { .. }), "{refused}");
}

#[test]
fn a_shape_that_the_operator_does_not_make_is_refused() {
    let inputs = vec![float("x", &[1, 4])];
    let graph = graph(Op::Logistic, inputs, vec![float("y", &[1, 5])]);
    let refused = FloatEngine::from_graph(&graph, "test", false)
        .err()
        .unwrap();
    assert!(refused.to_string().contains("LOGISTIC"), "{refused}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let inputs = vec![float("x", &[1, 4])];
    let graph = graph(Op::Logistic, inputs, vec![float("y", &[1, 4])]);
    let mut engine = FloatEngine::from_graph(&graph, "test", false).unwrap();
    assert!(engine.set_input(1, TensorView::F32(&[0.0; 4])).is_err());
    assert!(engine.set_input(0, TensorView::F32(&[0.0; 3])).is_err());
    assert!(engine.set_input(0, TensorView::U8(&[0; 4])).is_err());
}

/// Reads `data/golden/NAME.json` and the picture beside it.
fn golden(model: &str) -> Option<(Vec<u8>, serde_json::Value, image::RgbImage)> {
    let read = |path: &str| std::fs::read(format!("{SHARED}/{path}")).ok();
    let file = model.rsplit('/').next().unwrap();
    let Some(text) = read(&format!("data/golden/{file}.json")) else {
        eprintln!("SKIPPED: ../shared is absent");
        return None;
    };
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let picture = read(json["input"].as_str().unwrap()).unwrap();
    let picture = image::load_from_memory(&picture).unwrap().to_rgb8();
    Some((read(model).unwrap(), json, picture))
}

/// The f32 values of a golden output, in the JSON or in the file that it names.
fn golden_values(output: &serde_json::Value) -> Vec<f32> {
    if let Some(values) = output["values"].as_array() {
        return values.iter().map(|v| v.as_f64().unwrap() as f32).collect();
    }
    let file = output["values_file"].as_str().unwrap();
    let bytes = std::fs::read(format!("{SHARED}/data/golden/{file}")).unwrap();
    let words = bytes.as_chunks().0.iter();
    words.map(|&word| f32::from_le_bytes(word)).collect()
}

#[test]
fn onnx_models_answer_as_onnx_runtime_does() {
    let cases = [
        ("models/mobilenet_v2_small_128_float.onnx", 127.5, 127.5),
        ("models/fastestdet_352_coco_float.onnx", 0.0, 255.0),
        (
            "models/ultraface_rfb_320_simplified_float.onnx",
            127.0,
            128.0,
        ),
        ("models/ultraface_rfb_320_float.onnx", 127.0, 128.0),
    ];
    for (model, mean, std) in cases {
        let Some((bytes, json, picture)) = golden(model) else {
            return;
        };
        let loaded = crate::model::load(&bytes, model).unwrap();
        let mut engine = crate::engine::load(&loaded, Default::default()).unwrap();
        let real = |&pixel: &u8| (f32::from(pixel) - mean) / std;
        let input: Vec<f32> = picture.iter().map(real).collect();
        engine.set_input(0, TensorView::F32(&input)).unwrap();
        engine.run().unwrap();
        let outputs = json["outputs"]["onnxruntime_cpu"].as_array().unwrap();
        assert_eq!(outputs.len(), engine.outputs().len());
        for (index, output) in outputs.iter().enumerate() {
            assert_near(&engine.output(index).to_data(), &golden_values(output));
            assert_eq!(
                engine.outputs()[index].name,
                output["name"].as_str().unwrap()
            );
        }
    }
}

/// Runs a float `.tflite` file on its golden picture; the outputs of LiteRT's reference kernels beside ours.
fn tflite_against_golden(model: &str, mean: f32, std: f32) -> Option<Vec<(TensorData, Vec<f32>)>> {
    let (bytes, json, picture) = golden(model)?;
    let loaded = crate::model::load(&bytes, model).unwrap();
    let crate::model::Program::Graph(mut graph) = loaded.program else {
        panic!("not a graph");
    };
    crate::graph::passes::dequantize_weights(&mut graph);
    let input: Vec<f32> = picture
        .iter()
        .map(|&p| (f32::from(p) - mean) / std)
        .collect();
    let mut engine = FloatEngine::from_graph(&graph, model, false).unwrap();
    engine.set_input(0, TensorView::F32(&input)).unwrap();
    engine.run().unwrap();
    let outputs = json["outputs"]["litert_reference_kernels"]
        .as_array()
        .unwrap();
    assert_eq!(outputs.len(), engine.outputs().len());
    let pair = |(index, output)| (engine.output(index).to_data(), golden_values(output));
    Some(outputs.iter().enumerate().map(pair).collect())
}

#[test]
fn float_tflite_models_answer_as_litert_does() {
    let cases = [
        ("models/vww_96_float.tflite", 0.0, 255.0),
        (
            "models/derived/ssd_mobilenet_v2_fpnlite_320_coco_float.tflite",
            127.5,
            127.5,
        ),
    ];
    for (model, mean, std) in cases {
        for (found, expected) in tflite_against_golden(model, mean, std)
            .into_iter()
            .flatten()
        {
            assert_near(&found, &expected);
        }
    }
}

#[test]
fn hybrid_tflite_models_score_within_a_fiftieth_of_litert() {
    let model = "models/ssd_mobilenet_v2_fpnlite_320_coco_dynrange.tflite";
    let Some(outputs) = tflite_against_golden(model, 127.5, 127.5) else {
        return;
    };
    let (TensorData::F32(found), expected) = &outputs[2] else {
        panic!("scores are not f32");
    };
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.02;
    assert!(
        found.iter().zip(expected).all(near),
        "{found:?} {expected:?}"
    );
}
