//! YOLO folders: `images/`, beside it `labels/` with a text file a picture, and `data.yaml` or `classes.txt` with the
//! names of the classes (<https://docs.ultralytics.com/datasets/detect/>).

mod classes;
mod places;
mod read;
mod write;

pub(super) use classes::read_classes;
pub(super) use read::read;
pub(super) use write::{label_lines, picture, write_labels, write_names};
