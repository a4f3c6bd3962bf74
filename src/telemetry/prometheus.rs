//! The Prometheus text exposition format, version 0.0.4.

use std::fmt::{Display, Write};

use super::histogram::Histogram;
use super::{Snapshot, SourceState, Stages};

/// All metrics of a run.
pub(super) fn render(snapshot: &Snapshot, stages: &Stages) -> String {
    let mut text = Text::default();
    text.counter(
        "frames_captured_total",
        "Frames that the source delivered.",
        snapshot.captured,
    );
    text.counter(
        "frames_inferred_total",
        "Frames whose detections are known.",
        snapshot.inferred,
    );
    text.counter(
        "frames_dropped_total",
        "Frames that a newer one replaced before their inference.",
        snapshot.dropped,
    );
    text.gauge(
        "frames_per_second",
        "Inferred frames a second over the last five seconds.",
        Some(snapshot.fps),
    );
    text.gauge(
        "source_up",
        "1 while the source delivers frames, 0 while there is no signal or it has ended.",
        Some(u8::from(snapshot.source == SourceState::Live)),
    );
    text.gauge(
        "frame_age_seconds",
        "Time since the frame inferred last was captured.",
        snapshot.age_seconds,
    );
    text.gauge(
        "governor_duty_ratio",
        "Share of the time that detection may take; less than 1 while the machine is too hot.",
        Some(f64::from(snapshot.duty_percent) / 100.0),
    );
    text.gauge(
        "uptime_seconds",
        "Time since the run started.",
        Some(snapshot.uptime_seconds),
    );
    text.head(
        "stage_duration_seconds",
        "histogram",
        "Latency of each stage; age is from capture to detections.",
    );
    for (stage, histogram) in [
        ("age", &stages.age),
        ("preprocess", &stages.preprocess),
        ("inference", &stages.inference),
        ("decode", &stages.decode),
    ] {
        text.histogram(stage, histogram);
    }
    objects(&mut text, snapshot);
    sinks(&mut text, snapshot);
    gpio(&mut text, snapshot);
    mqtt(&mut text, snapshot);
    system(&mut text, snapshot);
    text.0
}

fn objects(text: &mut Text, snapshot: &Snapshot) {
    let objects = &snapshot.objects;
    if !objects.tracks.is_empty() {
        text.head("tracked_objects", "gauge", "Objects that are followed.");
        for count in &objects.tracks {
            text.labelled("tracked_objects", &[("label", &count.label)], count.now);
        }
        text.head("tracks_total", "counter", "Objects followed so far.");
        for count in &objects.tracks {
            text.labelled("tracks_total", &[("label", &count.label)], count.total);
        }
    }
    if !objects.zones.is_empty() {
        text.head("zone_objects", "gauge", "Objects in a zone.");
        for count in &objects.zones {
            let labels = [("zone", &*count.zone), ("label", &*count.label)];
            text.labelled("zone_objects", &labels, count.now);
        }
        text.head(
            "zone_entries_total",
            "counter",
            "Times that an object has come into a zone.",
        );
        for count in &objects.zones {
            let labels = [("zone", &*count.zone), ("label", &*count.label)];
            text.labelled("zone_entries_total", &labels, count.total);
        }
    }
}

fn sinks(text: &mut Text, snapshot: &Snapshot) {
    if snapshot.sinks.is_empty() {
        return;
    }
    text.head("sink_scenes_total", "counter", "Scenes that a sink took.");
    for sink in &snapshot.sinks {
        text.labelled("sink_scenes_total", &[("sink", &sink.name)], sink.consumed);
    }
    text.head(
        "sink_dropped_total",
        "counter",
        "Scenes that a slow sink skipped.",
    );
    for sink in &snapshot.sinks {
        text.labelled("sink_dropped_total", &[("sink", &sink.name)], sink.dropped);
    }
    text.head(
        "sink_errors_total",
        "counter",
        "Scenes on which a sink failed.",
    );
    for sink in &snapshot.sinks {
        text.labelled("sink_errors_total", &[("sink", &sink.name)], sink.errors);
    }
}

