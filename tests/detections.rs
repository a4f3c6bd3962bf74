//! Detections of real models are those that the written rule finds in the scores as real values.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use eyas::engine::{self, Options};
use eyas::graph::{DetectionPostProcess, Graph, Node, Op};
use eyas::kernels::postprocess::{
    Encodings, PostProcessOptions, PostProcessOutputs, PostProcessScratch, detection_post_process,
};
use eyas::model::{self, Model, Program};
use eyas::tensor::{DType, TensorData, TensorInfo, TensorView};

const MODELS: [&str; 3] = [
    "ssd_mobilenet_v1_300_coco_quant.tflite",
    "ssd_mobilenet_v2_fpnlite_320_cat_raccoon_int8.tflite",
    "ssd_postprocess_only_uint8.tflite",
];

const PICTURES: [&str; 3] = ["pets.jpg", "road_cars_1.jpg", "grace_hopper.bmp"];

fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if !shared.exists() {
        println!("SKIPPED: ../shared is absent");
        return None;
    }
    Some(shared)
}

/// A picture for a model's input; noise for an input that takes none.
fn input(info: &TensorInfo, picture: &Path) -> TensorData {
    let count = info.shape.elements();
    let bytes: Vec<u8> = match info.shape.dims() {
        &[1, height, width, 3] => {
            let filter = image::imageops::FilterType::Triangle;
            let picture = image::open(picture).unwrap();
            let picture = picture.resize_exact(width as u32, height as u32, filter);
            picture.to_rgb8().into_raw()
        }
        _ => (0..count)
            .map(|at| (at * at * 31 % 1009 / 4) as u8)
            .collect(),
    };
    match info.dtype {
        DType::U8 => TensorData::U8(bytes),
        DType::I8 => TensorData::I8(bytes.iter().map(|&byte| (byte ^ 0x80) as i8).collect()),
        other => panic!("an input of {other}"),
    }
}

/// Every value that the model's nodes make, and its inputs, by name; and the outputs in order.
type Values = (HashMap<String, (TensorInfo, TensorData)>, Vec<TensorData>);

fn run(model: &Model, picture: &Path, keep_intermediates: bool) -> Values {
    let options = Options {
        keep_intermediates,
        ..Options::default()
    };
    let mut engine = engine::load(model, options).unwrap();
    let inputs = engine.inputs().to_vec();
    let mut values = HashMap::new();
    for (index, info) in inputs.into_iter().enumerate() {
        let data = input(&info, picture);
        engine.set_input(index, data.view()).unwrap();
        values.insert(info.name.clone(), (info, data));
    }
    engine.run().unwrap();
    if keep_intermediates {
        let made = engine.intermediates().into_iter();
        values.extend(made.map(|(info, data)| (info.name.clone(), (info, data))));
    }
    let outputs = 0..engine.outputs().len();
    (
        values,
        outputs.map(|at| engine.output(at).to_data()).collect(),
    )
}

/// A value's real values.
fn real((info, data): &(TensorInfo, TensorData)) -> Vec<f32> {
    let quant = info.quant.as_ref();
    let code = |code: i32| {
        let quant = quant.expect("codes have a scale");
        (code - quant.zero_point()) as f32 * quant.scale()
    };
    match data.view() {
        TensorView::F32(values) => values.to_vec(),
        TensorView::U8(codes) => codes.iter().map(|&c| code(c.into())).collect(),
        TensorView::I8(codes) => codes.iter().map(|&c| code(c.into())).collect(),
        TensorView::I32(_) => panic!("no scores are int32"),
    }
}

fn options(op: &DetectionPostProcess) -> PostProcessOptions {
    PostProcessOptions {
        max_detections: op.max_detections,
        max_classes_per_detection: op.max_classes_per_detection,
        detections_per_class: op.detections_per_class,
        use_regular_nms: op.use_regular_nms,
        nms_score_threshold: op.nms_score_threshold,
        nms_iou_threshold: op.nms_iou_threshold,
        num_classes: op.num_classes,
        scale: op.scale,
    }
}

/// Boxes, classes, scores and the count by the rule on real values.
fn reference(
    graph: &Graph,
    node: &Node,
    op: &DetectionPostProcess,
    values: &Values,
) -> [Vec<f32>; 4] {
    let [encodings, scores] = [0, 1].map(|at| real(&values.0[&graph.info(node.inputs[at]).name]));
    let anchors = real(&(
        graph.info(node.inputs[2]).clone(),
        graph.constant(node.inputs[2]).unwrap().clone(),
    ));
    let options = options(op);
    let rows = options.rows();
    let mut results = [rows * 4, rows, rows, 1].map(|count| vec![0.0; count]);
    let [boxes, classes, best, count] = &mut results;
    let out = PostProcessOutputs {
        boxes,
        classes,
        scores: best,
        count: &mut count[0],
    };
    let scratch = &mut PostProcessScratch::new(&options, anchors.len() / 4);
    let encodings = Encodings::Real(&encodings);
    detection_post_process(&options, encodings, &scores, &anchors, scratch, out);
    results
}

#[test]
fn detections_follow_from_the_real_scores() {
    let Some(shared) = shared() else { return };
    for name in MODELS {
        let model = model::load_file(&shared.join("models").join(name)).unwrap();
        let Program::Graph(graph) = &model.program else {
            panic!("{name} is a graph")
        };
        let (node, op) = graph
            .nodes
            .iter()
            .find_map(|node| match &node.op {
                Op::DetectionPostProcess(op) => Some((node, op)),
                _ => None,
            })
            .unwrap();
        for picture in PICTURES {
            let picture = shared.join("images").join(picture);
            let expected = reference(graph, node, op, &run(&model, &picture, true));
            let (_, found) = run(&model, &picture, false);
            println!("{name}: {} detections", expected[3][0]);
            for (output, data) in graph.outputs.iter().zip(&found) {
                let at = node.outputs.iter().position(|id| id == output).unwrap();
                assert_eq!(
                    *data,
                    TensorData::F32(expected[at].clone()),
                    "{name}, output {at}"
                );
            }
        }
    }
}
