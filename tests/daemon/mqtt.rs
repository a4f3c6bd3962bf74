//! The real binary and a real broker.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::broker::{Broker, Message, free_port};
use crate::program::{Program, command, get, wait_until, with_model, with_scene};

const LABELS: [&str; 3] = ["red", "green", "blue"];

fn watching(url: &str) -> Command {
    let mut command = with_scene(with_model(command()), "50");
    command.args(["--mqtt", url, "--mqtt-name", "gate"]);
    command
}

fn status(program: &Program) -> Value {
    let answer = get(program.address(), "/api/status", "");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    serde_json::from_str(body).expect("JSON")
}

fn frames(program: &Program) -> u64 {
    status(program)["inferred"].as_u64().expect("a number")
}

fn wait_for_more_frames(program: &Program) {
    let before = frames(program);
    wait_until("more frames", || frames(program) > before + 20);
}

fn wait_for_state(program: &Program, state: &str) -> Value {
    let mut mqtt = Value::Null;
    wait_until(state, || {
        mqtt = status(program)["mqtt"].take();
        mqtt["state"] == state
    });
    mqtt
}

/// How many lines of the log hold these words.
fn lines(program: &Program, words: &str) -> usize {
    let log = program.log();
    log.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn what_is_seen_is_told_and_the_end_too() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let listener = broker.listen();
    let mut program = Program::start(watching(&broker.url()));
    listener.payload("eyas/gate/availability", "online");
    let line = listener.wait_for("eyas/gate/detections", |_| true).json();
    assert!(
        line["timestamp"].is_string() && line["width"].is_u64(),
        "{line}"
    );
    let found = line["detections"].as_array().expect("a list");
    assert!(
        found.iter().all(|one| one["box"]["x_min"].is_f64()),
        "{line}"
    );
    for label in LABELS {
        let topic = format!("eyas/gate/count/{label}");
        listener.wait_for(&topic, |message| message.payload != "0");
    }
    let is_new = |event: &Message| event.json()["event"] == "new";
    let event = listener.wait_for("eyas/gate/events", is_new).json();
    assert!(
        event["track_id"].is_u64() && event["box"]["x_min"].is_f64(),
        "{event}"
    );
    let status = listener.wait_for("eyas/gate/status", |_| true).json();
    assert_eq!(status["name"], "gate");
    assert_eq!(status["mqtt"]["state"], "connected");
    assert!(
        status["fps"].is_number() && status["system"].is_object(),
        "{status}"
    );

    let late = broker.listen();
    for topic in ["availability", "status", "count/red", "count/green"] {
        let message = late.wait_for(&format!("eyas/gate/{topic}"), |_| true);
        assert!(message.retained, "{message:?}");
    }
    let metrics = get(program.address(), "/metrics", "");
    assert!(metrics.contains("\neyas_mqtt_up 1\n"), "{metrics}");
    program.signal("TERM");
    listener.payload("eyas/gate/availability", "offline");
    assert!(program.wait().success());
    assert_eq!(lines(&program, "connected; this is gate"), 1);
    assert_eq!(lines(&program, "left behind"), 0, "{}", program.log());
    let later = broker.listen();
    assert!(later.payload("eyas/gate/availability", "offline").retained);
}

#[test]
fn a_killed_eyas_is_offline_by_its_last_will() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let listener = broker.listen();
    let mut program = Program::start(watching(&broker.url()));
    listener.payload("eyas/gate/availability", "online");
    program.signal("KILL");
    program.wait();
    listener.payload("eyas/gate/availability", "offline");
    assert!(
        broker
            .listen()
            .payload("eyas/gate/availability", "offline")
            .retained
    );
}

#[test]
fn detections_come_at_most_five_times_a_second() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let listener = broker.listen();
    let program = Program::start(watching(&broker.url()));
    listener.wait_for("eyas/gate/detections", |_| true);
    let (start, before) = (std::time::Instant::now(), frames(&program));
    listener.forget();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let heard = listener.heard();
    let told = heard
        .iter()
        .filter(|it| it.topic == "eyas/gate/detections")
        .count();
    assert!(
        told as f64 <= 5.0 * start.elapsed().as_secs_f64() + 1.0,
        "{told}"
    );
    assert!(told > 0 && frames(&program) - before > told as u64);
}

#[test]
fn a_broker_that_dies_and_comes_back_is_told_everything_again() {
    let Some(mut broker) = Broker::start() else {
        return;
    };
    let program = Program::start(watching(&broker.url()));
    wait_for_state(&program, "connected");
    broker.kill();
    let mqtt = wait_for_state(&program, "disconnected");
    assert!(mqtt["reason"].is_string(), "{mqtt}");
    wait_for_more_frames(&program);
    broker.restart();
    let listener = broker.listen();
    listener.payload("eyas/gate/availability", "online");
    for label in LABELS {
        listener.wait_for(&format!("eyas/gate/count/{label}"), |_| true);
    }
    listener.wait_for("homeassistant/device/eyas_gate/config", |_| true);
    let mqtt = wait_for_state(&program, "connected");
    assert_eq!(mqtt["connections"], 2);
    assert_eq!(lines(&program, ": connected; this is gate"), 2);
    assert!(
        lines(&program, ": no connection: ") <= 2,
        "{}",
        program.log()
    );
}