fn gpio(text: &mut Text, snapshot: &Snapshot) {
    let Some(gpio) = &snapshot.gpio else {
        return;
    };
    text.gauge(
        "gpio_up",
        "1 if the pins that were asked for are driven.",
        Some(u8::from(gpio.error.is_none())),
    );
    if gpio.outputs.is_empty() {
        return;
    }
    text.head(
        "gpio_active",
        "gauge",
        "1 while the label keeps the pin on.",
    );
    for output in &gpio.outputs {
        let pin = output.pin.to_string();
        text.labelled(
            "gpio_active",
            &[("pin", &pin), ("label", &output.label)],
            u8::from(output.active),
        );
    }
}

fn mqtt(text: &mut Text, snapshot: &Snapshot) {
    let Some(mqtt) = &snapshot.mqtt else {
        return;
    };
    text.gauge(
        "mqtt_up",
        "1 while the MQTT broker is connected.",
        Some(u8::from(mqtt.is_connected())),
    );
    text.counter(
        "mqtt_connections_total",
        "How often the MQTT broker has been connected.",
        mqtt.connections,
    );
    text.counter(
        "mqtt_published_total",
        "Messages sent to the MQTT broker.",
        mqtt.published,
    );
    text.counter(
        "mqtt_dropped_total",
        "Events given up because too many waited for the MQTT broker.",
        mqtt.dropped,
    );
}

fn system(text: &mut Text, snapshot: &Snapshot) {
    let system = &snapshot.system;
    let ratio = |percent: Option<f64>| percent.map(|percent| percent / 100.0);
    text.gauge(
        "process_cpu_ratio",
        "CPU use of the process; 1 is one core.",
        ratio(system.process_cpu_percent),
    );
    text.gauge(
        "process_resident_memory_bytes",
        "Resident memory of the process.",
        system.rss_bytes,
    );
    text.gauge(
        "machine_cpu_ratio",
        "CPU use of the machine; 1 is all cores.",
        ratio(system.cpu_percent),
    );
    text.gauge(
        "machine_memory_bytes",
        "Memory of the machine.",
        system.memory_total_bytes,
    );
    text.gauge(
        "machine_memory_available_bytes",
        "Memory that programs can still get.",
        system.memory_available_bytes,
    );
    text.gauge(
        "temperature_celsius",
        "Temperature of the processor.",
        system.temperature_celsius,
    );
    if let Some(bytes) = system.written_bytes {
        text.counter(
            "process_written_bytes_total",
            "Bytes that the process has had written to disks.",
            bytes,
        );
    }
    let Some(flags) = system.throttling else {
        return;
    };
    for (name, help, flags) in [
        (
            "throttled",
            "1 while the Raspberry Pi's firmware reports the reason.",
            flags.now,
        ),
        (
            "throttled_since_boot",
            "1 if the firmware has reported the reason since the machine was started.",
            flags.since_boot,
        ),
    ] {
        text.head(name, "gauge", help);
        for (reason, set) in flags.named() {
            text.labelled(name, &[("reason", reason)], u8::from(set));
        }
    }
}

