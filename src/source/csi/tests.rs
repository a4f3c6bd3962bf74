//! Ribbon cameras with a stand-in for `rpicam-vid`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::source::{Frame, PixelFormat, YuvRange};

/// A folder with a `rpicam-vid` that runs this.
fn stand_in(script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("rpicam-vid");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn options(size: [usize; 2]) -> SourceOptions {
    SourceOptions {
        size: Some(size),
        ..Default::default()
    }
}

fn source(folder: &TempDir, size: [usize; 2], stall: Duration) -> CsiSource {
    CsiSource::with("csi", options(size), folder.path().as_os_str(), stall).unwrap()
}

fn next_frame(source: &mut CsiSource) -> Frame {
    loop {
        if let Next::Frame(frame) = source.next().unwrap() {
            return frame;
        }
    }
}

/// Looks until the source says why there is no signal, other than that it waits.
fn next_reason(source: &mut CsiSource) -> String {
    loop {
        match source.next().unwrap() {
            Next::NoSignal(reason) if reason != "waiting for a frame" => return reason,
            Next::NoSignal(_) | Next::Frame(_) => {}
            Next::End => panic!("a camera does not end"),
        }
    }
}

/// Y of 1 and 2 a row, U of 3, V of 4, with 9 as padding: one frame of 4x2 in rows of 64.
fn padded_frame(folder: &Path) {
    let row = |value: u8, width: usize, stride: usize| {
        let mut row = vec![9; stride];
        row[..width].fill(value);
        row
    };
    let frame = [row(1, 4, 64), row(2, 4, 64), row(3, 2, 32), row(4, 2, 32)].concat();
    std::fs::write(folder.join("frame"), frame).unwrap();
}

#[test]
fn padding_of_rows_is_taken_away() {
    let folder = stand_in("while cat ${0%/*}/frame; do :; done");
    padded_frame(folder.path());
    let mut source = source(&folder, [4, 2], STALL);
    for index in 0..20 {
        let frame = next_frame(&mut source);
        assert_eq!(frame.data, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4]);
        assert_eq!(
            (frame.format, frame.range),
            (PixelFormat::I420, YuvRange::Full)
        );
        assert_eq!((frame.width, frame.height, frame.index), (4, 2, index));
    }
}

#[test]
fn the_program_is_asked_for_what_is_wanted() {
    let folder = stand_in("echo $* >${0%/*}/asked; exec sleep 60");
    let wish = SourceOptions {
        pace: Pace::Fps(12.5),
        ..options([320, 240])
    };
    let folders = folder.path().as_os_str();
    let source = CsiSource::with("csi:1", wish, folders, STALL).unwrap();
    let asked = loop {
        match std::fs::read_to_string(folder.path().join("asked")) {
            Ok(asked) if asked.ends_with('\n') => break asked,
            _ => std::thread::yield_now(),
        }
    };
    for words in [
        "--camera 1 ",
        "--width 320 --height 240",
        "--framerate 12.5",
        "--codec yuv420",
    ] {
        assert!(asked.contains(words), "{asked}");
    }
    drop(source);
}

#[test]
fn death_is_a_state_in_the_words_of_the_program() {
    let folder = stand_in(
        "cat ${0%/*}/frame; echo 'some log' >&2; echo >&2; echo 'ERROR: *** no cameras available ***' >&2; exit 255",
    );
    padded_frame(folder.path());
    let mut source = source(&folder, [4, 2], STALL);
    assert_eq!(next_frame(&mut source).index, 0);
    let reason = next_reason(&mut source);
    assert_eq!(
        reason,
        "rpicam-vid: some log; ERROR: *** no cameras available ***"
    );
    // It is started again, and the count of frames goes on.
    assert_eq!(next_frame(&mut source).index, 1);
}

