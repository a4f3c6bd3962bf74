//! The status line and the summary of `run`.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::detect::Detection;
use crate::error::Result;
use crate::sink::{Delivery, Scene, Sink};
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
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counts(&scene.detections);
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
    let system = &snapshot.system;
    if let Some(cpu) = system.process_cpu_percent {
        push(&mut line, format_args!("cpu {cpu:.0} %"));
    }
    if let Some(rss) = system.rss_bytes {
        push(
            &mut line,
            format_args!("{:.0} MiB", rss as f64 / 1_048_576.0),
        );
    }
    if let Some(celsius) = system.temperature_celsius {
        push(&mut line, format_args!("{celsius:.0} °C"));
    }
    if system
        .throttling
        .is_some_and(|flags| flags.throttled || flags.under_voltage)
    {
        line.push_str(" | throttled");
    }
    if snapshot.inferred > 0 {
        push(&mut line, format_args!("{}", seen.text()));
    }
    line
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
        if sink.name == "events" && sink.dropped > 0 {
            let _ = write!(
                text,
                ", {} events lost because their reader was slow",
                sink.dropped
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
        };
        *seen.0.lock().unwrap() = counts(&[found("cat"), found("dog"), found("cat")]);
        let text = line(&telemetry.snapshot(), &seen);
        assert!(text.ends_with("| 2 cat, 1 dog"), "{text}");
        assert!(text.contains("| p50 10.1 ms p99 10.1 ms | age "), "{text}");
        assert!(!text.contains("°C"), "{text}");
        telemetry.set_source(SourceState::NoSignal {
            reason: "unplugged".into(),
        });
        assert!(line(&telemetry.snapshot(), &seen).contains("no signal: unplugged"));
        telemetry.add_sink("events").dropped(5);
        let text = summary(&telemetry.snapshot());
        assert!(text.starts_with("1 frames in 0.0 s, inference"), "{text}");
        assert!(text.contains("5 events lost"), "{text}");
    }
}
