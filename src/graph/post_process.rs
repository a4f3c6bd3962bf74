//! The shape rule of TFLite_Detection_PostProcess.

use super::DetectionPostProcess;
use super::shape::{Misfit, checked};
use crate::tensor::Shape;

/// The largest number of boxes, or of regular NMS candidates of a class, that a file may ask for.
const MAX_BOXES: usize = 100_000;

/// Shapes of boxes, classes, scores and count. Checks the options too.
pub(super) fn output_shapes(
    options: &DetectionPostProcess,
    inputs: &[&Shape],
) -> Result<Vec<Shape>, Misfit> {
    check_options(options)?;
    let (&[1, anchors, 4], &[1, rows, classes], &[entries, 4]) =
        (inputs[0].dims(), inputs[1].dims(), inputs[2].dims())
    else {
        return Err(format!(
            "inputs of shapes {}, {} and {} are not boxes [1, n, 4], scores [1, n, classes] and anchors [n, 4]",
            inputs[0], inputs[1], inputs[2]
        ));
    };
    if rows != anchors || entries != anchors || anchors == 0 {
        return Err(format!(
            "{anchors} boxes, {rows} rows of scores and {entries} anchors are not equally many"
        ));
    }
    if classes != options.num_classes && classes.checked_sub(1) != Some(options.num_classes) {
        return Err(format!(
            "{classes} scores a box do not fit {} classes with or without a background",
            options.num_classes
        ));
    }
    let boxes = options
        .max_detections
        .checked_mul(options.max_classes_per_detection)
        .filter(|&boxes| boxes <= MAX_BOXES)
        .ok_or("it asks for too many boxes")?;
    Ok(vec![
        checked(vec![1, boxes, 4])?,
        checked(vec![1, boxes])?,
        checked(vec![1, boxes])?,
        checked(vec![1])?,
    ])
}

fn check_options(options: &DetectionPostProcess) -> Result<(), Misfit> {
    let counts = [
        ("max_detections", options.max_detections),
        (
            "max_classes_per_detection",
            options.max_classes_per_detection,
        ),
        ("detections_per_class", options.detections_per_class),
        ("num_classes", options.num_classes),
    ];
    for (name, count) in counts {
        if count == 0 || count > MAX_BOXES {
            return Err(format!("{name} is {count}"));
        }
    }
    let iou = options.nms_iou_threshold;
    if !(iou > 0.0 && iou <= 1.0) {
        return Err(format!(
            "nms_iou_threshold is {iou}, which is outside (0, 1]"
        ));
    }
    if options.nms_score_threshold.is_nan() {
        return Err("nms_score_threshold is not a number".into());
    }
    if !options
        .scale
        .iter()
        .all(|scale| scale.is_finite() && *scale > 0.0)
    {
        return Err(format!("box scales {:?} are not positive", options.scale));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: DetectionPostProcess = DetectionPostProcess {
        max_detections: 10,
        max_classes_per_detection: 2,
        detections_per_class: 100,
        use_regular_nms: false,
        nms_score_threshold: 0.0,
        nms_iou_threshold: 0.6,
        num_classes: 90,
        scale: [10.0, 10.0, 5.0, 5.0],
    };

    fn shapes(options: DetectionPostProcess, classes: usize, anchors: usize) -> Option<Vec<Shape>> {
        let inputs = [
            &Shape::from([1, 50, 4]),
            &Shape::from([1, 50, classes]),
            &Shape::from([anchors, 4]),
        ];
        output_shapes(&options, &inputs).ok()
    }

    #[test]
    fn a_background_is_optional() {
        let expected = vec![
            Shape::from([1, 20, 4]),
            Shape::from([1, 20]),
            Shape::from([1, 20]),
            Shape::from([1]),
        ];
        assert_eq!(shapes(OPTIONS, 91, 50), Some(expected.clone()));
        assert_eq!(shapes(OPTIONS, 90, 50), Some(expected));
        assert_eq!(shapes(OPTIONS, 92, 50), None);
        assert_eq!(shapes(OPTIONS, 91, 49), None);
    }

    #[test]
    fn options_are_checked() {
        let bad = [
            DetectionPostProcess {
                max_detections: 0,
                ..OPTIONS
            },
            DetectionPostProcess {
                max_detections: 90_000,
                ..OPTIONS
            },
            DetectionPostProcess {
                nms_iou_threshold: 0.0,
                ..OPTIONS
            },
            DetectionPostProcess {
                nms_score_threshold: f32::NAN,
                ..OPTIONS
            },
            DetectionPostProcess {
                scale: [10.0, 0.0, 5.0, 5.0],
                ..OPTIONS
            },
        ];
        for options in bad {
            assert_eq!(shapes(options, 91, 50), None, "{options:?}");
        }
    }
}