#[test]
fn a_stall_is_noticed_and_the_program_replaced() {
    let folder = stand_in("cat ${0%/*}/frame; exec sleep 60");
    padded_frame(folder.path());
    let mut source = source(&folder, [4, 2], Duration::from_millis(1));
    next_frame(&mut source);
    let stalled = source.running.as_ref().unwrap().pid();
    let reason = next_reason(&mut source);
    assert!(reason.contains("no frames"), "{reason}");
    assert!(!Path::new(&format!("/proc/{stalled}")).exists());
    assert_eq!(next_frame(&mut source).index, 1);
}

#[test]
fn output_of_the_wrong_length_is_told() {
    let folder = stand_in("head -c 100 ${0%/*}/frame");
    padded_frame(folder.path());
    let reason = next_reason(&mut source(&folder, [4, 2], STALL));
    assert!(reason.contains("100 bytes into a frame of 192"), "{reason}");
}

#[test]
fn a_flood_of_frames_and_of_complaints_takes_no_memory() {
    let folder = stand_in("yes complaint >&2 & exec yes flood");
    let mut source = source(&folder, [640, 480], STALL);
    for _ in 0..10 {
        assert_eq!(next_frame(&mut source).data.len(), 640 * 480 * 3 / 2);
    }
    let mut running = source.running.take().unwrap();
    assert!(matches!(running.poll(), Polled::Picture(_)));
    assert!(running.kill().last_lines(10_000).len() < 1000);
}

#[test]
fn the_program_and_what_it_has_started_end_with_the_source() {
    let folder = stand_in("sleep 60 & echo $! >${0%/*}/helper; cat ${0%/*}/frame; wait");
    padded_frame(folder.path());
    let mut source = source(&folder, [4, 2], STALL);
    next_frame(&mut source);
    let pid = source.running.as_ref().unwrap().pid();
    let helper = std::fs::read_to_string(folder.path().join("helper")).unwrap();
    drop(source);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    // The helper has a new parent, which reaps it.
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", helper.trim()));
    while state().is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
}

#[test]
fn absence_and_wrong_words_are_told() {
    let empty = tempfile::tempdir().unwrap();
    let new = |spec, options| {
        let source = CsiSource::with(spec, options, empty.path().as_os_str(), STALL);
        source.err().unwrap().to_string()
    };
    assert!(new("csi", options([4, 2])).contains("apt install rpicam-apps"));
    assert!(new("csi:x", options([4, 2])).contains("csi:1"));
    assert!(new("csix", options([4, 2])).contains("csi:1"));
    assert!(new("csi", options([5, 2])).contains("even"));
    assert_eq!(
        list(empty.path().as_os_str(), STALL),
        Err("rpicam-vid is not installed".into())
    );
}

#[test]
fn cameras_are_listed() {
    let text = "Available cameras\n-----------------\n\
        0 : imx708_wide [4608x2592 10-bit RGGB] (/base/axi/pcie@120000/rp1/i2c@88000/imx708@1a)\n    \
        Modes: 'SRGGB10_CSI2P' : 1536x864 [120.13 fps - (768, 432)/3072x1728 crop]\n                             \
        2304x1296 [56.03 fps - (0, 0)/4608x2592 crop]\n\
        1 : ov5647 [2592x1944] (/base/soc/i2c0mux/i2c@1/ov5647@36)\n\
        2 : Webcam [1280x720] (/base/soc/usb@7e980000/usb1-1.2)\n";
    let folder = stand_in("cat ${0%/*}/list");
    std::fs::write(folder.path().join("list"), text).unwrap();
    let found = list(folder.path().as_os_str(), STALL).unwrap();
    let names: Vec<_> = found.iter().map(|c| (c.number, c.name.as_str())).collect();
    assert_eq!(names, [(0, "imx708_wide"), (1, "ov5647")]);
    assert_eq!(parse_list("No cameras available!\n"), []);
}

#[test]
fn a_list_that_does_not_come_is_not_waited_for() {
    let folder = stand_in("sleep 60; true");
    let start = Instant::now();
    let reason = list(folder.path().as_os_str(), Duration::from_millis(20)).unwrap_err();
    assert!(reason.contains("no answer"), "{reason}");
    assert!(start.elapsed() < Duration::from_secs(30));
}
