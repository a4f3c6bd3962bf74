//! `eyas collect`: pictures for a data set, with the model's boxes to correct.

mod change;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::load::{ModelArgs, Work, load_detector};
use super::{print, terminal};
use crate::dataset::append::{Appender, NewImage};
use crate::dataset::{Form, Object, Rect};
use crate::detect::{Detected, Detection, Detector};
use crate::error::{Error, Result};
use crate::pipeline::{Pipeline, Stop};
use crate::sink::jpeg;
use crate::source::{self, Frame, Masks, Pace, SourceOptions, parse_fps, parse_size};
use crate::telemetry::Telemetry;
use crate::track::Watch;
use change::{Changes, cells};

const EVERY: Every = Every::Time(Duration::from_secs(2));
/// Without `--every`, the least time between pictures that something else asks for.
const PAUSE: Every = Every::Time(Duration::from_secs(1));
/// The share of the picture that has to change.
const CHANGE: f64 = 0.02;

/// Collects pictures from a camera or video into a data set, with the model's boxes to correct
///
/// The data set goes on where there is one in the folder. It opens in LabelImg and CVAT. Ctrl-C ends and leaves it whole.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Where pictures come from, as in `eyas run`
    #[arg(long, value_name = "SOURCE", default_value = "auto")]
    source: String,
    /// Size of raw frames and of the demo scene; what ffmpeg scales videos to; what cameras are asked for
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Frames a second at which files are played and that cameras are asked for, or `max`: none left out
    #[arg(long, value_name = "N", value_parser = parse_fps)]
    fps: Option<Pace>,
    /// Folder of the data set
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Form of the data set: voc, yolo or coco
    #[arg(long, value_name = "FORM", default_value = "voc")]
    format: Form,
    /// Take a picture so often: `2s`, `500ms`, `1min`, or every `10f`th frame; with --on-change and --on-detection, take
    /// none sooner [default: 2s; 1s with those]
    #[arg(long, value_name = "TIME|Nf", value_parser = parse_every)]
    every: Option<Every>,
    /// Take a picture only if 2 % of it are unlike the picture taken last
    #[arg(long)]
    on_change: bool,
    /// Take a picture only if something is found on it
    #[arg(long, conflicts_with = "on_change")]
    on_detection: bool,
    /// Of what is found only this makes a picture be taken; may be given again
    #[arg(long, value_name = "NAME", requires = "on_detection")]
    label: Vec<String>,
    /// End after so many pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// End when so much is written: `500M`, `2G`
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    max_bytes: Option<u64>,
}

/// How often pictures are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Every {
    Time(Duration),
    Frames(u64),
}

/// What makes a picture worth taking, beside the time.
enum Trigger {
    Always,
    Change(Changes),
    /// Of these labels, of any if there are none.
    Detection(Vec<String>),
}

/// Runs until the source ends, a limit is reached or a signal asks to end.
pub(super) fn run(args: &Args) -> Result<()> {
    let loaded = load_detector(&args.model, Work::Live)?;
    let labels = loaded.detector.labels();
    let named = (0..labels.len()).filter(|&id| !labels.is_hole(id));
    let classes: Vec<String> = named.map(|id| labels.name(id).to_string()).collect();
    for label in &args.label {
        if labels.id_of(label).is_none() {
            return Err(Error::Usage(format!(
                "--label {label}: {} has no such class; it has {}",
                loaded.model_name,
                classes.join(", ")
            )));
        }
    }
    let options = SourceOptions {
        size: args.size,
        pace: args.fps.unwrap_or_default(),
        repeat: false,
    };
    let source = source::open(&args.source, options)?;
    let stop = Stop::new();
    end_on_signals(&stop)?;
    let collector = Arc::new(Mutex::new(Collector {
        detector: loaded.detector,
        appender: Appender::open(&args.out, args.format, &classes)?,
        trigger: args.trigger(),
        every: args.every(),
        limits: [args.limit, args.max_bytes],
        stop: stop.clone(),
        last: None,
        taken: Taken::default(),
    }));
    let shared = collector.clone();
    let ended = Pipeline {
        source,
        masks: Masks::default(),
        watch: Watch::default(),
        detect: Box::new(move |frame| lock(&shared).see(frame)),
        sinks: Vec::new(),
        telemetry: Arc::new(Telemetry::default()),
        stop,
        frame_limit: None,
    }
    .run();
    terminal::clear_line();
    let mut collector = lock(&collector);
    let finished = collector.appender.finish();
    print(&format!(
        "{}: {}\n",
        args.out.display(),
        collector.taken.text()
    ))?;
    ended.and(finished)
}

/// What a panic left is still a data set.
fn lock(collector: &Mutex<Collector>) -> MutexGuard<'_, Collector> {
    collector.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first signal ends after the picture at hand, the second at once.
fn end_on_signals(stop: &Stop) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(Error::io("listen for signals"))?;
    let stop = stop.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if stop.is_stopped() {
                    std::process::exit(super::INTERRUPTED);
                }
                stop.stop();
            }
        })
        .map(drop)
        .map_err(Error::io("start the signals thread"))
}

impl Args {
    fn trigger(&self) -> Trigger {
        if self.on_change {
            Trigger::Change(Changes::default())
        } else if self.on_detection {
            Trigger::Detection(self.label.clone())
        } else {
            Trigger::Always
        }
    }

