//! `eyas bench`: how fast a model runs.

mod requests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{load, print, table};
use crate::engine::{Engine, Options, StepInfo};
use crate::error::Result;
use crate::kernels::Isa;
use crate::telemetry::system::peak_rss_bytes;
use crate::tensor::{DType, TensorData, TensorInfo};

const WARM_UP_RUNS: usize = 3;
const WARM_UP_TIME: Duration = Duration::from_millis(300);
const DEFAULT_SECONDS: f64 = 3.0;
const MIN_RUNS: usize = 5;
const MAX_RUNS: usize = 1_000_000;
const PROFILED_RUNS: usize = 21;

/// Measures how fast a model runs, on arbitrary input.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model file, or a name from `eyas models list` [default: codes, the built-in model]
    #[arg(short, long, value_name = "FILE|NAME")]
    model: Option<PathBuf>,
    /// Threads that one inference may use
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = load::parse_threads)]
    threads: usize,
    /// Instruction set to use at most: scalar, neon, neon_dot, avx2, avx512_vnni
    #[arg(long, value_name = "NAME", value_parser = load::parse_isa)]
    isa: Option<Isa>,
    /// Run a quantized model with float weights if it has operators without an integer kernel
    #[arg(long)]
    allow_float: bool,
    /// Runs to measure [default: as many as fit into 3 seconds, at least 5]
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..=MAX_RUNS as i64))]
    runs: Option<u32>,
    /// Time to measure
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    seconds: Option<f64>,
    /// Measure each layer too
    #[arg(long)]
    layers: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Measure when asked: each line of stdin is a number of runs, and is answered by one line of JSON with the time of
    /// each
    ///
    /// The first line, `{"model","isa","threads","macs"}`, says that the model is loaded and has warmed up. The answers
    /// are `{"times_ms":[...],"peak_rss_bytes"}`. The end of stdin ends the program. It does nothing between requests, so
    /// that programs can be measured in turn.
    #[arg(long, conflicts_with_all = ["runs", "seconds", "layers", "json"])]
    on_request: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    isa: String,
    threads: usize,
    runs: usize,
    median_ms: f64,
    min_ms: f64,
    p90_ms: f64,
    /// Billions of multiply-accumulates a second, at the median.
    gmacs: f64,
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Layer>>,
}

#[derive(Debug, Serialize)]
struct Layer {
    index: usize,
    op: String,
    output: String,
    shape: Vec<usize>,
    kernel: String,
    macs: u64,
    /// [`StepInfo::bytes`].
    bytes: u64,
    median_ms: f64,
    /// Of all layers together, 0 to 1.
    share: f64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let options = Options {
        threads: args.threads,
        isa: args.isa,
        keep_intermediates: false,
    };
    let path = args.model.as_deref();
    let (model, mut engine) = load::load_engine(path, args.allow_float, options, |_| Ok(()))?;
    fill_inputs(engine.as_mut())?;
    warm_up(engine.as_mut())?;
    let steps = engine.steps();
    let macs: u64 = steps.iter().map(|step| step.macs).sum();
    if args.on_request {
        return requests::serve(engine.as_mut(), model.name, args.threads, macs);
    }
    let times = measure(engine.as_mut(), args)?;
    let median = quantile(&times, 0.5);
    let layers = args
        .layers
        .then(|| profile(engine.as_mut(), steps))
        .transpose()?;
    let report = Report {
        model: model.name,
        isa: isa_of(&engine.summary()).into(),
        threads: args.threads,
        runs: times.len(),
        median_ms: millis(median),
        min_ms: millis(times[0]),
        p90_ms: millis(quantile(&times, 0.9)),
        gmacs: round3(gmacs(macs, median)),
        peak_rss_bytes: peak_rss_bytes(),
        layers,
    };
    if args.json {
        return print_json(&report);
    }
    print(&text(&report, &engine.summary(), macs))
}

fn print_json(object: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string(object).expect("strings and numbers are always JSON");
    print(&format!("{json}\n"))
}

fn warm_up(engine: &mut dyn Engine) -> Result<()> {
    let start = Instant::now();
    let mut runs = 0;
    while runs < WARM_UP_RUNS || (start.elapsed() < WARM_UP_TIME && runs < MAX_RUNS) {
        engine.run()?;
        runs += 1;
    }
    Ok(())
}

/// The time of one run.
fn time(engine: &mut dyn Engine) -> Result<Duration> {
    let start = Instant::now();
    engine.run()?;
    Ok(start.elapsed())
}

/// Sorted times of single runs.
fn measure(engine: &mut dyn Engine, args: &Args) -> Result<Vec<Duration>> {
    let limit = Duration::from_secs_f64(args.seconds.unwrap_or(DEFAULT_SECONDS));
    let start = Instant::now();
    let mut times = Vec::new();
    let wanted = |done: usize| match args.runs {
        Some(runs) => done < runs as usize,
        None => done < MIN_RUNS || (start.elapsed() < limit && done < MAX_RUNS),
    };
    while wanted(times.len()) {
        times.push(time(engine)?);
    }
    times.sort();
    Ok(times)
}

