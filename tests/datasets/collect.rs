//! `eyas collect`: pictures and pre-labels on disk.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{demo, errors, eyas, model_flags, names_below, parsed, printed, write};

fn flags(out: &Path, more: &[&str]) -> Vec<PathBuf> {
    let mut flags: Vec<PathBuf> = vec!["collect".into()];
    flags.extend(model_flags());
    flags.extend([
        "--source".into(),
        demo("scene"),
        "-o".into(),
        out.to_owned(),
    ]);
    flags.extend(more.iter().map(PathBuf::from));
    flags
}

fn stats(out: &Path) -> Value {
    parsed([
        Path::new("dataset"),
        Path::new("stats"),
        out,
        Path::new("--json"),
    ])
}

#[test]
fn each_form_is_a_data_set_with_the_models_boxes() {
    let folder = tempfile::tempdir().expect("a folder");
    for form in ["voc", "yolo", "coco"] {
        let out = folder.path().join(form);
        let said = printed(flags(&out, &["--every=1f", "--limit=5", "--format", form]));
        assert!(said.contains("5 pictures with "), "{said}");
        let stats = stats(&out);
        assert_eq!(stats["images"], 5, "{form}");
        // Three discs on each picture.
        assert!(stats["objects"].as_u64() >= Some(12), "{form}: {stats}");
        let names: Vec<_> = stats["classes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|c| &c["name"])
            .collect();
        assert_eq!(names, ["red", "green", "blue"], "{form}");
        assert!(
            names_below(&out).iter().all(|name| !name.contains("part")),
            "{form}"
        );
    }
    assert!(folder.path().join("yolo/labels/classes.txt").exists());
    assert!(
        folder
            .path()
            .join("voc/ImageSets/Main/default.txt")
            .exists()
    );
}

#[test]
fn a_data_set_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    for form in ["voc", "yolo", "coco"] {
        let out = folder.path().join(form);
        for _ in 0..2 {
            printed(flags(&out, &["--every=1f", "--limit=2", "--format", form]));
        }
        assert_eq!(stats(&out)["images"], 4, "{form}");
    }
    let other = eyas(flags(&folder.path().join("voc"), &["--format", "coco"]));
    assert_eq!(other.status.code(), Some(1));
    assert!(
        errors(&other).contains("no data set of the form coco"),
        "{}",
        errors(&other)
    );
    write(&folder.path().join("home/letter.txt"), "dear");
    let home = eyas(flags(&folder.path().join("home"), &[]));
    assert_eq!(home.status.code(), Some(1));
}

#[test]
fn detections_and_changes_decide() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        printed(flags(&out, &[more, &["--every=1f"]].concat()));
        names_below(&out)
            .iter()
            .filter(|name| name.ends_with(".jpg"))
            .count()
    };
    let sure = count("sure", &["--on-detection", "-c", "1"]);
    assert_eq!(sure, 0, "nothing is that sure");
    let red = count("red", &["--on-detection", "--label", "RED"]);
    assert!(red > 0 && red <= 36, "{red}");
    let changed = count("changed", &["--on-change"]);
    assert!(changed > 0 && changed <= 36, "{changed}");
    let still = folder.path().join("still");
    let mut once = flags(&still, &["--on-change", "--every=1f"]);
    once[6] = demo("scene/00.jpg");
    printed(once);
    assert_eq!(stats(&still)["images"], 1);
    let wrong = eyas(flags(
        &folder.path().join("x"),
        &["--on-detection", "--label", "zebra"],
    ));
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        errors(&wrong).contains("it has red, green, blue"),
        "{}",
        errors(&wrong)
    );
}

#[test]
fn the_size_is_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    printed(flags(&out, &["--every=1f", "--max-bytes=60K"]));
    let bytes: u64 = names_below(&out)
        .iter()
        .filter(|name| name.ends_with(".jpg"))
        .map(|name| std::fs::metadata(out.join(name)).expect("is there").len())
        .sum();
    assert!((1..200_000).contains(&bytes), "{bytes}");
}

/// A running collection from a scene without end.
fn start(out: &Path, form: &str) -> Child {
    let arguments = [
        "collect", "--source", "demo", "--every", "50ms", "--format", form, "-o",
    ];
    Command::new(env!("CARGO_BIN_EXE_eyas"))
        .args(arguments)
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts")
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_a_whole_data_set() {
    let folder = tempfile::tempdir().expect("a folder");
    for form in ["coco", "voc"] {
        let out = folder.path().join(form);
        let mut child = start(&out, form);
        let pictures = || {
            let names = if out.exists() {
                names_below(&out)
            } else {
                Vec::new()
            };
            names.iter().filter(|name| name.ends_with(".jpg")).count()
        };
        let deadline = Instant::now() + Duration::from_secs(120);
        while pictures() < 3 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        let killed = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(killed.expect("kill is there").success());
        assert!(child.wait().expect("ends").success());
        let written = pictures();
        assert!(written >= 3, "{written}");
        assert_eq!(stats(&out)["images"], written, "{form}");
    }
}
