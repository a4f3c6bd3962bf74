//! What `run` is told: flags win over the configuration file, the file over the defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::load::{self, ModelArgs};
use super::mqtt::{MqttArgs, parse_discovery};
use super::places::{ClassTable, MaskTable, Places, ZoneTable};
use super::reading::ReadingArgs;
use crate::error::{Error, Result};
use crate::sink::gpio;
use crate::sink::mqtt::{BrokerUrl, parse_name};
use crate::source::{Pace, SourceOptions, parse_fps, parse_size};

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
const DEFAULT_SOURCE: &str = "auto";
/// Keys of the configuration file that a reload applies.
const RELOADED: [&str; 15] = [
    "model",
    "labels",
    "confidence",
    "threads",
    "isa",
    "zone",
    "mask",
    "class",
    "allow-float",
    "agnostic-nms",
    "anchors",
    "scores",
    "box-scales",
    "mean",
    "std",
];

/// Watches a source and shows what is found.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,
    /// v4l2:/dev/video0, csi[:N], picture, folder, video, URL, `-` for stdin, raw:FORMAT[:FILE], demo, or auto: the first
    /// camera, else demo [default: auto]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Size of raw frames and of the demo scene; what ffmpeg scales videos to; what cameras are asked for; JPEG frames that
    /// hold twice as much or more are decoded at 1/2, 1/4 or 1/8, no smaller than this
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Frames a second at which files and the demo scene are played and that cameras are asked for, or `max`
    #[arg(long, value_name = "N", value_parser = parse_fps)]
    fps: Option<Pace>,
    /// Start files again at their end
    #[arg(long = "loop")]
    repeat: bool,
    /// Address and port of the live page; beyond this machine it asks for a token [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen, conflicts_with = "no_listen")]
    listen: Option<SocketAddr>,
    /// Serve no live page
    #[arg(long)]
    no_listen: bool,
    /// File with the token that the live page asks for, on this machine too [default: the systemd credential
    /// eyas-token; else none on this machine, and a new one at each start for an address beyond it]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Show the picture in a window of this machine's desktop; q or Esc ends, f fills the screen
    #[arg(long)]
    display: bool,
    /// Write a line of JSON for each frame to a file, or to stdout with `-`
    #[arg(long, value_name = "-|FILE")]
    events: Option<PathBuf>,
    /// Write a line of JSON for each event of a track (new, update, end; enter, leave, dwell of a zone) to a file, or to
    /// stdout with `-`
    #[arg(long, value_name = "-|FILE", conflicts_with = "no_track")]
    track_events: Option<PathBuf>,
    /// Do not follow objects: no ids, no events, no counts
    #[arg(long)]
    no_track: bool,
    /// Write annotated pictures of what is found into a folder
    #[arg(long, value_name = "DIR")]
    snapshots: Option<PathBuf>,
    /// Switch a pin (BCM number) on while a label is seen, or with `any` anything, and so long after it [default: hold=1s,
    /// active=high]. May be given several times
    #[arg(long, value_name = "LABEL=PIN[,hold=2s][,active=low]", value_parser = parse_rule)]
    gpio: Vec<gpio::Rule>,
    /// Pin (BCM number) of an LED that flashes with inferred frames and blinks slowly without a signal
    #[arg(long, value_name = "PIN[,active=low]", value_parser = parse_output)]
    status_led: Option<gpio::Output>,
    #[command(flatten)]
    mqtt: MqttArgs,
    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// TOML file with the flags above as keys, and with zones, masks and rules for classes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The keys of the configuration file: the long flags, and the tables of [`Places`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    model: Option<PathBuf>,
    labels: Option<PathBuf>,
    confidence: Option<f32>,
    threads: Option<usize>,
    isa: Option<String>,
    allow_float: Option<bool>,
    agnostic_nms: Option<bool>,
    anchors: Option<PathBuf>,
    scores: Option<String>,
    box_scales: Option<String>,
    mean: Option<String>,
    std: Option<String>,
    source: Option<String>,
    size: Option<String>,
    fps: Option<toml::Value>,
    #[serde(rename = "loop")]
    repeat: Option<bool>,
    listen: Option<String>,
    no_listen: Option<bool>,
    token_file: Option<PathBuf>,
    display: Option<bool>,
    events: Option<PathBuf>,
    track_events: Option<PathBuf>,
    no_track: Option<bool>,
    snapshots: Option<PathBuf>,
    gpio: Option<Vec<String>>,
    status_led: Option<toml::Value>,
    mqtt: Option<String>,
    mqtt_name: Option<String>,
    mqtt_password_file: Option<PathBuf>,
    mqtt_ca: Option<PathBuf>,
    mqtt_discovery: Option<String>,
    frames: Option<u64>,
    #[serde(default)]
    zone: Vec<ZoneTable>,
    #[serde(default)]
    mask: Vec<MaskTable>,
    #[serde(default)]
    class: BTreeMap<String, ClassTable>,
}

