//! The status line and the summary of `run`.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::detect::Detection;
use crate::error::Result;
use crate::sink::{Delivery, Scene, Sink};
use crate::telemetry::system::SystemReading;
use crate::telemetry::{Snapshot, SourceState};

/// What is on the newest scene, in words: `2 cat, 1 dog`.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<String>>);

impl Seen {
    fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Sink for Seen {
    fn name(&self) -> &str {
        "status"
    }

    fn delivery(&self) -> Delivery {
        Delivery::Newest
    }

    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        let seen = match scene.classes.first() {
            Some(class) => format!("{} {:.0}%", class.label, class.confidence * 100.0),
            None => counts(&scene.detections),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        Ok(())
    }
}

fn counts(detections: &[Detection]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for detection in detections {
        match counts
            .iter_mut()
            .find(|(label, _)| *label == &*detection.label)
        {
            Some((_, count)) => *count += 1,
            None => counts.push((&detection.label, 1)),
        }
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(label, count)| format!("{count} {label}"))
        .collect();
    if words.is_empty() {
        "nothing".into()
    } else {
        words.join(", ")
    }
}

/// One line without a line break.
pub(super) fn line(snapshot: &Snapshot, seen: &Seen) -> String {
    let mut line = format!("frame {}", snapshot.inferred);
    match &snapshot.source {
        SourceState::Live => {}
        SourceState::Starting => line.push_str(" | starting"),
        SourceState::NoSignal { reason } => push(&mut line, format_args!("no signal: {reason}")),
        SourceState::Ended => line.push_str(" | ended"),
    }
    push(&mut line, format_args!("{:.1} fps", snapshot.fps));
    if let (Some(p50), Some(p99)) = (snapshot.inference.p50_ms, snapshot.inference.p99_ms) {
        push(&mut line, format_args!("p50 {p50:.1} ms p99 {p99:.1} ms"));
    }
    if let Some(age) = snapshot.age_seconds {
        push(&mut line, format_args!("age {:.0} ms", age * 1e3));
    }
    push(&mut line, format_args!("dropped {}", snapshot.dropped));
    push_machine(&mut line, &snapshot.system);
    if snapshot.duty_percent < 100 {
        let percent = snapshot.duty_percent;
        push(&mut line, format_args!("slowed to {percent} %"));
    }
    if snapshot
        .mqtt
        .as_ref()
        .is_some_and(|mqtt| !mqtt.is_connected())
    {
        push(&mut line, format_args!("no MQTT broker"));
    }
    if snapshot.inferred > 0 {
        push(&mut line, format_args!("{}", seen.text()));
    }
    line
}

fn push_machine(line: &mut String, system: &SystemReading) {
    if let Some(cpu) = system.process_cpu_percent {
        push(line, format_args!("cpu {cpu:.0} %"));
    }
    if let Some(cpu) = system.cpu_percent {
        push(line, format_args!("machine {cpu:.0} %"));
    }
    let mebibytes = |bytes: u64| bytes as f64 / 1_048_576.0;
    if let Some(rss) = system.rss_bytes {
        push(line, format_args!("{:.0} MiB", mebibytes(rss)));
    }
    if let Some(free) = system.memory_available_bytes {
        push(line, format_args!("{:.0} MiB free", mebibytes(free)));
    }
    if let Some(written) = system.written_bytes.filter(|&bytes| bytes >= 1 << 20) {
        push(line, format_args!("{:.0} MiB written", mebibytes(written)));
    }
    if let Some(celsius) = system.temperature_celsius {
        push(line, format_args!("{celsius:.0} °C"));
    }
    if let Some(flags) = system.throttling {
        let (now, past) = (flags.now.words(), flags.since_boot.words());
        if !now.is_empty() {
            push(line, format_args!("{now}"));
        } else if !past.is_empty() {
            push(line, format_args!("earlier {past}"));
        }
    }
}

fn push(line: &mut String, part: std::fmt::Arguments<'_>) {
    write!(line, " | {part}").expect("writing into a string cannot fail");
}

/// What a run has done, in one line without a line break.
pub(super) fn summary(snapshot: &Snapshot) -> String {
    let seconds = snapshot.uptime_seconds;
    let mut text = format!("{} frames in {seconds:.1} s", snapshot.inferred);
    if snapshot.inferred > 1 && seconds > 0.0 {
        let _ = write!(text, " ({:.1} fps)", snapshot.inferred as f64 / seconds);
    }
    if let (Some(p50), Some(p99)) = (snapshot.inference.p50_ms, snapshot.inference.p99_ms) {
        let _ = write!(text, ", inference p50 {p50:.1} ms p99 {p99:.1} ms");
    }
    let _ = write!(text, ", {} dropped", snapshot.dropped);
    for sink in &snapshot.sinks {
        // A sink that shows the newest skips by design; lost events are worth a word.
        if sink.name.ends_with("events") && sink.dropped > 0 {
            let _ = write!(
                text,
                ", {} {} lost because their reader was slow",
                sink.dropped, sink.name
            );
        }
        if sink.errors > 0 {
            let _ = write!(text, ", {} errors of {}", sink.errors, sink.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::detect::BoundingBox;
    use crate::telemetry::Telemetry;
    use crate::telemetry::broker::BrokerState;
    use crate::telemetry::system::Throttling;

    #[test]
    fn the_machine_is_told_as_far_as_it_is_known() {
        let told = |reading: &SystemReading| {
            let mut line = String::new();
            push_machine(&mut line, reading);
            line
        };
        let mut reading = SystemReading::default();
        assert_eq!(told(&reading), "");
        reading.process_cpu_percent = Some(90.4);
        reading.cpu_percent = Some(30.0);
        reading.rss_bytes = Some(20 << 20);
        reading.memory_available_bytes = Some(400 << 20);
        reading.written_bytes = Some(4096);
        reading.temperature_celsius = Some(61.2);
        let usual = " | cpu 90 % | machine 30 % | 20 MiB | 400 MiB free | 61 °C";
        assert_eq!(told(&reading), usual);
        reading.written_bytes = Some(3 << 20);
        assert!(told(&reading).contains(" | 3 MiB written | 61"));
        reading.throttling = Some(Throttling::from_bits(0x5_0000));
        assert!(told(&reading).ends_with(" | earlier under voltage, throttled"));
        reading.throttling = Some(Throttling::from_bits(0x5_0001));
        assert!(told(&reading).ends_with(" °C | under voltage"));
    }

    #[test]
    fn line_and_summary_tell_what_there_is() {
        let telemetry = Telemetry::default();
        let seen = Seen::default();
        assert_eq!(
            line(&telemetry.snapshot(), &seen),
            "frame 0 | starting | 0.0 fps | dropped 0"
        );
        telemetry.set_source(SourceState::Live);
        telemetry.stages.inference.record(Duration::from_millis(10));
        telemetry.frame_inferred(Instant::now());
        let found = |label: &str| Detection {
            label: label.into(),
            class_id: 0,
            confidence: 0.9,
            bounding_box: BoundingBox::default(),
            track_id: None,
        };
        *seen.0.lock().unwrap() = counts(&[found("cat"), found("dog"), found("cat")]);
        telemetry.set_duty(50);
        let text = line(&telemetry.snapshot(), &seen);
        assert!(text.contains("| slowed to 50 % |"), "{text}");
        assert!(text.ends_with("| 2 cat, 1 dog"), "{text}");
        assert!(text.contains("| p50 10.1 ms p99 10.1 ms | age "), "{text}");
        assert!(!text.contains("°C"), "{text}");
        telemetry.set_source(SourceState::NoSignal {
            reason: "unplugged".into(),
        });
        assert!(line(&telemetry.snapshot(), &seen).contains("no signal: unplugged"));
        telemetry.add_sink("events").dropped(5);
        let broker = telemetry.broker("mqtt://localhost:1883");
        assert!(line(&telemetry.snapshot(), &seen).contains("| no MQTT broker |"));
        broker.set(BrokerState::Connected);
        assert!(!line(&telemetry.snapshot(), &seen).contains("MQTT"));
        let text = summary(&telemetry.snapshot());
        assert!(text.starts_with("1 frames in 0.0 s, inference"), "{text}");
        assert!(text.contains("5 events lost"), "{text}");
    }
}