/// The value of a label as it stands between quotes.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing into a string cannot fail");
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP eyas_{name} {help}"));
        self.line(format_args!("# TYPE eyas_{name} {kind}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(format_args!("eyas_{name} {value}"));
    }

    /// Left out when there is no value.
    fn gauge(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.head(name, "gauge", help);
            self.line(format_args!("eyas_{name} {value}"));
        }
    }

    fn labelled(&mut self, name: &str, labels: &[(&str, &str)], number: impl Display) {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        self.line(format_args!("eyas_{name}{{{}}} {number}", pairs.join(",")));
    }

    fn histogram(&mut self, stage: &str, histogram: &Histogram) {
        let name = "eyas_stage_duration_seconds";
        for (bound, count) in histogram.cumulative() {
            self.line(format_args!(
                "{name}_bucket{{stage=\"{stage}\",le=\"{bound}\"}} {count}"
            ));
        }
        let count = histogram.count();
        self.line(format_args!(
            "{name}_bucket{{stage=\"{stage}\",le=\"+Inf\"}} {count}"
        ));
        self.line(format_args!(
            "{name}_sum{{stage=\"{stage}\"}} {}",
            histogram.sum().as_secs_f64()
        ));
        self.line(format_args!("{name}_count{{stage=\"{stage}\"}} {count}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::super::broker::BrokerState;
    use super::super::objects::{ObjectCounts, TrackCount, ZoneCount};
    use super::super::system::{SystemReading, Throttling};
    use super::super::{GpioOutput, GpioSnapshot, Telemetry};
    use super::render;

    /// Samples by name and labels. Panics where the text breaks the format.
    fn parse(text: &str) -> HashMap<String, f64> {
        let (mut types, mut samples) = (HashMap::new(), HashMap::new());
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                let (name, kind) = head.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(types.insert(name, kind).is_none(), "twice: {line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(name.starts_with("eyas_"), "{line}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{line}"
            );
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix).filter(|f| types.contains_key(f)))
                .unwrap_or(name);
            assert!(types.contains_key(family), "no TYPE before {line}");
            assert!(
                samples
                    .insert(series.to_string(), value.parse().unwrap())
                    .is_none(),
                "{line}"
            );
        }
        samples
    }

    #[test]
    fn text_is_well_formed_and_true() {
        let telemetry = Telemetry::default();
        telemetry.sample_system();
        telemetry.add_sink("odd\"name").dropped(2);
        telemetry.frame_captured();
        telemetry
            .stages
            .inference
            .record(Duration::from_micros(300));
        telemetry.stages.inference.record(Duration::from_secs(60));
        telemetry.frame_inferred(Instant::now());
        let samples = parse(&telemetry.prometheus());
        assert_eq!(samples["eyas_frames_captured_total"], 1.0);
        assert_eq!(samples["eyas_source_up"], 0.0);
        assert_eq!(samples[r#"eyas_sink_dropped_total{sink="odd\"name"}"#], 2.0);
        let bucket = |le| {
            samples
                [&format!("eyas_stage_duration_seconds_bucket{{stage=\"inference\",le=\"{le}\"}}")]
        };
        assert_eq!(
            (bucket("0.000256"), bucket("0.000512"), bucket("+Inf")),
            (0.0, 1.0, 2.0)
        );
        assert_eq!(
            samples["eyas_stage_duration_seconds_count{stage=\"inference\"}"],
            2.0
        );
    }

    #[test]
    fn heat_and_its_consequences_are_told() {
        let root = tempfile::tempdir().unwrap();
        let firmware = root.path().join("sys/devices/platform/soc/soc:firmware");
        std::fs::create_dir_all(&firmware).unwrap();
        std::fs::write(firmware.join("get_throttled"), "50004").unwrap();
        let telemetry = Telemetry::at(root.path());
        telemetry.sample_system();
        telemetry.set_duty(75);
        let samples = parse(&telemetry.prometheus());
        assert_eq!(samples["eyas_governor_duty_ratio"], 0.75);
        let flag =
            |name: &str, reason: &str| samples[&format!("eyas_{name}{{reason=\"{reason}\"}}")];
        assert_eq!(flag("throttled", "throttled"), 1.0);
        assert_eq!(flag("throttled", "under_voltage"), 0.0);
        assert_eq!(flag("throttled_since_boot", "under_voltage"), 1.0);
        assert_eq!(flag("throttled_since_boot", "frequency_capped"), 0.0);
    }

    #[test]
    fn pins_are_told_by_number_and_label() {
        let telemetry = Telemetry::default();
        let output = |label: &str, active| GpioOutput {
            pin: 17,
            label: label.into(),
            active,
        };
        telemetry.set_gpio(GpioSnapshot {
            error: None,
            outputs: vec![output("person", true), output("dog", false)],
        });
        let samples = parse(&telemetry.prometheus());
        assert_eq!(samples[r#"eyas_gpio_active{pin="17",label="person"}"#], 1.0);
        assert_eq!(samples[r#"eyas_gpio_active{pin="17",label="dog"}"#], 0.0);
        assert_eq!(samples["eyas_gpio_up"], 1.0);
    }

    #[test]
    fn the_broker_is_told_of_where_there_is_one() {
        let telemetry = Telemetry::default();
        let broker = telemetry.broker("mqtt://localhost:1883");
        let metric = |name: &str| parse(&telemetry.prometheus())[&format!("eyas_mqtt_{name}")];
        assert_eq!(metric("up"), 0.0);
        assert!(broker.set(BrokerState::Connected));
        assert!(!broker.set(BrokerState::Connected));
        broker.published();
        broker.dropped(3);
        let all = [
            "up",
            "connections_total",
            "published_total",
            "dropped_total",
        ]
        .map(metric);
        assert_eq!(all, [1.0, 2.0, 1.0, 3.0]);
        let reason = || "refused".into();
        assert!(broker.set(BrokerState::Disconnected { reason: reason() }));
        assert_eq!(metric("up"), 0.0);
        let json = serde_json::to_value(telemetry.snapshot()).unwrap();
        assert_eq!(json["mqtt"]["state"], "disconnected");
        assert_eq!(json["mqtt"]["reason"], "refused");
    }

    /// All there can be, without values that mean something.
    fn everything() -> String {
        let telemetry = Telemetry::default();
        telemetry.add_sink("web");
        telemetry.broker("mqtt://localhost:1883");
        telemetry.frame_inferred(Instant::now());
        let (label, zone): (Arc<str>, Arc<str>) = ("cat".into(), "sofa".into());
        let mut snapshot = telemetry.snapshot();
        snapshot.objects = ObjectCounts {
            tracks: vec![TrackCount {
                label: label.clone(),
                now: 1,
                total: 1,
            }],
            zones: vec![ZoneCount {
                zone,
                label,
                now: 1,
                total: 1,
            }],
        };
        snapshot.system = SystemReading {
            process_cpu_percent: Some(0.0),
            rss_bytes: Some(0),
            peak_rss_bytes: Some(0),
            cpu_percent: Some(0.0),
            memory_total_bytes: Some(0),
            memory_available_bytes: Some(0),
            written_bytes: Some(0),
            temperature_celsius: Some(0.0),
            throttling: Some(Throttling::from_bits(0)),
        };
        render(&snapshot, &telemetry.stages)
    }

    #[test]
    fn the_files_for_a_fleet_name_metrics_that_exist() {
        let samples = parse(&everything());
        let names: BTreeSet<_> = samples
            .keys()
            .filter_map(|key| key.split('{').next())
            .collect();
        for (file, text) in [
            (
                "dashboard.json",
                include_str!("../../docs/fleet/dashboard.json"),
            ),
            ("alerts.yml", include_str!("../../docs/fleet/alerts.yml")),
        ] {
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let named: BTreeSet<_> = words.filter(|word| word.starts_with("eyas_")).collect();
            assert!(named.len() > 5, "{file}: {named:?}");
            let unknown: Vec<_> = named.difference(&names).collect();
            assert!(unknown.is_empty(), "{file}: {unknown:?} of {names:?}");
        }
    }

    #[test]
    fn objects_are_counted_by_label_and_zone() {
        let telemetry = Telemetry::default();
        let count = |label: &str, now, total| TrackCount {
            label: label.into(),
            now,
            total,
        };
        telemetry.set_objects(ObjectCounts {
            tracks: vec![count("car", 0, 7), count("stop \"sign\"", 1, 1)],
            zones: vec![ZoneCount {
                zone: "drive".into(),
                label: "car".into(),
                now: 2,
                total: 5,
            }],
        });
        let samples = parse(&telemetry.prometheus());
        assert_eq!(samples["eyas_tracked_objects{label=\"car\"}"], 0.0);
        assert_eq!(samples["eyas_tracks_total{label=\"car\"}"], 7.0);
        assert_eq!(samples[r#"eyas_tracks_total{label="stop \"sign\""}"#], 1.0);
        let zone = |name: &str| samples[&format!("eyas_{name}{{zone=\"drive\",label=\"car\"}}")];
        assert_eq!(
            (zone("zone_objects"), zone("zone_entries_total")),
            (2.0, 5.0)
        );
    }

    #[test]
    fn absent_readings_are_absent() {
        let text = Telemetry::default().prometheus();
        assert!(!text.contains("eyas_mqtt"));
        assert!(!text.contains("eyas_temperature_celsius"));
        assert!(!text.contains("eyas_frame_age_seconds"));
        parse(&text);
    }
}
