//! `eyas quantize`: a float model becomes a quantized one, with a report of what that cost.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::eval::pair::LabelledArgs;
use super::{print, table, terminal};
use crate::error::{Error, Result};
use crate::model::{self, Metadata, Model, Normalization};
use crate::quantize::codes::{Activations, Granularity};
use crate::quantize::lower::InputType;
use crate::quantize::method::Method;
use crate::quantize::report::Report;
use crate::quantize::scheme::{KeptAs, Mode};
use crate::quantize::{self, Choice, Format, Keep, Pictures, Progress, Request};
use crate::source::{self, Pace, SourceOptions};

/// How often the progress is shown anew.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Characters of the progress bar.
const BAR: usize = 30;

/// Quantizes a float model and tells what that costs.
///
/// The model is run in float on the pictures to see what values its activations take. Ranges, scales and codes follow from that;
/// the quantized model is then run beside the float model on the same pictures. Without -o nothing is written.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The float model, a .tflite or .onnx file
    model: PathBuf,
    /// Pictures to calibrate with: a folder, a video, or whatever `run --source` takes
    #[arg(long, visible_alias = "source", value_name = "DIR|FILE|SOURCE")]
    calibrate: String,
    /// The quantized file to write: .tflite, or .onnx with QuantizeLinear and DequantizeLinear (QDQ)
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Pictures to use at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pictures: u32,
    /// Threads that share the pictures; the result is the same with any number, fewer need less memory [default: the
    /// CPU's cores, at most 4]
    #[arg(long, value_name = "N", value_parser = super::load::parse_threads)]
    threads: Option<usize>,
    /// What is quantized
    #[arg(long, value_enum, default_value_t = ModeArg::Static)]
    mode: ModeArg,
    /// Scales of the weights
    #[arg(long, value_enum, default_value_t = WeightsArg::PerChannel)]
    weights: WeightsArg,
    /// How the range of an activation follows from the values seen
    #[arg(long, value_enum, default_value_t = MethodArg::Minmax)]
    method: MethodArg,
    /// Percent of the values that `--method percentile` keeps
    #[arg(long, value_name = "P", value_parser = parse_percentile)]
    percentile: Option<f64>,
    /// Bits of activations; 16 is more exact, larger, and not run by eyas itself
    #[arg(long, value_name = "8|16", default_value_t = 8, value_parser = clap::value_parser!(u8))]
    bits: u8,
    /// What the quantized model takes as its picture [default: uint8; float32 in .onnx files and where activations stay real]
    #[arg(long, value_enum)]
    input: Option<InputArg>,
    /// Keep the N most sensitive operators in float, or those that make the values of these names
    #[arg(long, value_name = "N|NAME,..", conflicts_with = "keep_int16")]
    keep_float: Option<String>,
    /// The same with 16-bit activations, which eyas itself does not run
    #[arg(long, value_name = "N|NAME,..")]
    keep_int16: Option<String>,
    /// Scale channels between layers so that their weights fill their ranges alike; auto: where it helps
    #[arg(long, value_enum, default_value_t = ChoiceArg::Auto)]
    equalize: ChoiceArg,
    /// Take the mean error of quantized weights off the biases; auto: where it helps
    #[arg(long, value_enum, default_value_t = ChoiceArg::Auto)]
    bias_correction: ChoiceArg,
    /// Mean of the pixels, one value or one a channel: input = (pixel - mean) / std [default: the model's own, else 127.5]
    #[arg(
        long,
        value_name = "M,..",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "std"
    )]
    mean: Vec<f32>,
    /// What the pixels less their mean are divided by
    #[arg(long, value_name = "S,..", value_delimiter = ',', requires = "mean")]
    std: Vec<f32>,
    /// Simulate weights of 16 to 1 bit and activations of 16 and 8 bits too
    #[arg(long)]
    study: bool,
    /// Rank the operators by what quantizing each alone costs
    #[arg(long)]
    rank: bool,
    /// Write the report here: .html, .json, or one of each
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    #[command(flatten)]
    labelled: LabelledArgs,
    /// Write no model that lost more than this, 0 to 1: of the float model's answers on the calibration pictures, or with
    /// --eval of its mAP (.50:.95, or top-1)
    #[arg(long, value_name = "0..1", value_parser = super::load::parse_confidence)]
    max_drop: Option<f32>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    /// Weights and activations
    Static,
    /// Weights; activations while the model runs
    Dynamic,
    /// Weights only, made real before use
    Weights,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WeightsArg {
    PerChannel,
    PerTensor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    /// All values
    Minmax,
    /// Without the outermost
    Percentile,
    /// Least Kullback-Leibler divergence
    Entropy,
    /// Least mean squared error
    Mse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum InputArg {
    Uint8,
    Int8,
    Float32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ChoiceArg {
    Auto,
    On,
    Off,
}

/// What `--method percentile` keeps unless told.
const PERCENTILE: f64 = 99.99;

fn parse_percentile(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if percent > 50.0 && percent <= 100.0 => Ok(percent),
        _ => Err("not a number above 50, at most 100".into()),
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let request = args.request()?;
    args.check_files()?;
    let name = args.model.display().to_string();
    let bytes = std::fs::read(&args.model).map_err(Error::io(format!("read {name}")))?;
    let model = model::load_graph(&bytes, &name)?;
    let stated = (!args.mean.is_empty()).then(|| Normalization {
        mean: args.mean.clone(),
        std: args.std.clone(),
    });
    let (input, normalization) = quantize::input_of(&model, stated)?;
    let float = Model {
        metadata: Metadata {
            normalization: Some(normalization.clone()),
            ..model.metadata.clone()
        },
        ..model.clone()
    };
    let labelled = args.labelled.open(&float)?;
    let options = SourceOptions {
        pace: Pace::Unpaced,
        ..SourceOptions::default()
    };
    let mut source = source::open(&args.calibrate, options)?;
    let mut line = ProgressLine::default();
    let mut show = |work: &str, done: usize, all: usize| line.show(work, done, all);
    let count = args.pictures as usize;
    let pictures = Pictures::collect(
        source.as_mut(),
        &input,
        &normalization,
        count,
        &name,
        &mut Progress(&mut show),
    )?;
    let threads = args.threads.and_then(NonZeroUsize::new);
    let pictures = match threads {
        Some(threads) => pictures.with_threads(threads),
        None => pictures,
    };
    let done = quantize::quantize(
        &model,
        bytes.len() as u64,
        &pictures,
        &request,
        Progress(&mut show),
    );
    terminal::clear_line();
    let mut done = done?;
    if let Some(labelled) = labelled {
        let scores = labelled.compare([&float, &done.judged])?;
        done.report.set_labelled(scores);
    }
    for path in &args.report {
        let text = match is_html(path) {
            true => done.report.to_html(),
            false => done.report.to_json()?,
        };
        write(path, text.as_bytes())?;
    }
    match args.json {
        true => print(&done.report.to_json()?)?,
        false => print(&describe(&done.report))?,
    }
    args.check_drop(&done.report)?;
    match &args.out {
        Some(path) => write(path, &done.file),
        None => Ok(()),
    }
}

impl Args {
    fn request(&self) -> Result<Request> {
        let usage = |text: &str| Err(Error::Usage(text.into()));
        let mode = match (self.mode, self.bits) {
            (ModeArg::Static, 8) => Mode::Static(Activations::Int8),
            (ModeArg::Static, 16) => Mode::Static(Activations::Int16),
            (ModeArg::Dynamic, 8) => Mode::Dynamic,
            (ModeArg::Weights, 8) => Mode::Weights,
            (_, 16) => {
                return usage(
                    "--bits 16 needs --mode static: the other modes leave activations real",
                );
            }
            _ => return usage("--bits takes 8 or 16; --study shows what fewer would cost"),
        };
        if self.percentile.is_some() && self.method != MethodArg::Percentile {
            return usage("--percentile needs --method percentile");
        }
        let (kept, kept_as) = match (&self.keep_float, &self.keep_int16) {
            (Some(kept), _) => (Some(kept), KeptAs::Float),
            (None, kept) => (kept.as_ref(), KeptAs::Int16),
        };
        if self.keep_int16.is_some() && self.mode != ModeArg::Static {
            return usage(
                "--keep-int16 needs --mode static: the other modes leave activations real",
            );
        }
        let format = match &self.out {
            Some(out) if has_ending(out, "onnx") => Format::Onnx,
            _ => Format::Tflite,
        };
        let input = match (self.input, mode) {
            (Some(InputArg::Uint8), _) => InputType::UInt8,
            (None, Mode::Static(Activations::Int8)) if format == Format::Tflite => InputType::UInt8,
            (Some(InputArg::Int8), _) => InputType::Int8,
            (Some(InputArg::Float32) | None, _) => InputType::Float32,
        };
        Ok(Request {
            format,
            mode,
            granularity: match self.weights {
                WeightsArg::PerChannel => Granularity::PerChannel,
                WeightsArg::PerTensor => Granularity::PerTensor,
            },
            method: match self.method {
                MethodArg::Minmax => Method::MinMax,
                MethodArg::Percentile => Method::Percentile(self.percentile.unwrap_or(PERCENTILE)),
                MethodArg::Entropy => Method::Entropy,
                MethodArg::Mse => Method::Mse,
            },
            input,
            keep: kept.map_or(Keep::None, |text| parse_keep(text)),
            kept_as,
            bias_correction: self.bias_correction.into(),
            equalization: self.equalize.into(),
            study: self.study,
            rank: self.rank,
        })
    }

    /// Files that are to be written, refused before hours of work are lost on them.
    fn check_files(&self) -> Result<()> {
        if let Some(report) = self
            .report
            .iter()
            .find(|path| !is_html(path) && !has_ending(path, "json"))
        {
            let name = report.display();
            return Err(Error::Usage(format!(
                "--report {name}: the name must end in .html or .json"
            )));
        }
        let written = self.out.iter().chain(&self.report);
        for path in written {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_some_and(|folder| !folder.is_dir()) {
                let name = path.display();
                return Err(Error::Usage(format!(
                    "{name}: its folder does not exist; make it first"
                )));
            }
            let same = matches!((path.canonicalize(), self.model.canonicalize()), (Ok(a), Ok(b)) if a == b);
            if same {
                let name = path.display();
                return Err(Error::Usage(format!(
                    "{name} is the float model itself; pass another name"
                )));
            }
        }
        match &self.out {
            Some(out) if !has_ending(out, "tflite") && !has_ending(out, "onnx") => {
                Err(Error::Usage(format!(
                    "--out {}: the name must end in .tflite or .onnx, the formats that are written",
                    out.display()
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_drop(&self, report: &Report) -> Result<()> {
        match self.max_drop {
            Some(_) if report.labelled.is_none() && report.compared_nothing() => Err(Error::Model {
                model: report.model.clone(),
                reason: "--max-drop has nothing to go by, as neither model finds anything on the calibration pictures; \
                         nothing is written. Calibrate with pictures of what the model is to find"
                    .into(),
            }),
            Some(most) if report.drop() > f64::from(most) => Err(Error::Model {
                model: report.model.clone(),
                reason: format!(
                    "the quantized model lost {:.4} of the float model's {}, more than --max-drop {most}; nothing is written. \
                     Try --method mse, --weights per-channel, --keep-float 5 or --bits 16",
                    report.drop(),
                    report.dropped()
                ),
            }),
            _ => Ok(()),
        }
    }
}

impl From<ChoiceArg> for Choice {
    fn from(choice: ChoiceArg) -> Self {
        match choice {
            ChoiceArg::Auto => Self::Auto,
            ChoiceArg::On => Self::On,
            ChoiceArg::Off => Self::Off,
        }
    }
}

fn parse_keep(text: &str) -> Keep {
    match text.parse() {
        Ok(count) => Keep::MostSensitive(count),
        Err(_) => Keep::Named(text.split(',').map(str::to_owned).collect()),
    }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension()
        .is_some_and(|own| own.eq_ignore_ascii_case(ending))
}

fn is_html(path: &Path) -> bool {
    has_ending(path, "html")
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.display();
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // What could not be written whole is of no use.
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(Error::io(format!("write {name}")))
}

/// The report in a few lines.
fn describe(report: &Report) -> String {
    let mut text = format!("{}: {}\n", report.model, report.verdict);
    if !report.sensitivity.is_empty() {
        text.push_str("\nmost sensitive operators (SQNR at the outputs when quantized alone)\n");
        let rows = report.sensitivity.iter().take(10);
        let rows: Vec<_> = rows
            .map(|entry| {
                let index = entry.operator.to_string();
                vec![
                    index,
                    entry.op.into(),
                    format!("{:.1} dB", entry.decibels),
                    entry.name.clone(),
                ]
            })
            .collect();
        text.push_str(&table(&rows, &[0, 2]));
    }
    if !report.study.is_empty() {
        text.push_str("\nsimulated sizes of codes\n");
        let heads = [
            "weights",
            "activations",
            "weight bytes",
            "SQNR",
            "agreement",
        ];
        let mut rows = vec![heads.map(String::from).to_vec()];
        rows.extend(report.study.iter().map(|level| {
            vec![
                format!("{} bit", level.weight_bits),
                format!("{} bit", level.activation_bits),
                level.weight_bytes.to_string(),
                format!("{:.1} dB", level.decibels),
                format!("{:.1} %", 100.0 * level.agreement.score),
            ]
        }));
        text.push_str(&table(&rows, &[0, 1, 2, 3, 4]));
    }
    text
}

/// A bar on a terminal; nothing elsewhere.
#[derive(Default)]
struct ProgressLine {
    shown: Option<Instant>,
}

impl ProgressLine {
    fn show(&mut self, work: &str, done: usize, all: usize) {
        let is_due = self
            .shown
            .is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL);
        if is_due && io::stderr().is_terminal() {
            terminal::show_line(&progress_text(work, done, all));
            self.shown = Some(Instant::now());
        }
    }
}

fn progress_text(work: &str, done: usize, all: usize) -> String {
    let filled = (BAR * done / all.max(1)).min(BAR);
    let (filled, rest) = ("#".repeat(filled), "-".repeat(BAR - filled));
    format!("[{filled}{rest}] {work}, {done} of {all}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn args(flags: &[&str]) -> Args {
        let fixed = ["quantize", "m.tflite", "--calibrate", "d"];
        Command::parse_from(fixed.iter().chain(flags)).args
    }

    #[test]
    fn flags_become_a_request() {
        let request = args(&["--method", "percentile", "--keep-float", "3"])
            .request()
            .unwrap();
        assert_eq!(request.method, Method::Percentile(99.99));
        assert_eq!(
            (request.keep, request.kept_as),
            (Keep::MostSensitive(3), KeptAs::Float)
        );
        assert_eq!(request.input, InputType::UInt8);
        let request = args(&["-o", "q.onnx"]).request().unwrap();
        assert_eq!(
            (request.format, request.input),
            (Format::Onnx, InputType::Float32)
        );
        let request = args(&["--mode", "dynamic"]).request().unwrap();
        assert_eq!(
            (request.mode, request.input),
            (Mode::Dynamic, InputType::Float32)
        );
        let request = args(&["--bits", "16", "--keep-int16", "a,b"])
            .request()
            .unwrap();
        assert_eq!(request.mode, Mode::Static(Activations::Int16));
        assert_eq!(request.keep, Keep::Named(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        let cases: [(&[&str], &str); 4] = [
            (&["--bits", "4"], "8 or 16"),
            (&["--bits", "16", "--mode", "weights"], "--mode static"),
            (
                &["--method", "mse", "--percentile", "99"],
                "--method percentile",
            ),
            (&["--mode", "dynamic", "--keep-int16", "2"], "--mode static"),
        ];
        for (flags, expected) in cases {
            let error = args(flags).request().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn files_are_checked_before_the_work() {
        let cases: [(&[&str], &str); 3] = [
            (&["--report", "a.txt"], ".html or .json"),
            (&["-o", "a.pb"], ".tflite or .onnx"),
            (&["-o", "no/such/folder/a.tflite"], "folder"),
        ];
        for (flags, expected) in cases {
            let error = args(flags).check_files().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let mut same = args(&["-o", "tests/golden/tiny_ssd.tflite"]);
        same.model = "tests/golden/tiny_ssd.tflite".into();
        assert!(
            same.check_files()
                .unwrap_err()
                .to_string()
                .contains("itself")
        );
    }

    #[test]
    fn the_bar_fills() {
        assert!(progress_text("calibrating", 0, 4).starts_with("[------"));
        assert!(progress_text("calibrating", 4, 4).contains("#] calibrating, 4 of 4"));
        assert!(progress_text("x", 0, 0).contains("0 of 0"));
    }
}
