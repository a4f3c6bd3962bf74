//! `eyas inspect`: what is in a model and how it runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use super::load::{self, LoadedModel, ModelArgs};
use super::reading::ReadingArgs;
use super::{print, table};
use crate::detect::Detector;
use crate::engine::StepInfo;
use crate::error::Result;
use crate::kernels::Isa;
use crate::model::{Metadata, Model, Program};
use crate::tensor::TensorInfo;

/// Tells what is in a model and how it runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model file, or a name from `eyas models list` [default: codes, the built-in model]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Label file [default: the labels that come with the model]
    #[arg(short, long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Threads that one inference may use
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = load::parse_threads)]
    threads: usize,
    /// Instruction set to use at most
    #[arg(long, value_name = "NAME", value_parser = load::parse_isa)]
    isa: Option<Isa>,
    /// Show a quantized model with float weights if it has operators without an integer kernel
    #[arg(long)]
    allow_float: bool,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let flags = ModelArgs {
        model: args.model,
        labels: args.labels,
        threads: Some(args.threads),
        isa: args.isa,
        allow_float: args.allow_float,
        reading: args.reading,
        ..ModelArgs::default()
    };
    let LoadedModel {
        model,
        labels,
        labels_summary,
        engine,
    } = flags.load(load::Work::Stills)?;
    let mut text = format!("{}\n{}\n", model.name, model.format);
    describe_metadata(&mut text, &model.metadata);
    section(&mut text, "inputs", &tensor_table(engine.inputs()));
    section(&mut text, "outputs", &tensor_table(engine.outputs()));
    section(&mut text, "operators", &operator_table(&model));
    let class_lines = match load::class_count(&model) {
        Some(classes) if !labels.is_empty() => (0..classes)
            .map(|id| format!("{id} {}\n", labels.name(id)))
            .collect(),
        _ => String::new(),
    };
    section(
        &mut text,
        "labels",
        &format!("{labels_summary}\n{class_lines}"),
    );
    let (summary, steps) = (engine.summary(), step_table(&engine.steps()));
    let head = match Detector::new(engine, &model, labels, flags.threshold()) {
        Ok(detector) => detector.describe(),
        Err(reason) => format!("none: {reason}\n"),
    };
    section(&mut text, "head", &head);
    section(&mut text, "engine", &format!("{summary}\n{steps}"));
    print(&text)
}

fn section(text: &mut String, title: &str, body: &str) {
    let _ = writeln!(text, "\n{title}");
    for line in body.lines() {
        let _ = writeln!(text, "  {line}");
    }
}

fn describe_metadata(text: &mut String, metadata: &Metadata) {
    if let Some(description) = &metadata.description {
        let _ = writeln!(text, "{}", description.trim());
    }
    if let Some(normalization) = &metadata.normalization {
        let _ = writeln!(
            text,
            "normalization: mean {:?}, std {:?}",
            normalization.mean, normalization.std
        );
    }
}

fn tensor_table(infos: &[TensorInfo]) -> String {
    let row = |(index, info): (usize, &TensorInfo)| {
        vec![
            index.to_string(),
            info.name.clone(),
            info.dtype.to_string(),
            info.shape.to_string(),
            quantization(info),
        ]
    };
    let rows: Vec<_> = infos.iter().enumerate().map(row).collect();
    table(&rows, &[0])
}

fn quantization(info: &TensorInfo) -> String {
    match &info.quant {
        None => String::new(),
        Some(quant) if quant.is_per_channel() => format!("{} scales", quant.scales.len()),
        Some(quant) => format!("scale {} zero point {}", quant.scale(), quant.zero_point()),
    }
}

fn operator_table(model: &Model) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut count = |name| *counts.entry(name).or_default() += 1;
    match &model.program {
        Program::Graph(graph) => graph.nodes.iter().for_each(|node| count(node.op.name())),
        Program::Onnx(file) => file.operators().for_each(count),
    }
    let rows: Vec<_> = counts
        .iter()
        .map(|(name, count)| vec![count.to_string(), name.to_string()])
        .collect();
    table(&rows, &[0])
}

fn step_table(steps: &[StepInfo]) -> String {
    let head = ["#", "operator", "output", "shape", "kernel", "MMAC"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for step in steps {
        let macs = match step.macs {
            0 => String::new(),
            macs => format!("{:.2}", macs as f64 / 1e6),
        };
        rows.push(vec![
            step.index.to_string(),
            step.op.clone(),
            step.output.clone(),
            step.shape.to_string(),
            step.kernel.clone(),
            macs,
        ]);
    }
    table(&rows, &[0, 5])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, QuantParams, Shape};

    #[test]
    fn tensors_are_told_with_their_quantization() {
        let info = |name: &str, quant| TensorInfo {
            name: name.into(),
            shape: Shape::from([1, 2]),
            dtype: DType::U8,
            quant,
        };
        let text = tensor_table(&[
            info("image", Some(QuantParams::per_tensor(0.5, 128))),
            info("x", None),
        ]);
        assert_eq!(
            text,
            "0  image  uint8  [1, 2]  scale 0.5 zero point 128\n1  x      uint8  [1, 2]\n"
        );
    }
}
