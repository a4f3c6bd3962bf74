//! `eyas dataset`: from each form into each, in parts, in numbers.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::{coco, errors, eyas, names_below, parsed, picture, printed, shared, write};

fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

/// `eyas dataset COMMAND IN ... -o OUT`: OUT and what is said on stderr.
fn dataset(command: &str, data: &Path, out: &Path, more: &[&str]) -> String {
    let mut arguments = vec![
        "dataset".to_owned(),
        command.into(),
        text(data),
        "-o".into(),
        text(out),
    ];
    arguments.extend(more.iter().map(|flag| (*flag).to_owned()));
    let output = eyas(arguments);
    assert!(output.status.success(), "{}", errors(&output));
    errors(&output)
}

fn stats(data: &Path) -> Value {
    parsed(["dataset", "stats", &text(data), "--json"])
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("reads")
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&read(path)).expect("JSON")
}

/// A folder with the COCO data set of three pictures, and a place for others.
fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    coco(&data);
    (folder, data, out)
}

#[test]
fn coco_stays_coco_with_all_that_it_holds() {
    let (_folder, data, out) = folder();
    let told = dataset("convert", &data, &out, &["--to", "coco"]);
    assert!(!told.contains("lose"), "{told}");
    let (before, after) = (
        json_of(&data.join("annotations/instances_default.json")),
        json_of(&out.join("annotations/instances_default.json")),
    );
    let by_id = |value: &Value, key: &str| {
        let mut list = value[key].as_array().expect("a list").clone();
        list.sort_by_key(|one| one["id"].as_u64());
        list
    };
    assert_eq!(after["info"], before["info"]);
    for key in ["images", "categories"] {
        assert_eq!(by_id(&after, key), by_id(&before, key));
    }
    for (after, before) in by_id(&after, "annotations")
        .iter()
        .zip(by_id(&before, "annotations"))
    {
        for (key, value) in before.as_object().expect("an object") {
            if key == "bbox" {
                let numbers = |value: &Value| -> Vec<Option<f64>> {
                    value
                        .as_array()
                        .expect("a list")
                        .iter()
                        .map(Value::as_f64)
                        .collect()
                };
                assert_eq!(numbers(&after[key]), numbers(value));
            } else if key == "area" {
                assert_eq!(after[key].as_f64(), value.as_f64());
            } else {
                assert_eq!(&after[key], value, "{key}");
            }
        }
    }
    assert_eq!(
        names_below(&out),
        [
            "annotations/instances_default.json",
            "images/a.png",
            "images/b.png",
            "images/c.png"
        ]
    );
}

