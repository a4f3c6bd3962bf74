//! Cameras as a user meets them: the real binary, with a stand-in for `rpicam-vid` on its `PATH`.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Lists one camera; writes frames for ever, grey 640x480 in I420, of which `frame` holds one.
const CAMERA: &str = "case $* in
*--list-cameras*) echo '0 : imx708 [4608x2592] (/base/i2c@1/imx708@1a)'; exit;;
esac
echo $$ >${0%/*}/pid
while cat ${0%/*}/frame; do :; done";

/// As the other, but it falls silent after the first frame.
const SILENT_CAMERA: &str = "echo $$ >${0%/*}/pid
cat ${0%/*}/frame
exec sleep 600";

fn stand_in(script: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("rpicam-vid");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("writes");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("sets");
    let frame = vec![128; 640 * 480 * 3 / 2];
    std::fs::write(folder.path().join("frame"), frame).expect("writes");
    folder
}

/// The binary, which finds the stand-in before anything else.
fn eyas(folder: &TempDir, arguments: &[&str]) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.path().into()).chain(std::env::split_paths(&path));
    let path: OsString = std::env::join_paths(folders).expect("joins");
    let mut command = Command::new(env!("CARGO_BIN_EXE_eyas"));
    command
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::null());
    command
}

/// `run` on a source, with the model of the demo.
fn run(folder: &TempDir, source: &str, more: &[&str]) -> Command {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo");
    let mut command = eyas(folder, &["run", "--no-listen", "--source", source]);
    command.arg("-m").arg(demo.join("colours.tflite"));
    command.arg("-l").arg(demo.join("colours.txt")).args(more);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn events(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout);
    let lines = lines.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

/// The process that the stand-in has written down.
fn pid(folder: &TempDir) -> PathBuf {
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap_or_default();
    Path::new("/proc").join(pid.trim())
}

#[test]
fn a_ribbon_camera_is_watched_and_let_go() {
    let folder = stand_in(CAMERA);
    let mut run = run(&folder, "csi", &["--events", "-", "--frames", "3"]);
    let output = run.output().expect("the binary starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let events = events(&output);
    assert_eq!(events.len(), 3);
    assert_eq!(events[0]["source"], "csi");
    assert_eq!(
        (&events[0]["width"], &events[0]["height"]),
        (&640.into(), &480.into())
    );
    assert_ne!(pid(&folder), Path::new("/proc"));
    assert!(!pid(&folder).exists());
}

#[test]
fn auto_takes_the_ribbon_camera_and_says_so() {
    let folder = stand_in(CAMERA);
    let mut run = run(&folder, "auto", &["--events", "-", "--frames", "1"]);
    let output = run.output().expect("the binary starts");
    assert_eq!(events(&output)[0]["source"], "csi:0");
    let log = text(&output.stderr);
    assert!(
        log.contains("found the ribbon camera imx708 (csi:0)"),
        "{log}"
    );
}

#[test]
fn a_killed_eyas_takes_a_silent_camera_with_it() {
    let folder = stand_in(SILENT_CAMERA);
    if Command::new("setpriv").arg("--version").output().is_err() {
        eprintln!("SKIPPED: setpriv is not installed, so nothing ends a silent camera");
        return;
    }
    let mut run = run(&folder, "csi", &["--events", "-"]);
    let mut eyas = run
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut first = [0];
    let mut events = eyas.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut events, &mut first).expect("an event");
    let camera = pid(&folder);
    assert!(camera.exists());
    eyas.kill().expect("kills");
    eyas.wait().expect("reaps");
    let deadline = Instant::now() + Duration::from_secs(60);
    // Whoever adopts it may be slow to reap it.
    let runs =
        || std::fs::read_to_string(camera.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while runs() {
        assert!(Instant::now() < deadline, "the camera still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_no_camera_is_an_error() {
    let folder = stand_in(CAMERA);
    let output = run(&folder, "v4l2:/dev/null", &[])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    let log = text(&output.stderr);
    assert!(log.contains("/dev/null is not a video device"), "{log}");
    let output = run(&folder, "v4l2:webcam", &[])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn doctor_tells_what_there_is() {
    let folder = stand_in(CAMERA);
    let output = eyas(&folder, &["doctor", "--json"])
        .output()
        .expect("the binary starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["ribbon"]["cameras"][0]["source"], "csi:0");
    assert_eq!(found["ribbon"]["cameras"][0]["name"], "imx708");
    let tests = found["cpu"]["self_test"].as_array().expect("a list");
    assert_eq!(tests[0]["isa"], "scalar");
    for test in tests {
        assert!(
            test["cases"].as_u64() > Some(100) && test["mismatches"] == 0,
            "{test}"
        );
    }
    let program = |name: &str| {
        let programs = found["programs"].as_array().expect("a list");
        programs
            .iter()
            .find(|program| program["name"] == name)
            .cloned()
    };
    let path = folder.path().join("rpicam-vid");
    assert_eq!(
        program("rpicam-vid").expect("named")["path"],
        path.to_str().expect("text")
    );
}
