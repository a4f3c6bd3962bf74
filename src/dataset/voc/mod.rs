//! Pascal VOC XML: `Annotations/` with a file a picture, `JPEGImages/`, and `ImageSets/Main/` with the names of each
//! split (`VOC2012/devkit_doc.pdf`); as LabelImg and CVAT read and write it too.
//!
//! A box from `xmin` to `xmax` is `xmax - xmin` wide here, as in those programs.

mod read;
mod write;
mod xml;

pub(super) use read::{read, read_classes};
pub(super) use write::{annotation, picture, write_label_map, write_labels, write_list};