/// What `run` does, all said.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub model: ModelArgs,
    pub source: String,
    pub source_options: SourceOptions,
    /// `None`: no live page.
    pub listen: Option<SocketAddr>,
    pub token_file: Option<PathBuf>,
    pub display: bool,
    pub events: Option<PathBuf>,
    /// Whether objects are followed.
    pub track: bool,
    pub track_events: Option<PathBuf>,
    pub places: Places,
    pub snapshots: Option<PathBuf>,
    pub gpio: Vec<gpio::Rule>,
    pub status_led: Option<gpio::Output>,
    pub mqtt: MqttArgs,
    pub frames: Option<u64>,
    /// The configuration file as it was read.
    file: toml::Table,
}

impl Settings {
    /// Reads the configuration file if one is named.
    pub fn resolve(args: Args) -> Result<Self> {
        let Some(path) = args.config.clone() else {
            return Self::merge(args, File::default(), "");
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(Error::io(format!("read {name}")))?;
        let mut settings = Self::merge(args, parse(&text, &name)?, &name)?;
        settings.file = parse(&text, &name)?;
        Ok(settings)
    }

    /// Keys of the configuration file that `newer` has otherwise and a reload does not apply.
    pub fn changes_for_a_restart(&self, newer: &Self) -> Vec<String> {
        let keys: BTreeSet<_> = self.file.keys().chain(newer.file.keys()).collect();
        keys.into_iter()
            .filter(|key| !RELOADED.contains(&key.as_str()))
            .filter(|&key| self.file.get(key) != newer.file.get(key))
            .cloned()
            .collect()
    }

    fn merge(args: Args, file: File, name: &str) -> Result<Self> {
        let key = Key(name);
        let fps = file.fps.map(number_or_text);
        let given = args.model.reading;
        let model = ModelArgs {
            model: args.model.model.or(file.model),
            labels: args.model.labels.or(file.labels),
            confidence: args.model.confidence.or(key.parsed(
                "confidence",
                file.confidence.map(|number| number.to_string()),
                load::parse_confidence,
            )?),
            threads: args.model.threads.or(key.parsed(
                "threads",
                file.threads.map(|number| number.to_string()),
                load::parse_threads,
            )?),
            isa: args
                .model
                .isa
                .or(key.parsed("isa", file.isa, load::parse_isa)?),
            allow_float: args.model.allow_float || file.allow_float.unwrap_or(false),
            agnostic_nms: args.model.agnostic_nms || file.agnostic_nms.unwrap_or(false),
            reading: ReadingArgs {
                anchors: given.anchors.or(file.anchors),
                scores: given
                    .scores
                    .or(key.parsed("scores", file.scores, str::parse)?),
                box_scales: given.box_scales.or(key.parsed(
                    "box-scales",
                    file.box_scales,
                    str::parse,
                )?),
                mean: given.mean.or(key.parsed("mean", file.mean, str::parse)?),
                std: given.std.or(key.parsed("std", file.std, str::parse)?),
            },
        };
        let source_options = SourceOptions {
            size: args.size.or(key.parsed("size", file.size, parse_size)?),
            pace: args
                .fps
                .or(key.parsed("fps", fps, parse_fps)?)
                .unwrap_or_default(),
            repeat: args.repeat || file.repeat.unwrap_or(false),
        };
        let file_listen = key.parsed("listen", file.listen, parse_listen)?;
        let silent = args.no_listen || (args.listen.is_none() && file.no_listen == Some(true));
        let default = || parse_listen(DEFAULT_LISTEN).map_err(Error::Internal);
        let listen = match args.listen.or(file_listen) {
            _ if silent => None,
            Some(listen) => Some(listen),
            None => Some(default()?),
        };
        let file_mqtt = MqttArgs {
            mqtt: key.parsed("mqtt", file.mqtt, BrokerUrl::parse)?,
            mqtt_name: key.parsed("mqtt-name", file.mqtt_name, parse_name)?,
            mqtt_password_file: file.mqtt_password_file,
            mqtt_ca: file.mqtt_ca,
            mqtt_discovery: key.parsed("mqtt-discovery", file.mqtt_discovery, parse_discovery)?,
        };
        if file.frames == Some(0) {
            return Err(key.error("frames", "not a whole number above 0"));
        }
        let mut gpio = args.gpio;
        if gpio.is_empty() {
            for text in file.gpio.unwrap_or_default() {
                gpio.extend(key.parsed("gpio", Some(text), parse_rule)?);
            }
        }
        let file_led = file.status_led.map(number_or_text);
        let status_led = args
            .status_led
            .or(key.parsed("status-led", file_led, parse_output)?);
        gpio::check(&gpio, status_led).map_err(|reason| Error::Usage(format!("gpio: {reason}")))?;
        let file_follows = file.no_track != Some(true) || args.track_events.is_some();
        let track = file_follows && !args.no_track;
        let track_events = args.track_events.or(file.track_events);
        Ok(Self {
            model,
            source: args
                .source
                .or(file.source)
                .unwrap_or_else(|| DEFAULT_SOURCE.into()),
            source_options,
            listen,
            token_file: args.token_file.or(file.token_file),
            display: args.display || file.display.unwrap_or(false),
            events: args.events.or(file.events),
            track,
            track_events: track_events.filter(|_| track),
            places: Places::new(name, file.zone, file.mask, file.class)?,
            snapshots: args.snapshots.or(file.snapshots),
            gpio,
            status_led,
            mqtt: args.mqtt.or(file_mqtt),
            frames: args.frames.or(file.frames),
            file: toml::Table::new(),
        })
    }

    /// Whether lines of JSON go to standard output.
    pub fn events_to_stdout(&self) -> bool {
        let targets = [&self.events, &self.track_events];
        targets
            .into_iter()
            .any(|target| target.as_deref() == Some(Path::new("-")))
    }
}

/// A value that may be written with or without quotes.
fn number_or_text(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        number => number.to_string(),
    }
}

