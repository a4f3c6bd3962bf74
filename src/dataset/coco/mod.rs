//! COCO JSON (<https://cocodataset.org/#format-data>): `images`, `categories` and `annotations` in one file.

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::{picture, write_file, write_labels};

/// Keys of the file that are carried along as they stand.
const CARRIED: [&str; 2] = ["info", "licenses"];
