//! Options of operators in the graph's words.

use tract_tflite::tflite::ActivationFunctionType;

use super::import::Site;
use super::map::{Map, Scalar};
use crate::error::Result;
use crate::graph::{Activation, DetectionPostProcess};

/// A fused activation function, or a refusal by its name.
pub(super) fn activation(site: &Site<'_>, function: ActivationFunctionType) -> Result<Activation> {
    match function {
        ActivationFunctionType::NONE => Ok(Activation::None),
        ActivationFunctionType::RELU => Ok(Activation::Relu),
        ActivationFunctionType::RELU6 => Ok(Activation::Relu6),
        ActivationFunctionType::RELU_N1_TO_1 => Ok(Activation::ReluN1To1),
        other => Err(site.unsupported(
            format!("with fused activation {other:?}"),
            "train the model with ReLU or ReLU6",
        )),
    }
}

/// Strides, windows and dilations: integers of at least 1.
pub(super) fn positive(site: &Site<'_>, values: [i32; 2], what: &str) -> Result<[usize; 2]> {
    let [rows, columns] = values.map(|value| usize::try_from(value).ok().filter(|&v| v > 0));
    match (rows, columns) {
        (Some(rows), Some(columns)) => Ok([rows, columns]),
        _ => Err(site.damaged(format!("its {what} is {values:?}"))),
    }
}

/// An axis counted from 0; negative ones count from the end.
pub(super) fn axis(site: &Site<'_>, axis: i64, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 {
        axis.checked_add_unsigned(rank as u64)
    } else {
        Some(axis)
    };
    from_start
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|&axis| axis < rank)
        .ok_or_else(|| site.damaged(format!("axis {axis} is outside a tensor of rank {rank}")))
}

/// The FlexBuffer map of TFLite_Detection_PostProcess. Ranges are the shape rule's business.
pub(super) fn detection_post_process(site: &Site<'_>) -> Result<DetectionPostProcess> {
    let bytes = site.operator.custom_options().map(|bytes| bytes.bytes());
    let map = bytes
        .and_then(Map::new)
        .ok_or_else(|| site.damaged("its options are no FlexBuffer map"))?;
    let missing = |name: &str| site.damaged(format!("its option {name} is missing or no number"));
    let count = |name: &str| match map.get(name) {
        Some(Scalar::Integer(value)) => usize::try_from(value).map_err(|_| missing(name)),
        _ => Err(missing(name)),
    };
    let real = |name: &str| match map.get(name) {
        Some(Scalar::Real(value)) => Ok(value as f32),
        Some(Scalar::Integer(value)) => Ok(value as f32),
        None => Err(missing(name)),
    };
    Ok(DetectionPostProcess {
        max_detections: count("max_detections")?,
        max_classes_per_detection: count("max_classes_per_detection")?,
        detections_per_class: match map.get("detections_per_class") {
            None => 100,
            Some(_) => count("detections_per_class")?,
        },
        use_regular_nms: matches!(map.get("use_regular_nms"), Some(Scalar::Integer(1..))),
        nms_score_threshold: real("nms_score_threshold")?,
        nms_iou_threshold: real("nms_iou_threshold")?,
        num_classes: count("num_classes")?,
        scale: [
            real("y_scale")?,
            real("x_scale")?,
            real("h_scale")?,
            real("w_scale")?,
        ],
    })
}
