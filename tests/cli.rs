//! The real binary, on the model and the pictures of `tests/demo`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/demo")
        .join(name)
}

/// Runs eyas with no input and `arguments`.
fn eyas<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eyas"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn model_flags() -> Vec<PathBuf> {
    vec![
        "-m".into(),
        demo("colours.tflite"),
        "-l".into(),
        demo("colours.txt"),
    ]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json_lines(output: &Output) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).expect("a line of JSON");
    text(&output.stdout).lines().map(parse).collect()
}

fn arguments(command: &str, more: &[&str]) -> Vec<PathBuf> {
    let mut all = vec![PathBuf::from(command)];
    all.extend(model_flags());
    all.extend(more.iter().map(PathBuf::from));
    all
}

/// Where `make_demo.py` draws the discs on picture 0: centre and radius.
const DISCS: [(&str, f32, f32, f32); 3] = [
    ("red", 256.0, 120.0, 24.0),
    ("green", 111.5, 173.5, 36.0),
    ("blue", 112.9, 66.0, 52.0),
];

fn assert_discs(detections: &Value) {
    let found = detections.as_array().expect("a list");
    assert_eq!(found.len(), DISCS.len(), "{found:?}");
    for (label, x, y, radius) in DISCS {
        let one = found.iter().find(|one| one["label"] == label);
        let side = |name: &str| one.expect(label)["box"][name].as_f64().expect("a number") as f32;
        for (name, expected) in [
            ("x_min", x - radius),
            ("x_max", x + radius),
            ("y_min", y - radius),
            ("y_max", y + radius),
        ] {
            let got = side(name);
            assert!(
                (got - expected).abs() <= 9.0,
                "{label} {name}: {got}, drawn at {expected}"
            );
        }
    }
}

#[test]
fn detect_finds_what_is_drawn() {
    let picture = demo("scene/00.jpg");
    let mut all = arguments("detect", &["--json"]);
    all.push(picture);
    let output = eyas(all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["width"], &lines[0]["height"]),
        (&320.into(), &240.into())
    );
    assert!(lines[0]["timestamp"].as_str().expect("text").ends_with('Z'));
    assert_discs(&lines[0]["detections"]);
}

#[test]
fn detect_goes_on_after_a_broken_picture_and_fails_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.jpg");
    std::fs::write(&broken, b"\xff\xd8\xff\xe0 not a picture").expect("writes");
    let mut all = arguments("detect", &["--json", "--out"]);
    all.extend([folder.path().join("out"), broken, demo("scene/12.jpg")]);
    let output = eyas(all);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("broken.jpg"));
    assert_eq!(json_lines(&output).len(), 1);
    let annotated = image::open(folder.path().join("out/12.jpg")).expect("an annotated picture");
    assert_eq!((annotated.width(), annotated.height()), (320, 240));
    let plain = image::open(demo("scene/12.jpg")).expect("a picture");
    assert_ne!(annotated.to_rgb8(), plain.to_rgb8());
}

#[test]
fn run_writes_an_event_for_every_picture_of_a_folder() {
    let mut all = arguments("run", &["--no-listen", "--events", "-", "--source"]);
    all.push(demo("scene"));
    let output = eyas(all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 36);
    assert_discs(&lines[0]["detections"]);
    let frames: Vec<_> = lines.iter().map(|line| line["frame"].as_u64()).collect();
    assert!(frames.iter().zip(0..).all(|(&frame, at)| frame == Some(at)));
    assert!(text(&output.stderr).contains("36 frames"), "the summary");
}

