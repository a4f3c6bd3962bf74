//! The anchors that the boxes of an SSD head without post-processing are encoded against.

use serde::Deserialize;

use crate::error::{Error, Result};

/// The most anchors that a file may hold.
const MAX_ANCHORS: usize = 1_000_000;

/// Anchors and the divisors of the encodings.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchors {
    /// y and x of the centre, height, width, in parts of the picture.
    pub boxes: Vec<[f32; 4]>,
    /// Divisors of y, x, height, width.
    pub scale: [f32; 4],
}

impl Anchors {
    /// The divisors of the TensorFlow Object Detection API, where a file names none.
    pub const DEFAULT_SCALE: [f32; 4] = [10.0, 10.0, 5.0, 5.0];

    /// Anchors as they are, if there are any and all are boxes.
    pub fn new(boxes: Vec<[f32; 4]>, scale: [f32; 4]) -> Option<Self> {
        let is_box = |anchor: &[f32; 4]| {
            anchor.iter().all(|value| value.is_finite()) && anchor[2] > 0.0 && anchor[3] > 0.0
        };
        let is_divisor = |value: &f32| value.is_finite() && *value > 0.0;
        let is_sound = (1..=MAX_ANCHORS).contains(&boxes.len())
            && boxes.iter().all(is_box)
            && scale.iter().all(is_divisor);
        is_sound.then_some(Self { boxes, scale })
    }

    /// Reads a file of anchors: CSV, one anchor a line as `y_center,x_center,height,width` (a first line of these names
    /// may order them otherwise), or the metadata that MediaPipe Model Maker writes beside a model, as JSON. `file` is
    /// for messages.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let fail = |reason: String| Error::Data {
            file: file.into(),
            reason,
        };
        let text = text.trim_start_matches('\u{feff}').trim();
        let (boxes, scale) = match text.starts_with('{') {
            true => from_json(text).map_err(fail)?,
            false => (from_csv(text).map_err(fail)?, Self::DEFAULT_SCALE),
        };
        Self::new(boxes, scale).ok_or_else(|| {
            fail("it holds no anchors, too many, or one without height or width".into())
        })
    }
}

/// Names of a column, each in the order y, x, height, width.
const COLUMNS: [[&str; 4]; 3] = [
    ["y_center", "x_center", "height", "width"],
    ["cy", "cx", "h", "w"],
    ["y", "x", "height", "width"],
];

fn from_csv(text: &str) -> std::result::Result<Vec<[f32; 4]>, String> {
    let mut lines = text.lines().enumerate().peekable();
    let mut order = [0, 1, 2, 3];
    if let Some((_, first)) =
        lines.next_if(|(_, line)| line.starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        let names: Vec<String> = first
            .split(',')
            .map(|name| name.trim().to_lowercase())
            .collect();
        let place = |columns: &[&str; 4]| {
            let at = columns.map(|column| names.iter().position(|name| name == column));
            at.iter()
                .all(Option::is_some)
                .then(|| at.map(Option::unwrap_or_default))
        };
        order = COLUMNS.iter().find_map(place).ok_or_else(|| {
            format!("the columns `{first:.99}` are not y_center, x_center, height and width")
        })?;
    }
    let row = |(index, line): (usize, &str)| {
        let numbers: Vec<f32> = line
            .split(',')
            .map_while(|field| field.trim().parse().ok())
            .collect();
        match order.map(|at| numbers.get(at).copied()) {
            [Some(y), Some(x), Some(height), Some(width)] => Ok([y, x, height, width]),
            _ => Err(format!(
                "line {} is not four numbers: {line:.99}",
                index + 1
            )),
        }
    };
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(row)
        .collect()
}

#[derive(Deserialize)]
struct File {
    subgraph_metadata: Vec<Subgraph>,
}

#[derive(Deserialize)]
struct Subgraph {
    #[serde(default)]
    custom_metadata: Vec<Custom>,
}

#[derive(Deserialize)]
struct Custom {
    data: Detector,
}