#[test]
fn a_broker_may_come_after_eyas_and_a_missing_one_delays_nothing() {
    let port = free_port();
    let url = format!("mqtt://localhost:{port}");
    let mut program = Program::start(watching(&url));
    let mqtt = wait_for_state(&program, "disconnected");
    assert_eq!(mqtt["url"], url);
    let reason = mqtt["reason"].as_str().expect("text");
    assert!(reason.contains("refused"), "{reason}");
    wait_for_more_frames(&program);
    assert_eq!(lines(&program, ": no connection: "), 1, "{}", program.log());
    let start = std::time::Instant::now();
    program.signal("TERM");
    assert!(program.wait().success());
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn a_stopped_broker_costs_neither_frames_nor_memory() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let mut command = with_scene(with_model(command()), "max");
    command.args(["--mqtt", &broker.url(), "--mqtt-name", "gate"]);
    let program = Program::start(command);
    wait_for_state(&program, "connected");
    wait_for_more_frames(&program);
    let memory = || {
        status(&program)["system"]["rss_bytes"]
            .as_u64()
            .expect("a number")
    };
    broker.signal("STOP");
    let (before, frames_before) = (memory(), frames(&program));
    wait_until("a flood", || frames(&program) > frames_before + 2000);
    let grown = memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes in 2000 frames");
    let sinks = status(&program)["sinks"].take();
    let mqtt = sinks
        .as_array()
        .expect("a list")
        .iter()
        .find(|sink| sink["name"] == "mqtt");
    assert_eq!(mqtt.expect("a sink")["errors"], 0);
    broker.signal("CONT");
    broker.listen().wait_for("eyas/gate/detections", |_| true);
}

#[test]
fn home_assistant_is_told_what_there_is_and_again_when_it_starts() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let listener = broker.listen();
    let _program = Program::start(watching(&broker.url()));
    let topic = "homeassistant/device/eyas_gate/config";
    let device = listener.wait_for(topic, |_| true).json();
    assert_eq!(device["availability_topic"], "eyas/gate/availability");
    let components = device["components"].as_object().expect("an object");
    for id in [
        "fps",
        "temperature",
        "throttled",
        "count_red",
        "count_red_present",
    ] {
        let component = &components[id];
        assert!(component["platform"].is_string(), "{id}: {component}");
        assert_eq!(component["unique_id"], format!("eyas_gate_{id}"));
    }
    assert!(broker.listen().wait_for(topic, |_| true).retained);
    listener.wait_for("eyas/gate/detections", |_| true);
    listener.forget();
    broker.publish("homeassistant/status", "online", &[]);
    listener.wait_for(topic, |_| true);
}

#[test]
fn discovery_can_be_off_and_topics_lie_where_they_are_wanted() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let listener = broker.listen();
    let mut command = watching(&format!("{}/site/north", broker.url()));
    command.args(["--mqtt-discovery", "off"]);
    let mut program = Program::start(command);
    listener.payload("site/north/gate/availability", "online");
    listener.wait_for("site/north/gate/count/red", |_| true);
    program.signal("INT");
    listener.payload("site/north/gate/availability", "offline");
    assert!(program.wait().success());
    let stray = listener.heard();
    let stray: Vec<_> = stray
        .iter()
        .filter(|it| !it.topic.starts_with("site/north/gate/"))
        .collect();
    assert!(stray.is_empty(), "{stray:?}");
}

#[test]
fn counts_of_an_earlier_run_are_put_right() {
    let Some(broker) = Broker::start() else {
        return;
    };
    broker.publish("eyas/gate/count/red", "7", &["-r"]);
    broker.publish("eyas/gate/count/sofa", "2", &["-r"]);
    let listener = broker.listen();
    let _program = Program::start(watching(&broker.url()));
    let is_right = |message: &Message| !message.retained && message.payload != "7";
    listener.wait_for("eyas/gate/count/red", is_right);
    listener.payload("eyas/gate/count/sofa", "");
    let removed = |device: &Value| device["components"]["count_sofa"]["platform"] == "sensor";
    let topic = "homeassistant/device/eyas_gate/config";
    listener.wait_for(topic, |message| removed(&message.json()));
    let late = broker.listen();
    late.wait_for("eyas/gate/status", |_| true);
    assert!(
        late.heard()
            .iter()
            .all(|it| it.topic != "eyas/gate/count/sofa")
    );
}

