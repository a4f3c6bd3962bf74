//! Running eyas, and small data sets for it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

pub fn eyas<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eyas"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

/// What eyas prints; it has to succeed.
pub fn printed<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let output = eyas(arguments);
    assert!(output.status.success(), "{}", errors(&output));
    String::from_utf8(output.stdout).expect("text")
}

pub fn parsed<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Value {
    serde_json::from_str(&printed(arguments)).expect("JSON")
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/demo")
        .join(name)
}

/// The flags of the demo's model.
pub fn model_flags() -> [PathBuf; 4] {
    [
        "-m".into(),
        demo("colours.tflite"),
        "-l".into(),
        demo("colours.txt"),
    ]
}

/// A file or folder beside the repository; `None`, loudly, if it is not there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    std::fs::write(path, content).expect("writes");
}

/// A grey picture.
pub fn picture(path: &Path, width: u32, height: u32) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    image::GrayImage::from_pixel(width, height, image::Luma([90]))
        .save(path)
        .expect("saves");
}

/// A COCO data set of three pictures: one with a cat and a crowd of dogs, one with a cat that is hidden in part, one
/// with nothing.
pub fn coco(folder: &Path) -> PathBuf {
    for (name, width) in [("a.png", 100), ("b.png", 80), ("c.png", 60)] {
        picture(&folder.join("images").join(name), width, 50);
    }
    let image = |id: u32, name: &str, width: u32| json!({"id": id, "file_name": name, "width": width, "height": 50, "license": 4});
    let data = json!({
        "info": {"year": 2026},
        "images": [image(30, "a.png", 100), image(7, "b.png", 80), image(8, "c.png", 60)],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 17, "name": "cat", "supercategory": "animal"},
            {"id": 90, "name": "bus"},
        ],
        "annotations": [
            {"id": 5, "image_id": 30, "category_id": 17, "bbox": [10, 10, 40, 20], "area": 500.5, "iscrowd": 0,
             "segmentation": [[10, 10, 50, 10, 50, 30]]},
            {"id": 3, "image_id": 30, "category_id": 18, "bbox": [50, 5, 50, 40], "area": 2000, "iscrowd": 1,
             "segmentation": {"counts": [1], "size": [50, 100]}},
            {"id": 9, "image_id": 7, "category_id": 17, "bbox": [8.5, 0.25, 16, 25.5], "area": 408, "iscrowd": 0,
             "attributes": {"occluded": true, "colour": "black"}},
        ],
    });
    let path = folder.join("annotations/instances_default.json");
    write(&path, data.to_string());
    path
}

pub fn names_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("reads") {
            let path = entry.expect("reads").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below");
                found.push(name.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}