#[test]
fn run_reads_motion_jpeg_from_stdin() {
    let mut all = arguments("run", &["--no-listen", "--events", "-", "--source", "-"]);
    all.push("--confidence=0.5".into());
    let mut child = Command::new(env!("CARGO_BIN_EXE_eyas"))
        .args(all)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let picture = std::fs::read(demo("scene/00.jpg")).expect("reads");
    for _ in 0..3 {
        stdin.write_all(&picture).expect("writes");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = json_lines(&output);
    assert!(!lines.is_empty());
    assert_discs(&lines[0]["detections"]);
}

#[test]
fn infer_writes_outputs_and_intermediates_with_an_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("x.npy");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 120, 160, 3), }";
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    let padded = format!("{header:<117}\n");
    file.extend((padded.len() as u16).to_le_bytes());
    file.extend(padded.bytes());
    file.extend(std::iter::repeat_n(200u8, 120 * 160 * 3));
    std::fs::write(&input, file).expect("writes");
    let out = folder.path().join("out");
    let mut all: Vec<PathBuf> = vec!["infer".into(), "-m".into(), demo("colours.tflite")];
    all.extend([
        "--all".into(),
        "--input".into(),
        input,
        "--out".into(),
        out.clone(),
    ]);
    let output = eyas(all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let index = std::fs::read(out.join("index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let outputs = index["outputs"].as_array().expect("a list");
    assert_eq!(outputs.len(), 4);
    assert_eq!(outputs[0]["shape"], serde_json::json!([1, 10, 4]));
    let intermediates = index["intermediates"].as_array().expect("a list");
    assert!(intermediates.len() >= 10, "{}", intermediates.len());
    for entry in outputs.iter().chain(intermediates) {
        let file = out.join(entry["file"].as_str().expect("a name"));
        let elements: u64 = entry["shape"]
            .as_array()
            .expect("a shape")
            .iter()
            .map(|dim| dim.as_u64().expect("a number"))
            .product();
        let size = if entry["dtype"] == "float32" { 4 } else { 1 };
        let length = std::fs::metadata(&file).expect("a file").len();
        assert!(length > elements * size && (length - elements * size).is_multiple_of(64));
    }
}

#[test]
fn bench_and_inspect_say_what_they_promise() {
    let mut all: Vec<PathBuf> = vec!["bench".into(), "-m".into(), demo("colours.tflite")];
    all.extend(["--json".into(), "--isa".into(), "scalar".into()]);
    let output = eyas(all);
    let bench: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(
        (&bench["isa"], &bench["threads"]),
        (&"scalar".into(), &1.into())
    );
    for key in [
        "median_ms",
        "min_ms",
        "p90_ms",
        "gmacs",
        "peak_rss_bytes",
        "runs",
    ] {
        assert!(
            bench[key].as_f64().is_some_and(|value| value > 0.0),
            "{key}: {bench}"
        );
    }
    let inspected = eyas([PathBuf::from("inspect"), demo("colours.tflite")]);
    let words = text(&inspected.stdout);
    for word in [
        "uint8",
        "[1, 120, 160, 3]",
        "AVERAGE_POOL_2D",
        "TFLite_Detection_PostProcess",
    ] {
        assert!(words.contains(word), "{word} in:\n{words}");
    }
}

#[test]
fn without_a_source_the_demo_scene_is_shown_and_said() {
    let run = |more: &[&str]| {
        let flags = [
            "--no-listen",
            "--events",
            "-",
            "--fps",
            "max",
            "--frames",
            "2",
        ];
        let output = eyas(arguments("run", &[&flags, more].concat()));
        assert!(output.status.success());
        for (index, line) in json_lines(&output).iter().enumerate() {
            assert_eq!(line["source"], "demo");
            assert_eq!(line["frame"], index);
            assert_eq!(
                (&line["width"], &line["height"]),
                (&320.into(), &240.into())
            );
        }
        assert_eq!(json_lines(&output).len(), 2);
        text(&output.stderr)
    };
    let named = run(&["--size", "320x240", "--source", "demo"]);
    assert!(!named.contains("no camera was found"), "{named}");
    let mut devices = std::fs::read_dir("/dev").unwrap();
    if devices.any(|file| {
        file.unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("video")
    }) {
        eprintln!("SKIPPED: this machine has video devices, so --source auto may be a camera");
        return;
    }
    let found = run(&["--size", "320x240"]);
    assert!(
        found.contains("showing the demo scene, since no camera was found"),
        "{found}"
    );
}

#[test]
fn bench_measures_when_asked() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_eyas"))
        .args(["bench", "--on-request", "-m"])
        .arg(demo("colours.tflite"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut requests = child.stdin.take().expect("a pipe");
    requests.write_all(b"2\n1\n").expect("it listens");
    drop(requests);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["macs"].as_u64().is_some_and(|macs| macs > 0));
    let runs = |line: &Value| line["times_ms"].as_array().map(Vec::len);
    assert_eq!(
        lines[1..].iter().map(runs).collect::<Vec<_>>(),
        [Some(2), Some(1)]
    );
}

#[test]
fn without_a_model_every_command_runs_the_built_in_one() {
    let picture = demo("scene/00.jpg");
    let detected = eyas([PathBuf::from("detect"), "--json".into(), picture.clone()]);
    assert!(detected.status.success(), "{}", text(&detected.stderr));
    assert_eq!(json_lines(&detected).len(), 1);
    assert!(text(&detected.stderr).contains("codes: "));
    let run = eyas([
        PathBuf::from("run"),
        "--no-listen".into(),
        "--source".into(),
        picture,
    ]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert!(text(&eyas(["inspect"]).stdout).starts_with("codes\n"));
    let bench = eyas(["bench", "--json", "--runs", "1"]);
    assert!(text(&bench.stdout).starts_with("{\"model\":\"codes\","));
    let infer = eyas(["infer", "--out", "no/such/folder"]);
    assert_eq!(infer.status.code(), Some(2), "it wants an input");
    assert!(text(&infer.stderr).contains("codes has 1 inputs"));
}

#[test]
fn wrong_usage_ends_with_2_and_unusable_files_with_1() {
    let source = demo("scene/00.jpg");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let no_model = eyas(
        ["detect", "-m", "no-such-model"]
            .map(PathBuf::from)
            .into_iter()
            .chain([source.clone()]),
    );
    assert_eq!(no_model.status.code(), Some(2));
    assert!(
        text(&no_model.stderr).contains("eyas models list"),
        "how to get a model"
    );
    assert_eq!(eyas(["run", "--confidence", "2"]).status.code(), Some(2));
    assert_eq!(eyas(["fly"]).status.code(), Some(2));
    assert_eq!(eyas(["--help"]).status.code(), Some(0));
    let not_a_model = eyas([PathBuf::from("detect"), "-m".into(), readme, source]);
    assert_eq!(not_a_model.status.code(), Some(1));
    assert!(text(&not_a_model.stderr).contains("README.md"));
    let mut all = arguments("run", &["--no-listen", "--source"]);
    all.push("no/such/file.mp4".into());
    let missing = eyas(all);
    assert_ne!(missing.status.code(), Some(0));
    assert!(text(&missing.stderr).contains("no/such/file.mp4"));
}