    fn every(&self) -> Every {
        let default = if self.on_change || self.on_detection {
            PAUSE
        } else {
            EVERY
        };
        self.every.unwrap_or(default)
    }
}

/// Decides on frames, and keeps those that are worth it.
struct Collector {
    detector: Detector,
    appender: Appender,
    trigger: Trigger,
    every: Every,
    /// Pictures and bytes.
    limits: [Option<u64>; 2],
    stop: Stop,
    /// When the last picture was captured, and its number.
    last: Option<(Instant, u64)>,
    taken: Taken,
}

/// What has been written.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    pictures: u64,
    objects: u64,
    bytes: u64,
}

impl Taken {
    fn text(&self) -> String {
        format!(
            "{} pictures with {} objects, {:.1} MB",
            self.pictures,
            self.objects,
            self.bytes as f64 / 1e6
        )
    }
}

impl Collector {
    /// Takes the frame if it is time and it shows what is asked for. Nothing is detected where nothing depends on it.
    fn see(&mut self, frame: &Frame) -> Result<Detected> {
        if self.stop.is_stopped() || !self.is_due(frame) {
            return Ok(Detected::default());
        }
        let mut now = None;
        if let Trigger::Change(changes) = &self.trigger {
            let cells = cells(frame);
            if changes.share(&cells) < CHANGE {
                return Ok(Detected::default());
            }
            now = Some(cells);
        }
        let detected = self.detector.detect(frame)?;
        if let Trigger::Detection(labels) = &self.trigger {
            let is_wanted = |found: &Detection| {
                labels.is_empty()
                    || labels
                        .iter()
                        .any(|label| found.label.eq_ignore_ascii_case(label))
            };
            if !detected.detections.iter().any(is_wanted) {
                return Ok(detected);
            }
        }
        self.keep(frame, &detected.detections)?;
        if let (Trigger::Change(changes), Some(cells)) = (&mut self.trigger, now) {
            changes.keep(cells);
        }
        Ok(detected)
    }

    fn is_due(&self, frame: &Frame) -> bool {
        let Some((captured, index)) = self.last else {
            return true;
        };
        match self.every {
            Every::Time(time) => frame.captured.saturating_duration_since(captured) >= time,
            Every::Frames(count) => frame.index.saturating_sub(index) >= count,
        }
    }

    fn keep(&mut self, frame: &Frame, detections: &[Detection]) -> Result<()> {
        let jpeg = jpeg::plain(frame)?;
        let mut objects = Vec::with_capacity(detections.len());
        for detection in detections {
            objects.push(Object {
                class: self.appender.class(&detection.label)?,
                rect: whole_pixels(detection),
                ..Object::default()
            });
        }
        let count = objects.len() as u64;
        let bytes = self.appender.add(NewImage {
            stem: &stem(frame),
            jpeg: &jpeg,
            size: [frame.width as u32, frame.height as u32],
            objects,
        })?;
        self.last = Some((frame.captured, frame.index));
        self.taken.pictures += 1;
        self.taken.objects += count;
        self.taken.bytes += bytes;
        if std::io::stderr().is_terminal() {
            terminal::show_line(&format!("{}; Ctrl-C ends", self.taken.text()));
        }
        let reached = self
            .limits
            .into_iter()
            .zip([self.taken.pictures, self.taken.bytes]);
        if reached
            .into_iter()
            .any(|(limit, now)| limit.is_some_and(|limit| now >= limit))
        {
            self.stop.stop();
        }
        Ok(())
    }
}

/// A detection's box on whole pixels, as one draws them by hand.
fn whole_pixels(detection: &Detection) -> Rect {
    let found = &detection.bounding_box;
    let [left, top, right, bottom] =
        [found.x_min, found.y_min, found.x_max, found.y_max].map(|side| f64::from(side.round()));
    Rect {
        x: left,
        y: top,
        width: right - left,
        height: bottom - top,
    }
}

/// The frame's time and number: `20260101T120000.000Z-000042`.
fn stem(frame: &Frame) -> String {
    let time = humantime::format_rfc3339_millis(frame.timestamp).to_string();
    format!("{}-{:06}", time.replace(['-', ':'], ""), frame.index)
}

/// A time, or a number of frames with `f`.
fn parse_every(text: &str) -> std::result::Result<Every, String> {
    if let Some(count) = text.strip_suffix('f').and_then(|count| count.parse().ok()) {
        return match count {
            0 => Err("not a number of frames above 0".into()),
            count => Ok(Every::Frames(count)),
        };
    }
    match humantime::parse_duration(text) {
        Ok(time) => Ok(Every::Time(time)),
        Err(_) => Err("neither a time like 2s or 500ms nor a number of frames like 10f".into()),
    }
}

/// A number of bytes; `K`, `M`, `G` are powers of 1000.
fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, ""),
    };
    let factor = match unit {
        "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => 1,
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "not a size like 500M or 2G".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_frames_are_told_apart() {
        assert_eq!(parse_every("2s"), Ok(Every::Time(Duration::from_secs(2))));
        assert_eq!(
            parse_every("500ms"),
            Ok(Every::Time(Duration::from_millis(500)))
        );
        assert_eq!(parse_every("10f"), Ok(Every::Frames(10)));
        for wrong in ["", "2", "0f", "-1f", "often"] {
            assert!(parse_every(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("500M"), Ok(500_000_000));
        assert_eq!(parse_bytes("12"), Ok(12));
        for wrong in ["", "M", "0", "1T", "99999999999999G"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
