//! The findings for people.

use super::{Findings, Gpio, ModeFindings, NodeFindings, SelfTest};
use crate::telemetry::system::{SystemReading, Throttling};

/// Paragraphs with a heading each.
pub(super) fn render(findings: &Findings) -> String {
    let machine = findings.machine.as_deref().unwrap_or(findings.arch);
    let paragraphs = [
        vec![format!(
            "eyas {} on {machine}, {}",
            findings.version, findings.os
        )],
        cpu(findings),
        health(&findings.health),
        programs(findings),
        ribbon(findings),
        nodes(&findings.nodes),
        gpio(&findings.gpio),
    ];
    let paragraphs = paragraphs.map(|lines| lines.join("\n") + "\n");
    paragraphs.join("\n")
}

/// A line of a paragraph.
fn item(name: &str, value: impl std::fmt::Display) -> String {
    format!("  {name:<14}{value}")
}

fn cpu(findings: &Findings) -> Vec<String> {
    let cpu = &findings.cpu;
    let model = cpu.model.as_deref().unwrap_or("unknown");
    let cores = cpu
        .cores
        .map_or(String::new(), |cores| format!(", cores: {cores}"));
    let mut lines = vec![
        "CPU".into(),
        item("model", format!("{model}{cores}")),
        item("features", cpu.features.join(" ")),
        item("kernels", cpu.isa),
    ];
    lines.extend(
        cpu.self_test
            .iter()
            .map(|test| item("self-test", self_test(test))),
    );
    lines
}

fn self_test(test: &SelfTest) -> String {
    let SelfTest {
        isa,
        cases,
        mismatches,
        ..
    } = test;
    match &test.first {
        None => format!("{isa}: {cases} cases, all as the reference"),
        Some(first) => format!("{isa}: {mismatches} of {cases} cases DIFFER, the first in {first}"),
    }
}

fn health(reading: &SystemReading) -> Vec<String> {
    let temperature = reading.temperature_celsius;
    let temperature =
        temperature.map_or("not told by this machine".into(), |t| format!("{t:.1} °C"));
    vec![
        "Health".into(),
        item("temperature", temperature),
        item("throttling", throttling(reading.throttling.as_ref())),
    ]
}

fn throttling(flags: Option<&Throttling>) -> String {
    let Some(Throttling { now, since_boot }) = flags else {
        return "not told by this machine".into();
    };
    let remedy = match (since_boot.under_voltage, since_boot.soft_temperature_limit) {
        (true, _) => "; use a better power supply",
        (false, true) => "; cool the processor",
        (false, false) => "",
    };
    match (now.words(), since_boot.words()) {
        (_, past) if past.is_empty() => "none since the machine was started".into(),
        (now, past) if now.is_empty() => format!("none now; since the start: {past}{remedy}"),
        (now, past) => format!("now: {now}; since the start: {past}{remedy}"),
    }
}

fn programs(findings: &Findings) -> Vec<String> {
    let mut lines = vec!["Programs".into()];
    lines.extend(findings.programs.iter().map(|program| {
        let path = program.path.as_ref();
        item(
            program.name,
            path.map_or("not installed".into(), |path| path.display().to_string()),
        )
    }));
    lines
}

fn ribbon(findings: &Findings) -> Vec<String> {
    let ribbon = &findings.ribbon;
    let mut lines = vec!["Ribbon cameras".into()];
    lines.extend(
        ribbon
            .cameras
            .iter()
            .map(|camera| item(&camera.source, &camera.name)),
    );
    lines.extend(
        ribbon
            .reason
            .iter()
            .map(|reason| format!("  none: {reason}")),
    );
    lines
}

fn nodes(nodes: &[NodeFindings]) -> Vec<String> {
    let mut lines = vec!["V4L2 cameras".into()];
    if nodes.is_empty() {
        lines.push("  none: there is no /dev/video node".into());
    }
    for node in nodes {
        let path = node.path.display().to_string();
        let about = match (&node.name, &node.driver, &node.bus) {
            (Some(name), Some(driver), Some(bus)) => format!("{name} ({driver}, {bus})"),
            _ => String::new(),
        };
        lines.push(item(&path, about).trim_end().into());
        lines.extend(
            node.reason
                .iter()
                .map(|reason| item("", format!("skipped: {reason}"))),
        );
        lines.extend(
            node.source
                .iter()
                .map(|source| item("", format!("--source {source}"))),
        );
        if !node.used_by.is_empty() {
            lines.push(item("", format!("in use by {}", node.used_by.join(", "))));
        }
        lines.extend(node.modes.iter().map(|mode| item("", self::mode(mode))));
    }
    lines
}

fn gpio(gpio: &Gpio) -> Vec<String> {
    let found = match (&gpio.board, &gpio.reason) {
        (Some(board), _) => item("pins", format!("of {board}, for --gpio and --status-led")),
        (None, reason) => format!("  none: {}", reason.as_deref().unwrap_or("unknown")),
    };
    vec!["GPIO".into(), found]
}

fn mode(mode: &ModeFindings) -> String {
    let rates: Vec<_> = mode.rates.iter().map(ToString::to_string).collect();
    let rates = match rates.is_empty() {
        true => String::new(),
        false => format!(" at {} frames a second", rates.join(", ")),
    };
    format!("{} {}{rates}", mode.encoding, mode.size)
}

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use super::*;

    #[test]
    fn cameras_are_shown_with_their_modes_and_users() {
        let text = nodes(&[NodeFindings::of(&node())]).join("\n");
        for line in [
            "  /dev/video0   HD Webcam (uvcvideo, usb-1.2)\n",
            "                --source v4l2:/dev/video0\n",
            "                in use by zoom (process 7)\n",
            "                YUYV 640x480 at 30, 7.5 frames a second\n",
            "                MJPEG 32x32 to 64x48",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(nodes(&[])[1].contains("no /dev/video node"));
    }

    #[test]
    fn pins_are_told_or_why_there_are_none() {
        let told = |probed| gpio(&Gpio::of(probed)).join("\n");
        let board = told(Ok("Raspberry Pi 5".into()));
        assert!(board.contains("pins          of Raspberry Pi 5"), "{board}");
        assert_eq!(told(Err("denied".into())), "GPIO\n  none: denied");
    }

    #[test]
    fn throttling_is_told_with_its_remedy() {
        let told = |bits| throttling(Some(&Throttling::from_bits(bits)));
        assert_eq!(told(0), "none since the machine was started");
        assert_eq!(
            told(0x5_0005),
            "now: under voltage, throttled; since the start: under voltage, throttled; use a better power supply"
        );
        assert_eq!(
            told(0x8_0000),
            "none now; since the start: soft temperature limit; cool the processor"
        );
        assert!(throttling(None).contains("not told"));
    }
}
