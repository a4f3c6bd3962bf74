//! The real binary under a stand-in for systemd: a datagram socket that keeps what it is told.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::program::{
    PATIENCE, Program, command, demo, status, wait_until, with_model, with_scene,
};

struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("binds");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        Self { socket, folder }
    }

    fn supervise(&self, mut command: Command, watchdog: bool) -> Program {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        if watchdog {
            command.env("WATCHDOG_USEC", "2000000");
        }
        Program::start(command)
    }

    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// The messages up to one that has a line that begins with `wanted`.
    fn until(&self, wanted: &str) -> Vec<String> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.next());
            let last = messages.last().expect("one");
            if last.lines().any(|line| line.starts_with(wanted)) {
                return messages;
            }
        }
    }
}

fn labels(program: &Program) -> Vec<String> {
    let status = status(program);
    let found = status["scene"]["detections"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    found
        .iter()
        .map(|one| one["label"].as_str().expect("text").into())
        .collect()
}

#[test]
fn readiness_progress_status_and_end_are_told() {
    let manager = Manager::new();
    let scene = with_scene(with_model(command()), "50");
    let mut program = manager.supervise(scene, true);
    assert_eq!(manager.until("READY=1").len(), 1);
    manager.until("WATCHDOG=1");
    let told = manager.until("STATUS=");
    let line = told.last().expect("one");
    assert!(
        line.starts_with("STATUS=frame ") && line.contains(" fps"),
        "{line}"
    );
    manager.until("WATCHDOG=1");
    program.signal("TERM");
    manager.until("STOPPING=1");
    assert!(program.wait().success());
    let log = program.log();
    assert!(
        !log.contains("frame "),
        "the status belongs to systemd alone: {log}"
    );
}

#[test]
fn frames_feed_the_watchdog_and_time_does_not() {
    let manager = Manager::new();
    let _program = manager.supervise(with_scene(with_model(command()), "1"), true);
    let frame = |message: &String| -> usize {
        let number = message.split(' ').nth(1).expect("a number");
        number.parse().expect("a number")
    };
    let first = frame(manager.until("STATUS=frame ").last().expect("one"));
    let mut told = manager.until("STATUS=frame ");
    let second = frame(&told.pop().expect("one"));
    assert!(
        told.len() <= second - first + 1,
        "{first} to {second}: {told:?}"
    );
    assert!(!told.is_empty());
}

#[test]
fn without_signal_every_attempt_feeds_the_watchdog() {
    if Command::new("ffmpeg")
        .arg("-version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!("SKIPPED: without ffmpeg no stream can be lost");
        return;
    }
    let manager = Manager::new();
    let mut command = with_model(command());
    command.args(["--source", "rtsp://127.0.0.1:9/none"]);
    let _program = manager.supervise(command, true);
    manager.until("STATUS=frame 0 | no signal: ");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
}

#[test]
fn hangup_reloads_threshold_labels_and_model() {
    let manager = Manager::new();
    let folder = manager.folder.path();
    let (config, names) = (folder.join("eyas.toml"), folder.join("names.txt"));
    let model = folder.join("model.tflite");
    let configure = |text: &str| {
        std::fs::write(
            &config,
            format!("model = {model:?}\nlabels = {names:?}\n{text}"),
        )
        .expect("writes");
    };
    std::fs::copy(demo("colours.tflite"), &model).expect("copies");
    std::fs::write(&names, "red\ngreen\nblue\n").expect("writes");
    configure("");
    let mut command = with_scene(command(), "50");
    command.arg("--config").arg(&config);
    let program = manager.supervise(command, false);
    manager.until("READY=1");
    wait_until("red discs", || labels(&program).contains(&"red".into()));

    std::fs::write(&names, "rot\ngruen\nblau\n").expect("writes");
    configure("confidence = 0.3\nframes = 9\n");
    program.signal("HUP");
    let told = manager.until("RELOADING=1");
    assert!(
        told.last().expect("one").contains("\nMONOTONIC_USEC="),
        "{told:?}"
    );
    manager.until("READY=1");
    wait_until("red discs by their new name", || {
        labels(&program).contains(&"rot".into())
    });
    assert_eq!(
        status(&program)["confidence"].as_f64().map(|c| c as f32),
        Some(0.3)
    );
    program.line("reloaded: ");
    program.line("`frames` has changed and takes effect with a restart");

    // A copy that stopped half way.
    let whole = std::fs::read(demo("colours.tflite")).expect("reads");
    std::fs::write(&model, &whole[..whole.len() / 2]).expect("writes");
    configure("confidence = 0.9\n");
    program.signal("HUP");
    manager.until("READY=1");
    assert!(program.line("not reloaded").contains("model.tflite"));
    let before = status(&program);
    assert_eq!(before["confidence"].as_f64().map(|c| c as f32), Some(0.3));
    let frames = |status: &Value| status["inferred"].as_u64().expect("a number");
    wait_until("more frames", || {
        frames(&status(&program)) > frames(&before) + 5
    });
    assert!(labels(&program).contains(&"rot".into()));
}

/// Runs eyas with stderr in a file that `JOURNAL_STREAM` calls the journal.
fn journal(mut command: Command, log: &Path) -> String {
    let file = File::create(log).expect("a file");
    let known = file.metadata().expect("metadata");
    command.env("JOURNAL_STREAM", format!("{}:{}", known.dev(), known.ino()));
    command.stderr(file).status().expect("the binary runs");
    std::fs::read_to_string(log).expect("reads")
}

#[test]
fn lines_for_the_journal_carry_their_priority_and_nothing_else_in_front() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let mut run = with_scene(with_model(command()), "50");
    run.args(["--frames", "2"]);
    let text = journal(run, &log);
    assert!(text.contains("<6>live page: http://"), "{text}");
    assert!(text.contains("<6>2 frames in "), "{text}");
    assert!(
        text.lines().all(|line| line.starts_with("<6>")) && !text.contains('\x1b'),
        "{text}"
    );
    let mut run = command();
    run.args(["-m", "no-such.tflite"]);
    let text = journal(run, &log);
    assert!(
        text.starts_with("<3>error: cannot read no-such.tflite"),
        "{text}"
    );
}