#[derive(Deserialize)]
struct Detector {
    ssd_anchors_options: SsdAnchors,
    tensors_decoding_options: Decoding,
}

#[derive(Deserialize)]
struct SsdAnchors {
    fixed_anchors_schema: FixedAnchors,
}

#[derive(Deserialize)]
struct FixedAnchors {
    anchors: Vec<Anchor>,
}

#[derive(Deserialize)]
struct Anchor {
    x_center: f32,
    y_center: f32,
    width: f32,
    height: f32,
}

#[derive(Deserialize)]
struct Decoding {
    x_scale: f32,
    y_scale: f32,
    w_scale: f32,
    h_scale: f32,
    #[serde(default)]
    apply_exponential_on_box_size: bool,
}

fn from_json(text: &str) -> std::result::Result<(Vec<[f32; 4]>, [f32; 4]), String> {
    let file: File = serde_json::from_str(text)
        .map_err(|error| format!("it is no detector metadata with anchors ({error})"))?;
    let mut details = file
        .subgraph_metadata
        .into_iter()
        .flat_map(|part| part.custom_metadata);
    let Custom { data } = details.next().ok_or("it holds no detector metadata")?;
    let decoding = data.tensors_decoding_options;
    if !decoding.apply_exponential_on_box_size {
        return Err("its box sizes are not exponential, which is not supported".into());
    }
    let anchors = data.ssd_anchors_options.fixed_anchors_schema.anchors;
    let boxes = anchors.into_iter().map(|anchor| {
        [
            anchor.y_center,
            anchor.x_center,
            anchor.height,
            anchor.width,
        ]
    });
    let scale = [
        decoding.y_scale,
        decoding.x_scale,
        decoding.h_scale,
        decoding.w_scale,
    ];
    Ok((boxes.collect(), scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_numbers_are_anchors() {
        let expected = vec![[0.5, 0.25, 0.1, 0.2], [0.75, 1.0, 0.3, 0.4]];
        let plain = "0.5,0.25,0.1,0.2\n\n0.75, 1, 0.3, 0.4\n";
        let named = "width,height,x_center,y_center\r\n0.2,0.1,0.25,0.5\r\n0.4,0.3,1,0.75";
        for text in [plain, named] {
            let anchors = Anchors::parse(text, "a.csv").unwrap();
            assert_eq!(anchors.boxes, expected);
            assert_eq!(anchors.scale, Anchors::DEFAULT_SCALE);
        }
    }

    #[test]
    fn metadata_of_media_pipe_is_read() {
        let text = r#"{"subgraph_metadata":[{"custom_metadata":[{"name":"DETECTOR_METADATA","data":{
            "ssd_anchors_options":{"fixed_anchors_schema":{"anchors":[
                {"x_center":0.1,"y_center":0.2,"width":0.3,"height":0.4}]}},
            "tensors_decoding_options":{"x_scale":1.0,"y_scale":2.0,"w_scale":3.0,"h_scale":4.0,
                "apply_exponential_on_box_size":true}}}]}]}"#;
        let anchors = Anchors::parse(text, "m.json").unwrap();
        assert_eq!(anchors.boxes, [[0.2, 0.1, 0.4, 0.3]]);
        assert_eq!(anchors.scale, [2.0, 1.0, 4.0, 3.0]);
        let linear = text.replace("true", "false");
        assert!(Anchors::parse(&linear, "m.json").is_err());
    }

    #[test]
    fn other_files_are_refused_by_line() {
        for (text, word) in [
            ("", "no anchors"),
            ("a,b,c,d\n1,2,3,4", "columns"),
            ("0.5,0.5,0.1,0.1\n0.5,x,0.1,0.1", "line 2"),
            ("0.5,0.5,0.1,0", "height or width"),
            ("{}", "metadata"),
        ] {
            let error = Anchors::parse(text, "a.csv").unwrap_err().to_string();
            assert!(
                error.starts_with("a.csv: ") && error.contains(word),
                "{error}"
            );
        }
    }
}
