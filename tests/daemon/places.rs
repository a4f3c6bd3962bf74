//! Zones, masks, rules for classes and tracks of the real binary, from its configuration file.

use std::path::Path;

use serde_json::Value;

use crate::program::{Program, command, get, get_bytes, wait_until, with_model, with_scene};

/// What JPEG makes of black.
const BLACK: u8 = 2;
const ALL: &str = "polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]";

fn configured(folder: &Path, text: &str) -> std::process::Command {
    let config = folder.join("eyas.toml");
    std::fs::write(&config, text).expect("writes");
    let mut command = with_scene(with_model(command()), "10");
    command.arg("--config").arg(config);
    command
}

fn status(program: &Program) -> Value {
    let answer = get(program.address(), "/api/status", "");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    serde_json::from_str(body).expect("JSON")
}

fn labels(status: &Value) -> Vec<&str> {
    let found = status["scene"]["detections"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    found
        .iter()
        .filter_map(|one| one["label"].as_str())
        .collect()
}

/// The brightest pixel of `/snapshot.jpg`.
fn brightest(program: &Program) -> u8 {
    let answer = get_bytes(program.address(), "/snapshot.jpg", "");
    let head = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .expect("a head");
    let picture = image::load_from_memory(&answer[head + 4..]).expect("a picture");
    picture
        .into_luma8()
        .pixels()
        .map(|pixel| pixel.0[0])
        .max()
        .expect("pixels")
}

#[test]
fn objects_are_followed_counted_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let events = folder.path().join("tracks.jsonl");
    let text = format!(
        "track-events = {events:?}\nframes = 60\n\
         [[zone]]\nname = 'wall'\nlabels = ['Red']\ndwell = 1\n{ALL}\n[class.blue]\nconfidence = 1"
    );
    let mut program = Program::start(configured(folder.path(), &text));
    let mut last = Value::Null;
    wait_until("a visit", || {
        last = status(&program);
        // Objects are counted before their scene is shown.
        last["objects"]["zones"][0]["now"] == 1
            && last["scene"]["detections"][0]["track_id"].is_u64()
    });
    assert_eq!(last["objects"]["zones"][0]["zone"], "wall");
    assert_eq!(last["objects"]["zones"][0]["label"], "red");
    assert!(!labels(&last).contains(&"blue"), "{last}");
    let metrics = get(program.address(), "/metrics", "");
    for line in [
        "eyas_zone_objects{zone=\"wall\",label=\"red\"} ",
        "eyas_zone_entries_total{zone=\"wall\",label=\"red\"} ",
        "eyas_tracks_total{label=\"green\"} ",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(program.wait().success());

    let text = std::fs::read_to_string(&events).expect("reads");
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let of = |label: &str| -> Vec<&str> {
        let own = events.iter().filter(|event| event["label"] == label);
        own.filter_map(|event| event["event"].as_str()).collect()
    };
    let green = of("green");
    assert_eq!(
        (green.first(), green.last()),
        (Some(&"new"), Some(&"end")),
        "{green:?}"
    );
    assert!(
        green.contains(&"update") && !green.contains(&"enter"),
        "{green:?}"
    );
    let red = of("red");
    assert_eq!(red.first_chunk(), Some(&["new", "enter"]), "{red:?}");
    assert_eq!(red.last_chunk(), Some(&["leave", "end"]), "{red:?}");
    assert!(red.contains(&"dwell"), "{red:?}");
    assert!(of("blue").is_empty());
    let dwell = events
        .iter()
        .find(|event| event["event"] == "dwell")
        .expect("one");
    let seconds = dwell["seconds"].as_f64().expect("seconds");
    assert!((1.0..10.0).contains(&seconds), "{dwell}");
    assert_eq!(
        (&dwell["zone"], &dwell["width"]),
        (&"wall".into(), &320.into())
    );
}

#[test]
fn without_tracks_nothing_has_an_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "no-track = true\n[[zone]]\nname = 'wall'\nlabels = ['red']\nkind = 'exclude'\n{ALL}"
    );
    let program = Program::start(configured(folder.path(), &text));
    let mut last = Value::Null;
    wait_until("discs", || {
        last = status(&program);
        labels(&last).len() > 1
    });
    assert!(!labels(&last).contains(&"red"), "{last}");
    assert!(
        last["scene"]["detections"][0].get("track_id").is_none(),
        "{last}"
    );
    assert_eq!(
        last["objects"],
        serde_json::json!({"tracks": [], "zones": []})
    );
}

#[test]
fn a_hangup_applies_masks_and_zones_and_refuses_wrong_ones_as_a_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("eyas.toml");
    let program = Program::start(configured(folder.path(), ""));
    wait_until("discs", || labels(&status(&program)).len() > 1);
    wait_until("light", || brightest(&program) > 100);

    std::fs::write(&config, format!("[[mask]]\n{ALL}\n")).expect("writes");
    program.signal("HUP");
    wait_until("darkness", || brightest(&program) <= BLACK);
    wait_until("nothing", || labels(&status(&program)).is_empty());

    std::fs::write(&config, "[class.gren]\nconfidence = 0.5").expect("writes");
    program.signal("HUP");
    let line = program.line("not reloaded");
    assert!(
        line.contains("class.gren: no label is \"gren\"; did you mean green?"),
        "{line}"
    );
    assert!(brightest(&program) <= BLACK);

    std::fs::write(
        &config,
        format!("[[zone]]\nname = 'wall'\nkind = 'include'\nlabels = ['red']\n{ALL}"),
    )
    .expect("writes");
    program.signal("HUP");
    wait_until("a visit", || {
        status(&program)["objects"]["zones"][0]["now"] == 1
    });
    wait_until("light", || brightest(&program) > 100);
    assert!(!program.log().contains("restart"), "{}", program.log());
}

#[test]
fn wrong_tables_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, words) in [
        (
            format!("[[zone]]\nname = 'a'\nlabels = ['redd']\n{ALL}"),
            "eyas.toml: zone \"a\": labels: no label is \"redd\"; did you mean red?",
        ),
        (
            "[[mask]]\npolygon = [[0, 0], [1, 1], [1, 0], [0, 1]]".into(),
            "eyas.toml: mask 1: polygon: the edges after points 1 and 3 meet",
        ),
        (
            "[class.red]\nmin-area = 1".into(),
            "unknown field `min-area`",
        ),
    ] {
        let mut program = Program::start(configured(folder.path(), &text));
        assert_eq!(program.wait().code(), Some(2));
        wait_until(words, || program.log().contains(words));
    }
}