#[test]
fn two_of_one_name_are_told_so() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let programs = [(); 2].map(|()| Program::start(watching(&broker.url())));
    wait_until("a warning", || {
        let told = |program: &Program| lines(program, "has the name gate too");
        programs.iter().any(|program| told(program) == 1)
    });
    for program in &programs {
        assert_eq!(wait_for_state(program, "connected")["connections"], 1);
    }
}

#[test]
fn a_broker_that_wants_a_password_gets_it_from_a_file() {
    let hash = |folder: &Path| {
        let mut make = Command::new("mosquitto_passwd");
        make.args(["-b", "-c"]).arg(folder.join("users"));
        assert!(
            make.args(["olga", "right"])
                .status()
                .expect("mosquitto_passwd")
                .success()
        );
    };
    let lines_of_config = "allow_anonymous false\npassword_file FOLDER/users";
    let Some(broker) = Broker::prepared(lines_of_config, hash) else {
        return;
    };
    let file = broker.folder.path().join("password");
    std::fs::write(&file, "wrong-one\n").expect("writes");
    let url = format!("mqtt://olga@127.0.0.1:{}", broker.port);
    let start = |url: &str, file: Option<&Path>| {
        let mut command = watching(url);
        if let Some(file) = file {
            command.arg("--mqtt-password-file").arg(file);
        }
        Program::start(command)
    };
    let wrong = start(&url, Some(&file));
    wrong.line("it refuses user olga with this password");
    wait_for_more_frames(&wrong);
    assert!(!wrong.log().contains("wrong-one"), "{}", wrong.log());
    let nobody = start(&broker.url(), None);
    nobody.line("it refuses clients without user and password");
    std::fs::write(&file, "right\n").expect("writes");
    let right = start(&url, Some(&file));
    let listener = broker.listen_as(&["-u", "olga", "-P", "right"]);
    listener.payload("eyas/gate/availability", "online");
    wait_for_state(&right, "connected");
}

/// Makes an authority, a certificate that it signed for `localhost` and 127.0.0.1, and a stranger's certificate.
fn certify(folder: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Test Authority' -keyout ca.key -out ca.pem
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Stranger' -keyout stranger.key -out stranger.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout broker.key -out broker.csr
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > names
        openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out broker.pem";
    let mut shell = Command::new("sh");
    let made = shell
        .args(["-e", "-c", script])
        .current_dir(folder)
        .output()
        .expect("a shell");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[test]
fn an_encrypted_connection_trusts_only_whom_it_is_told_to() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: without openssl no broker has a certificate");
        return;
    }
    let tls = "allow_anonymous true\ncertfile FOLDER/broker.pem\nkeyfile FOLDER/broker.key";
    let Some(broker) = Broker::prepared(tls, certify) else {
        return;
    };
    let [ca, stranger] = ["ca.pem", "stranger.pem"].map(|name| broker.folder.path().join(name));
    let start = |host: &str, ca: Option<&Path>| {
        let mut command = watching(&format!("mqtts://{host}:{}", broker.port));
        command.env("SSL_CERT_FILE", &stranger);
        if let Some(ca) = ca {
            command.arg("--mqtt-ca").arg(ca);
        }
        Program::start(command)
    };
    let listener = broker.listen_as(&["--cafile", ca.to_str().expect("UTF-8")]);
    for host in ["localhost", "127.0.0.1"] {
        let mut program = start(host, Some(&ca));
        wait_for_state(&program, "connected");
        listener.payload("eyas/gate/availability", "online");
        program.signal("TERM");
        assert!(program.wait().success());
    }
    start("localhost", None).line("nobody that is trusted has signed its certificate");
    let plain = Program::start(watching(&broker.url()));
    plain.line("no connection: it closed the connection");
}

#[test]
fn tls_to_a_plain_broker_is_told() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let url = broker.url().replace("mqtt://", "mqtts://");
    let program = Program::start(watching(&url));
    let line = program.line("no connection: ");
    assert!(
        line.contains("closed the connection") || line.contains("not TLS"),
        "{line}"
    );
}

#[test]
fn mistakes_are_wrong_usage() {
    for (flags, words) in [
        (&["--mqtt", "localhost"][..], "not a broker like"),
        (&["--mqtt", "mqtt://a:b@localhost"], "--mqtt-password-file"),
        (&["--mqtt-name", "gate"], "no broker is named"),
        (&["--mqtt", "mqtt://localhost", "--mqtt-name", "a/b"], "A-Z"),
    ] {
        let mut command = with_scene(with_model(command()), "50");
        command.args(flags);
        let mut program = Program::start(command);
        assert_eq!(program.wait().code(), Some(2), "{flags:?}");
        program.line(words);
    }
}
