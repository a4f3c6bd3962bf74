//! One inference between two marks, for programs that count instructions: `region MODEL [--isa NAME] [--threads N]`.
//!
//! Runs the model on arbitrary input, [`WARM_UP_RUNS`] times unmarked and then once between `hint #0x50` and
//! `hint #0x51`. Both are no-ops on every AArch64 processor; elsewhere there are no marks. Without a model it does
//! nothing, so that `cargo bench` passes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use eyas::engine::{self, Options};
use eyas::kernels::Isa;
use eyas::tensor::{DType, TensorData, TensorInfo};

const WARM_UP_RUNS: usize = 2;

/// Runs one inference between two marks.
#[derive(Parser)]
struct Args {
    /// Model file
    model: Option<PathBuf>,
    /// Instruction set to use at most
    #[arg(long)]
    isa: Option<Isa>,
    /// Threads that the inference may use
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Passed by `cargo bench`; without effect
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(model) = &args.model else {
        eprintln!("no model given: nothing to run");
        return ExitCode::SUCCESS;
    };
    match run(model, &args) {
        Ok(summary) => {
            println!("{}: {summary}", model.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does it all; returns what the engine says of itself.
fn run(model: &Path, args: &Args) -> eyas::Result<String> {
    let options = Options {
        threads: args.threads,
        isa: args.isa,
        keep_intermediates: false,
    };
    let mut engine = engine::load(&eyas::model::load_file(model)?, options)?;
    let inputs: Vec<TensorInfo> = engine.inputs().to_vec();
    for (index, info) in inputs.iter().enumerate() {
        engine.set_input(index, arbitrary(info).view())?;
    }
    for _ in 0..WARM_UP_RUNS {
        engine.run()?;
    }
    mark_begin();
    let done = engine.run();
    mark_end();
    done?;
    Ok(engine.summary())
}

/// Codes of all sizes for 8-bit inputs, 0 to 1 for real ones, zeros for integers.
fn arbitrary(info: &TensorInfo) -> TensorData {
    let count = info.shape.elements();
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 24) as u8;
    match info.dtype {
        DType::U8 => TensorData::U8((0..count).map(byte).collect()),
        DType::I8 => TensorData::I8((0..count).map(|at| byte(at) as i8).collect()),
        DType::I32 => TensorData::I32(vec![0; count]),
        DType::F32 => TensorData::F32((0..count).map(|at| f32::from(byte(at)) / 255.0).collect()),
    }
}

#[cfg(target_arch = "aarch64")]
fn mark_begin() {
    // SAFETY: hint 0x50 is unallocated, and unallocated hints do nothing; no register or memory changes.
    unsafe { std::arch::asm!("hint #0x50", options(nostack, preserves_flags)) }
}

#[cfg(target_arch = "aarch64")]
fn mark_end() {
    // SAFETY: as in `mark_begin`.
    unsafe { std::arch::asm!("hint #0x51", options(nostack, preserves_flags)) }
}

#[cfg(not(target_arch = "aarch64"))]
fn mark_begin() {}

#[cfg(not(target_arch = "aarch64"))]
fn mark_end() {}