fn profile(engine: &mut dyn Engine, steps: Vec<StepInfo>) -> Result<Vec<Layer>> {
    let mut times = vec![Vec::with_capacity(PROFILED_RUNS); steps.len()];
    for _ in 0..PROFILED_RUNS {
        for (times, time) in times.iter_mut().zip(engine.run_profiled()?) {
            times.push(time);
        }
    }
    let medians: Vec<Duration> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            quantile(times, 0.5)
        })
        .collect();
    let total: Duration = medians.iter().sum();
    let layers = steps.into_iter().zip(medians).map(|(step, median)| Layer {
        index: step.index,
        op: step.op,
        output: step.output,
        shape: step.shape.dims().to_vec(),
        kernel: step.kernel,
        macs: step.macs,
        bytes: step.bytes,
        median_ms: millis(median),
        share: round3(median.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE)),
    });
    Ok(layers.collect())
}

fn text(report: &Report, summary: &str, macs: u64) -> String {
    let mut text = format!("{}: {summary}\n", report.model);
    if let Some(layers) = &report.layers {
        text.push_str(&layer_table(layers));
    }
    text.push_str(&format!(
        "{} runs: median {:.3} ms, p90 {:.3} ms, minimum {:.3} ms\n",
        report.runs, report.median_ms, report.p90_ms, report.min_ms
    ));
    if macs > 0 {
        let millions = macs as f64 / 1e6;
        text.push_str(&format!(
            "{millions:.1} million MAC, {:.2} GMAC/s\n",
            report.gmacs
        ));
    }
    if let Some(bytes) = report.peak_rss_bytes {
        text.push_str(&format!(
            "peak memory {:.1} MiB\n",
            bytes as f64 / 1_048_576.0
        ));
    }
    text
}

fn layer_table(layers: &[Layer]) -> String {
    let head = [
        "#", "operator", "output", "kernel", "MMAC", "KB", "ms", "share", "GMAC/s",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for layer in layers {
        let (macs, speed) = if layer.macs == 0 {
            (String::new(), String::new())
        } else {
            let speed = layer.macs as f64 / (layer.median_ms.max(1e-6) * 1e6);
            (
                format!("{:.2}", layer.macs as f64 / 1e6),
                format!("{speed:.2}"),
            )
        };
        rows.push(vec![
            layer.index.to_string(),
            layer.op.clone(),
            format!("{:?}", layer.shape),
            layer.kernel.clone(),
            macs,
            match layer.bytes {
                0 => String::new(),
                bytes => format!("{:.1}", bytes as f64 / 1e3),
            },
            format!("{:.3}", layer.median_ms),
            format!("{:.1} %", layer.share * 100.0),
            speed,
        ]);
    }
    table(&rows, &[0, 4, 5, 6, 7, 8])
}

/// Sets every input to arbitrary values, the same each time.
fn fill_inputs(engine: &mut dyn Engine) -> Result<()> {
    let infos: Vec<TensorInfo> = engine.inputs().to_vec();
    for (index, info) in infos.iter().enumerate() {
        engine.set_input(index, arbitrary(info).view())?;
    }
    Ok(())
}

/// All codes for 8-bit inputs, 0 to 1 for real ones, zeros for integers.
fn arbitrary(info: &TensorInfo) -> TensorData {
    let mut state = 1u32;
    // Numerical Recipes' linear congruential generator; the high bits are good enough.
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let count = info.shape.elements();
    match info.dtype {
        DType::U8 => TensorData::U8(bytes.take(count).collect()),
        DType::I8 => TensorData::I8(bytes.take(count).map(|byte| byte as i8).collect()),
        DType::I32 => TensorData::I32(vec![0; count]),
        DType::F32 => TensorData::F32(bytes.take(count).map(|b| f32::from(b) / 255.0).collect()),
    }
}

/// The instruction set among the words of [`Engine::summary`]; `tract` chooses for itself.
fn isa_of(summary: &str) -> &str {
    const NAMES: [&str; 6] = ["scalar", "neon", "neon_dot", "avx2", "avx512_vnni", "tract"];
    summary
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .find(|word| NAMES.contains(word))
        .unwrap_or("unknown")
}

/// The time that a share `q` of all sorted times do not exceed (nearest rank). `times` is not empty.
fn quantile(times: &[Duration], q: f64) -> Duration {
    let rank = (q * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

fn gmacs(macs: u64, time: Duration) -> f64 {
    macs as f64 / time.as_secs_f64().max(1e-9) / 1e9
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn round3(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn parse_seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("not a number of seconds above 0 and up to 3600".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_has_the_documented_keys_in_order() {
        let report = Report {
            model: "a.tflite".into(),
            isa: "avx2".into(),
            threads: 1,
            runs: 5,
            median_ms: 2.0,
            min_ms: 1.5,
            p90_ms: 2.5,
            gmacs: 10.0,
            peak_rss_bytes: Some(1),
            layers: None,
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"model":"a.tflite","isa":"avx2","threads":1,"runs":5,"median_ms":2.0,"min_ms":1.5,"p90_ms":2.5,"gmacs":10.0,"peak_rss_bytes":1}"#
        );
    }

    #[test]
    fn quantiles_take_the_nearest_rank() {
        let times: Vec<Duration> = (1..=10).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(5));
        assert_eq!(quantile(&times, 0.9), Duration::from_millis(9));
        assert_eq!(quantile(&times[..1], 0.9), Duration::from_millis(1));
        assert_eq!(gmacs(2_000_000, Duration::from_millis(1)), 2.0);
    }

    #[test]
    fn instruction_set_is_a_word_of_the_summary() {
        assert_eq!(
            isa_of("integer plan (avx512_vnni), 2 threads"),
            "avx512_vnni"
        );
        assert_eq!(isa_of("neon, arena 3 KiB"), "neon");
        assert_eq!(isa_of("tract (float), 1 thread"), "tract");
        assert_eq!(isa_of(""), "unknown");
    }
}
