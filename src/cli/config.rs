//! What `run` is told: flags win over the configuration file, the file over the defaults.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::load::{self, ModelArgs};
use super::reading::ReadingArgs;
use crate::error::{Error, Result};
use crate::source::{Pace, SourceOptions, parse_fps, parse_size};

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
const DEFAULT_SOURCE: &str = "auto";
/// Keys of the configuration file that a reload applies.
const RELOADED: [&str; 11] = [
    "model",
    "labels",
    "confidence",
    "threads",
    "isa",
    "allow-float",
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
    /// Size of raw frames and of the demo scene; what ffmpeg scales videos to; what cameras are asked for
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
    /// Write a line of JSON for each frame to a file, or to stdout with `-`
    #[arg(long, value_name = "-|FILE")]
    events: Option<PathBuf>,
    /// Write annotated pictures of what is found into a folder
    #[arg(long, value_name = "DIR")]
    snapshots: Option<PathBuf>,
    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// TOML file with the flags above as keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The keys of the configuration file: the long flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    model: Option<PathBuf>,
    labels: Option<PathBuf>,
    confidence: Option<f32>,
    threads: Option<usize>,
    isa: Option<String>,
    allow_float: Option<bool>,
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
    events: Option<PathBuf>,
    snapshots: Option<PathBuf>,
    frames: Option<u64>,
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
    pub events: Option<PathBuf>,
    pub snapshots: Option<PathBuf>,
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
        let fps = file.fps.map(|fps| match fps {
            toml::Value::String(text) => text,
            number => number.to_string(),
        });
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
        if file.frames == Some(0) {
            return Err(key.error("frames", "not a whole number above 0"));
        }
        Ok(Self {
            model,
            source: args
                .source
                .or(file.source)
                .unwrap_or_else(|| DEFAULT_SOURCE.into()),
            source_options,
            listen,
            token_file: args.token_file.or(file.token_file),
            events: args.events.or(file.events),
            snapshots: args.snapshots.or(file.snapshots),
            frames: args.frames.or(file.frames),
            file: toml::Table::new(),
        })
    }

    /// Whether lines of JSON go to standard output.
    pub fn events_to_stdout(&self) -> bool {
        self.events.as_deref() == Some(Path::new("-"))
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
    fn the_commented_configuration_holds_every_flag_and_parses_without_its_comments() {
        let commented = include_str!("../../systemd/eyas.toml");
        assert!(parse::<toml::Table>(commented, "").unwrap().is_empty());
        let is_key = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
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
            ("frames = 0", "frames"),
            ("loop = 3", "loop"),
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