#[test]
fn coco_becomes_yolo_and_tells_what_is_lost() {
    let (_folder, data, out) = folder();
    let told = dataset("convert", &data, &out, &["--to", "yolo"]);
    assert!(told.contains("1 crowds are left out"), "{told}");
    assert!(
        told.contains("2 objects lose what only COCO holds"),
        "{told}"
    );
    assert_eq!(read(&out.join("labels/classes.txt")), "cat\ndog\nbus\n");
    // 10, 10, 40 x 20 of 100 x 50.
    assert_eq!(
        read(&out.join("labels/a.txt")),
        "0 0.30000000 0.40000000 0.40000000 0.40000000\n"
    );
    assert_eq!(read(&out.join("labels/c.txt")), "");
    let yaml = read(&out.join("data.yaml"));
    assert!(
        yaml.contains("train: \"images\"") && yaml.contains("  2: \"bus\""),
        "{yaml}"
    );
    let stats = stats(&out);
    assert_eq!(
        (&stats["images"], &stats["objects"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(stats["splits"][0]["name"], Value::Null);
}

#[test]
fn coco_becomes_voc_with_its_marks_and_hundredths() {
    let (_folder, data, out) = folder();
    let told = dataset("convert", &data, &out, &["--to", "voc"]);
    assert!(told.contains("1 crowds become difficult objects"), "{told}");
    let xml = read(&out.join("Annotations/b.xml"));
    for line in [
        "<folder>JPEGImages</folder>",
        "<filename>b.png</filename>",
        "<width>80</width>",
        "<occluded>1</occluded>",
        "<xmin>8.5</xmin>",
        "<ymax>25.75</ymax>",
    ] {
        assert!(xml.contains(line), "{line} in {xml}");
    }
    assert_eq!(read(&out.join("ImageSets/Main/default.txt")), "b\nc\na\n");
    let stats = stats(&out);
    assert_eq!(
        (&stats["objects"], &stats["difficult"]),
        (&json!(3), &json!(1))
    );
    // The class without objects and the order of the classes are kept by labelmap.txt.
    let names: Vec<_> = stats["classes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["cat", "dog", "bus"]);
}

#[test]
fn every_way_round_gives_the_same_boxes() {
    let (folder, data, _) = folder();
    let forms = ["coco", "yolo", "voc"];
    for first in forms {
        for second in forms {
            let name = format!("{first}-{second}");
            let (there, back) = (
                folder.path().join(&name),
                folder.path().join(format!("{name}-coco")),
            );
            let there_and_on = folder.path().join(format!("{name}-on"));
            dataset("convert", &data, &there, &["--to", first]);
            dataset("convert", &there, &there_and_on, &["--to", second]);
            dataset("convert", &there_and_on, &back, &["--to", "coco"]);
            let json = json_of(&back.join("annotations/instances_default.json"));
            let id = |file: &str| {
                let images = json["images"].as_array().expect("a list");
                images
                    .iter()
                    .find(|image| image["file_name"] == file)
                    .expect("is there")["id"]
                    .clone()
            };
            let of = |image: Value| -> Vec<f64> {
                let annotations = json["annotations"].as_array().expect("a list");
                let one = annotations.iter().find(|one| one["image_id"] == image);
                let sides = one.expect("is there")["bbox"].as_array().expect("a list");
                sides
                    .iter()
                    .map(|side| side.as_f64().expect("a number"))
                    .collect()
            };
            for (file, expected) in [
                ("a.png", [10.0, 10.0, 40.0, 20.0]),
                ("b.png", [8.5, 0.25, 16.0, 25.5]),
            ] {
                for (side, expected) in of(id(file)).iter().zip(expected) {
                    assert!(
                        (side - expected).abs() < 1e-5,
                        "{name} {file}: {side} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn parts_are_kept_and_can_be_read_alone() {
    let (folder, data, _) = folder();
    let parts = ["train", "val", "test"];
    for form in ["coco", "yolo", "voc"] {
        let (out, whole) = (
            folder.path().join(form),
            folder.path().join(format!("{form}-coco")),
        );
        dataset(
            "split",
            &data,
            &out,
            &["--to", form, "--ratios", "1/1/1", "--seed", "3"],
        );
        let all = stats(&out);
        let mut names: Vec<_> = all["splits"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|s| s["name"].as_str())
            .collect();
        names.sort();
        assert_eq!(names, [Some("test"), Some("train"), Some("val")], "{form}");
        for part in parts {
            let alone = parsed(["dataset", "stats", &text(&out), "--split", part, "--json"]);
            assert_eq!(alone["images"], 1, "{form} {part}");
        }
        dataset("convert", &out, &whole, &["--to", "coco"]);
        assert_eq!(stats(&whole)["splits"], all["splits"], "{form}");
        let wrong = eyas(["dataset", "stats", &text(&out), "--split", "no"]);
        assert_eq!(wrong.status.code(), Some(2));
        assert!(errors(&wrong).contains("no split no"), "{}", errors(&wrong));
    }
}

#[test]
fn nothing_is_overwritten_or_deleted_unasked() {
    let (folder, data, out) = folder();
    dataset("convert", &data, &out, &["--to", "voc"]);
    let again = |out: &Path, more: &[&str]| {
        let arguments = [
            "dataset",
            "convert",
            &text(&data),
            "--to",
            "yolo",
            "-o",
            &text(out),
        ];
        eyas(arguments.iter().chain(more))
    };
    let refused = again(&out, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(errors(&refused).contains("--force"), "{}", errors(&refused));
    assert!(again(&out, &["--force"]).status.success());
    assert!(out.join("data.yaml").exists() && !out.join("Annotations").exists());
    let home = folder.path().join("home");
    write(&home.join("letter.txt"), "dear");
    let refused = again(&home, &["--force"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(read(&home.join("letter.txt")), "dear");
    let onto_itself = again(&data, &["--force"]);
    assert_eq!(onto_itself.status.code(), Some(2));
    assert!(data.join("images/a.png").exists());
    let mut left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("reads")
        .map(|entry| {
            entry
                .expect("reads")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    left.sort();
    assert_eq!(left, ["data", "home", "out"]);
}

#[test]
fn a_failure_leaves_nothing() {
    let (folder, data, out) = folder();
    std::fs::remove_file(data.join("images/b.png")).expect("deletes");
    let failed = eyas([
        "dataset",
        "convert",
        &text(&data),
        "--to",
        "yolo",
        "-o",
        &text(&out),
    ]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        errors(&failed).contains("1 of 3 pictures are not there (first: b.png)"),
        "{}",
        errors(&failed)
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 1);
    dataset("convert", &data, &out, &["--to", "yolo", "--skip-missing"]);
    assert_eq!(stats(&out)["images"], 2);
}

#[cfg(unix)]
#[test]
fn links_take_no_space() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, data, out) = folder();
    dataset("convert", &data, &out, &["--to", "voc", "--link"]);
    let inode = |path: PathBuf| std::fs::metadata(path).expect("is there").ino();
    assert_eq!(
        inode(out.join("JPEGImages/a.png")),
        inode(data.join("images/a.png"))
    );
}

#[test]
fn pictures_of_one_name_are_refused_where_they_would_meet() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    for name in ["images/train/1.png", "images/val/1.png"] {
        picture(&data.join(name), 8, 8);
    }
    write(&data.join("labels/train/1.txt"), "0 0.5 0.5 0.5 0.5\n");
    let out = folder.path().join("out");
    let failed = eyas([
        "dataset",
        "convert",
        &text(&data),
        "--to",
        "voc",
        "-o",
        &text(&out),
    ]);
    assert!(
        errors(&failed).contains("two pictures would be called JPEGImages/1.png"),
        "{}",
        errors(&failed)
    );
    dataset("convert", &data, &out, &["--to", "coco"]);
    assert_eq!(stats(&out)["images"], 2);
}

#[test]
fn stats_tell_people_what_is_there() {
    let (_folder, data, _) = folder();
    let told = printed(["dataset", "stats", &text(&data)]);
    for line in [
        "pictures  3, 1 of them without objects",
        "objects   3, 1 of them crowds",
        "cat          2         2",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
}

#[test]
fn the_raccoons_keep_their_boxes() {
    let Some(data) = shared("data/raccoon200") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    dataset("convert", &data, &out, &["--to", "coco", "--form", "voc"]);
    let ours = json_of(&out.join("annotations/instances_default.json"));
    let theirs = json_of(&data.join("reference/ground_truth_coco_format.json"));
    let boxes = |value: &Value| -> Vec<Vec<u64>> {
        let annotations = value["annotations"].as_array().expect("a list").iter();
        let mut boxes: Vec<Vec<u64>> = annotations
            .map(|one| {
                let sides = one["bbox"].as_array().expect("a list").iter();
                let sides = sides.map(|side| side.as_f64().expect("a number") as u64);
                std::iter::once(one["image_id"].as_u64().expect("an id"))
                    .chain(sides)
                    .collect()
            })
            .collect();
        boxes.sort();
        boxes
    };
    assert_eq!(boxes(&ours), boxes(&theirs));
}
