//! Data sets that nobody could use: a clear error, no panic, no file left.

use serde_json::json;

use crate::program::{errors, eyas, picture, write};

/// `eyas dataset stats` of one file, which has to fail with these words.
fn assert_refused(file: &str, content: impl AsRef<[u8]>, words: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    picture(&folder.path().join("images/1.png"), 100, 50);
    write(&folder.path().join(file), content);
    let path = folder.path().to_str().expect("text");
    let output = eyas(["dataset", "stats", path]);
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{file}: {said}");
    for word in words {
        assert!(said.contains(word), "{file}: {word} in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn coco_with(key: &str, value: serde_json::Value) -> String {
    let mut data = json!({
        "images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 50}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "cat"}],
    });
    data[key] = value;
    data.to_string()
}

#[test]
fn coco_files() {
    let image = |id: u32, name: &str, width: f64| json!({"id": id, "file_name": name, "width": width, "height": 50});
    let annotation = |image: u32, class: u32, bounds: serde_json::Value| json!([{"id": 7, "image_id": image, "category_id": class, "bbox": bounds}]);
    for (key, value, word) in [
        (
            "images",
            json!([image(1, "1.png", 100.0), image(1, "2.png", 100.0)]),
            "image 1: two pictures have this id",
        ),
        (
            "images",
            json!([image(1, "../../secret.png", 100.0)]),
            "leaves the folder",
        ),
        ("images", json!([image(1, "1.png", 1e9)]), "cannot be"),
        ("images", json!([]), "there is no image 1"),
        ("images", json!([{"id": -1}]), "image 0"),
        (
            "annotations",
            annotation(2, 1, json!([1, 2, 3, 4])),
            "annotation 0: there is no image 2",
        ),
        (
            "annotations",
            annotation(1, 2, json!([1, 2, 3, 4])),
            "there is no category 2",
        ),
        (
            "annotations",
            annotation(1, 1, json!([1, 2, 3])),
            "annotation 0",
        ),
        (
            "annotations",
            annotation(1, 1, json!([1, 2, null, 4])),
            "annotation 0",
        ),
        (
            "annotations",
            annotation(1, 1, json!([1, 2, -3, 4])),
            "1.png, annotation 7: a box at 1, 2 of -3x4 pixels cannot be",
        ),
        (
            "annotations",
            annotation(1, 1, json!([1, 2, 3e20, 4])),
            "cannot be",
        ),
        (
            "categories",
            json!([{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]),
            "share an id or a name",
        ),
        ("categories", json!("none"), "not a COCO data set"),
    ] {
        assert_refused("data.json", coco_with(key, value), &[word]);
    }
    assert_refused(
        "data.json",
        coco_with("x", json!(1)).replace("[1,2,3,4]", "[1,2,NaN,4]"),
        &["not a COCO data set"],
    );
    assert_refused("data.json", "[".repeat(1 << 20), &["not a COCO data set"]);
    assert_refused("data.json", b"\xff\xfe", &["line 1 is not UTF-8"]);
    assert_refused("data.json", "", &["not a COCO data set"]);
}

#[test]
fn yolo_files() {
    for (line, word) in [
        ("0 0.5 0.5 0.1", "line 2: 4 numbers"),
        (
            "x 0.5 0.5 0.1 0.1",
            "line 2: \"x\" is not the id of a class",
        ),
        ("0 0.5 inf 0.1 0.1", "line 2: \"inf\" is not a number"),
        ("0 50 20 10 10", "line 2: 50 is not a share"),
        ("99999999999 0.5 0.5 0.1 0.1", "is not the id of a class"),
    ] {
        assert_refused(
            "labels/1.txt",
            format!("0 0.5 0.5 0.1 0.1\n{line}\n"),
            &["1.txt", word],
        );
    }
    assert_refused("labels/1.txt", b"0 0.5 \xff", &["not UTF-8"]);
    for (yaml, word) in [
        ("names: [a\n", "data.yaml"),
        ("names: {99999999999: a}\n", "too high for a class"),
        ("train: nowhere\nnames: [a]\n", "nowhere is not there"),
        ("- 1\n", "not the YAML of a YOLO data set"),
    ] {
        assert_refused("data.yaml", yaml, &[word]);
    }
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{inner}]\n");
    }
    assert_refused("data.yaml", bomb + "names: *a11\n", &["data.yaml"]);
    assert_refused("data.yaml", "[".repeat(1 << 20), &["data.yaml"]);
}

#[test]
fn labels_beyond_the_names_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    picture(&folder.path().join("images/1.png"), 100, 50);
    write(&folder.path().join("labels/1.txt"), "5 0.5 0.5 0.1 0.1\n");
    write(&folder.path().join("classes.txt"), "cat\ndog\n");
    let output = eyas(["dataset", "stats", folder.path().to_str().expect("text")]);
    assert!(
        errors(&output).contains("use the class 5, but only 2"),
        "{}",
        errors(&output)
    );
}

#[test]
fn voc_files() {
    let bomb = "<!DOCTYPE a [<!ENTITY a0 \"xxxxxxxxxx\">".to_owned()
        + &(1..12)
            .map(|n| format!("<!ENTITY a{n} \"{}\">", format!("&a{};", n - 1).repeat(10)))
            .collect::<String>()
        + "]><annotation><filename>&a11;</filename></annotation>";
    for (xml, word) in [
        (bomb, "not an XML file"),
        ("<a>".repeat(100_000), "not an XML file"),
        (
            "<annotation><filename>../../1.png</filename></annotation>".into(),
            "leaves the folder",
        ),
        (
            "<annotation><object/></annotation>".into(),
            "line 1: an object without a name",
        ),
        ("<annotation/>".into(), "no size"),
    ] {
        assert_refused("Annotations/9.xml", xml, &["9.xml", word]);
    }
    assert_refused(
        "Annotations/9.xml",
        "<annotation>".repeat(2_000_000),
        &["9.xml"],
    );
}

#[test]
fn results_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, found) = (
        folder.path().join("data.json"),
        folder.path().join("found.json"),
    );
    write(&data, coco_with("x", json!(1)));
    let record = |image: u32, bounds: [f64; 4]| json!([{"image_id": image, "category_id": 1, "bbox": bounds, "score": 0.5}]);
    for (content, word) in [
        ("{}".to_owned(), "not a COCO results file"),
        (
            record(1, [1.0, 1.0, -1.0, 1.0]).to_string(),
            "detection 0: a box of -1x1",
        ),
        (
            record(9, [1.0; 4]).to_string(),
            "no detection is of a picture",
        ),
        ("[".repeat(1 << 20), "not a COCO results file"),
    ] {
        write(&found, content);
        let output = eyas([
            "eval",
            data.to_str().expect("text"),
            "--detections",
            found.to_str().expect("text"),
        ]);
        assert_eq!(output.status.code(), Some(1));
        assert!(errors(&output).contains(word), "{}", errors(&output));
    }
}