fn parse<T: DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    toml::from_str(text)
        .map_err(|error| Error::Usage(format!("{name}: {}", error.to_string().trim_end())))
}

/// Names the file and the key in errors.
struct Key<'a>(&'a str);

impl Key<'_> {
    fn error(&self, key: &str, reason: &str) -> Error {
        Error::Usage(format!("{}: {key}: {reason}", self.0))
    }

    fn parsed<T>(
        &self,
        key: &str,
        value: Option<String>,
        parse: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<Option<T>> {
        value
            .map(|text| parse(&text).map_err(|reason| self.error(key, &reason)))
            .transpose()
    }
}

/// `ADDR:PORT`; `localhost` stands for 127.0.0.1.
fn parse_listen(text: &str) -> std::result::Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.into(),
    };
    numeric
        .parse()
        .map_err(|_| "not an address and port like 127.0.0.1:8080 or [::1]:8080".into())
}

fn parse_rule(text: &str) -> std::result::Result<gpio::Rule, String> {
    text.parse()
}

fn parse_output(text: &str) -> std::result::Result<gpio::Output, String> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn settings(flags: &[&str], toml: &str) -> Result<Settings> {
        let args = Cli::try_parse_from(["eyas"].iter().chain(flags))
            .unwrap()
            .args;
        Settings::merge(args, parse(toml, "eyas.toml")?, "eyas.toml")
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let toml = "model = 'a.tflite'\nconfidence = 0.7\nsource = 'x.mp4'\nsize = '64x48'\nfps = 5\nloop = true\n\
                    listen = '127.0.0.1:1'\nframes = 3\nthreads = 2";
        let found = settings(
            &["-c", "0.2", "--listen", "localhost:2", "--frames", "9"],
            toml,
        )
        .unwrap();
        assert_eq!(found.model.confidence, Some(0.2));
        assert_eq!(found.model.model, Some("a.tflite".into()));
        assert_eq!(found.model.threads, Some(2));
        assert_eq!(found.source, "x.mp4");
        assert_eq!(found.source_options.size, Some([64, 48]));
        assert_eq!(found.source_options.pace, Pace::Fps(5.0));
        assert!(found.source_options.repeat);
        assert_eq!(found.listen.unwrap().port(), 2);
        assert_eq!(found.frames, Some(9));
        let found = settings(&[], "").unwrap();
        assert_eq!(found.source, "auto");
        assert_eq!(found.listen, Some("127.0.0.1:8080".parse().unwrap()));
    }

    #[test]
    fn no_listen_silences_the_file_and_listen_outvotes_its_silence() {
        let listen = |flags: &[&str], toml| settings(flags, toml).unwrap().listen;
        assert_eq!(listen(&["--no-listen"], "listen = '127.0.0.1:1'"), None);
        assert_eq!(listen(&[], "no-listen = true"), None);
        assert!(listen(&["--listen", "[::1]:0"], "no-listen = true").is_some());
    }

    #[test]
    fn pins_of_the_flags_replace_those_of_the_file() {
        let toml = "gpio = ['cat=17', 'dog=4,hold=2s']\nstatus-led = 22";
        let found = settings(&[], toml).unwrap();
        let pins: Vec<u8> = found.gpio.iter().map(|rule| rule.output.pin).collect();
        assert_eq!(pins, [17, 4]);
        assert_eq!(found.status_led.map(|led| led.pin), Some(22));
        let flags = [
            "--gpio",
            "cow=5",
            "--gpio",
            "any=6",
            "--status-led",
            "7,active=low",
        ];
        let found = settings(&flags, toml).unwrap();
        let pins: Vec<u8> = found.gpio.iter().map(|rule| rule.output.pin).collect();
        assert_eq!(pins, [5, 6]);
        assert_eq!(found.status_led.map(|led| led.pin), Some(7));
        let error = settings(&["--gpio", "cow=22"], toml).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("status LED"), "{error}");
    }

    #[test]
    fn no_track_silences_the_file_and_track_events_outvotes_its_silence() {
        let track = |flags: &[&str], toml| {
            let found = settings(flags, toml).unwrap();
            (found.track, found.track_events)
        };
        assert_eq!(track(&[], ""), (true, None));
        let file = "track-events = 'a'";
        assert_eq!(track(&[], file), (true, Some("a".into())));
        assert_eq!(track(&["--no-track"], file), (false, None));
        let silent = "no-track = true\ntrack-events = 'a'";
        assert_eq!(track(&[], silent), (false, None));
        let asked = track(&["--track-events", "-"], silent);
        assert_eq!(asked, (true, Some("-".into())));
    }

    #[test]
    fn the_commented_configuration_holds_every_flag_and_parses_without_its_comments() {
        let commented = include_str!("../../systemd/eyas.toml");
        assert!(parse::<toml::Table>(commented, "").unwrap().is_empty());
        let is_key = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
        let keys = commented.lines().filter_map(|line| line.strip_prefix('#'));
        let example = keys.filter(is_key).collect::<Vec<_>>().join("\n");
        settings(&[], &example).unwrap();
        let table: toml::Table = parse(&example, "").unwrap();
        let command = Cli::command();
        let mut flags: Vec<_> = command
            .get_arguments()
            .filter_map(|flag| flag.get_long())
            .collect();
        flags.retain(|flag| *flag != "config");
        flags.sort_unstable();
        let mut keys: Vec<_> = table.keys().map(String::as_str).collect();
        for table in ["class", "mask", "zone"] {
            let at = keys.iter().position(|key| *key == table);
            keys.swap_remove(at.expect(table));
        }
        keys.sort_unstable();
        assert_eq!(keys, flags);
    }

    #[test]
    fn changes_beyond_a_reload_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eyas.toml");
        let resolve = |toml: &str| {
            std::fs::write(&path, toml).unwrap();
            let args = Args {
                config: Some(path.clone()),
                ..Args::default()
            };
            Settings::resolve(args).unwrap()
        };
        let old = resolve("model = 'a.tflite'\nsource = 'x.mp4'\nframes = 3\nfps = 5");
        let new = resolve("model = 'b.tflite'\nsource = 'y.mp4'\nconfidence = 0.5\nfps = 5");
        assert_eq!(old.changes_for_a_restart(&new), ["frames", "source"]);
        assert!(old.changes_for_a_restart(&old).is_empty());
    }

    #[test]
    fn wrong_keys_and_values_are_named() {
        for (toml, word) in [
            ("modle = 'x'", "modle"),
            ("confidence = 2", "confidence"),
            ("size = '0x4'", "size"),
            ("fps = 'quick'", "fps"),
            ("listen = 'here'", "listen"),
            ("mqtt = 'localhost'", "mqtt"),
            ("mqtt-name = 'a b'", "mqtt-name"),
            ("frames = 0", "frames"),
            ("loop = 3", "loop"),
            ("gpio = 'cat=17'", "gpio"),
            ("gpio = ['cat=99']", "gpio: \"99\""),
            ("status-led = 99", "status-led"),
            ("[[zone]]\nname = 'a'\npolygon = [[0, 0]]", "zone 1"),
            ("[[zone]]\nname = 'a'\nshape = []", "shape"),
            ("[[zone]]\nname = 'a'\nkind = 'b'\npolygon = []", "kind"),
            ("[[mask]]\npolygon = [[0, 0, 0]]", "polygon"),
            ("[class.cat]\nminsize = 1", "minsize"),
        ] {
            let error = settings(&[], toml).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(
                text.starts_with("eyas.toml: ") && text.contains(word),
                "{text}"
            );
        }
    }
}
