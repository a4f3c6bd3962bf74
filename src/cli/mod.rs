//! The command line: one file a command.

mod access;
mod bench;
mod collect;
mod config;
mod dataset;
pub mod detect;
mod doctor;
mod eval;
pub mod infer;
mod inspect;
mod journal;
pub mod load;
mod models;
mod mqtt;
pub mod npy;
mod pins;
mod places;
mod progress;
mod quantize;
mod reading;
mod reload;
mod run;
mod service;
mod status;
mod terminal;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};

/// What [`Error::Io`] says was attempted when results could not be printed.
const WRITE_STDOUT: &str = "write to stdout";

/// Exit code after a second signal: 128 + SIGINT, as shells count.
const INTERRUPTED: i32 = 130;

/// Finds objects in pictures with quantized models, live in a browser.
///
/// Without a command: `run`.
#[derive(Debug, Parser)]
#[command(name = "eyas", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a source and show what is found
    Run(Box<run::Args>),
    /// Find objects on pictures
    Detect(detect::DetectArgs),
    /// Run a model on raw tensors
    Infer(infer::Args),
    /// Measure how fast a model runs
    Bench(bench::Args),
    /// Measure how good a model is on a labelled data set, or compare two
    Eval(eval::Args),
    /// Convert, divide and describe data sets
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Collect pictures from a camera or video into a data set, with the model's boxes to correct
    Collect(collect::Args),
    /// Quantize a float model and tell what that costs
    Quantize(quantize::Args),
    /// Tell what is in a model and how it runs
    Inspect(inspect::Args),
    /// Tell what this machine has: CPU, kernels, cameras, pins, health
    Doctor(doctor::Args),
    /// List and pull public models, which `-m` takes by name
    ///
    /// They are kept in the folder that EYAS_CACHE names, else in `models` in systemd's CACHE_DIRECTORY, else in
    /// `eyas/models` in XDG_CACHE_HOME or ~/.cache. EYAS_MODELS=FILE puts another list in place of eyas's own, in the
    /// form of its models/models.toml. HTTPS_PROXY and NO_PROXY are respected.
    #[command(subcommand)]
    Models(models::Models),
}

/// Parses the arguments, runs the command, reports its error. The exit code is 0 when done, 1 when it failed, 2 for
/// wrong usage.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => {
            // Help that nobody reads any more is no failure.
            let _ = refused.print();
            return ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(2));
        }
    };
    terminal::start_logging();
    let command = cli.command.unwrap_or(Command::Run(Box::new(cli.run)));
    let done = match command {
        Command::Run(args) => run::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Detect(args) => detect::run(&args),
        Command::Infer(args) => infer::run(args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Eval(args) => eval::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Dataset(command) => dataset::run(command).map(|()| ExitCode::SUCCESS),
        Command::Collect(args) => collect::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Quantize(args) => quantize::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Inspect(args) => inspect::run(args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Models(command) => models::run(command).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        if is_closed_stdout(&error) {
            return ExitCode::SUCCESS;
        }
        terminal::say(log::Level::Error, &format!("error: {error}"));
        ExitCode::from(error.exit_code())
    })
}

/// Whether the reader of the results has seen enough, as `eyas ... | head` does.
fn is_closed_stdout(error: &Error) -> bool {
    matches!(error, Error::Io { action, error }
        if action == WRITE_STDOUT && error.kind() == ErrorKind::BrokenPipe)
}

/// Prints results. An error that [`main`] takes for the end if stdout is a closed pipe.
fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Error::io(WRITE_STDOUT))
}

/// Rows of cells as lines, columns aligned: those that `right` names to the right.
fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if right.contains(&column) {
                line.push_str(&format!("{cell:>width$}  "));
            } else {
                line.push_str(&format!("{cell:<width$}  "));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_run() {
        let cli = Cli::try_parse_from(["eyas", "-m", "a.tflite", "--frames", "3"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.run.model.model, Some("a.tflite".into()));
        let cli = Cli::try_parse_from(["eyas", "run", "-c", "0.5"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Run(_))));
        for wrong in [
            &["eyas", "-c", "2"][..],
            &["eyas", "--frames", "0"],
            &["eyas", "fly"],
            &["eyas", "--listen", "everywhere"],
            &["eyas", "--listen", "127.0.0.1:1", "--no-listen"],
        ] {
            assert_eq!(Cli::try_parse_from(wrong).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn only_a_closed_stdout_is_no_error() {
        let io = |action: &str, kind: ErrorKind| Error::Io {
            action: action.into(),
            error: kind.into(),
        };
        assert!(is_closed_stdout(&io(WRITE_STDOUT, ErrorKind::BrokenPipe)));
        assert!(!is_closed_stdout(&io(WRITE_STDOUT, ErrorKind::StorageFull)));
        assert!(!is_closed_stdout(&io("read x", ErrorKind::BrokenPipe)));
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [
            vec!["a".into(), "1".into()],
            vec!["bcd".into(), "23".into()],
        ];
        assert_eq!(table(&rows, &[1]), "a     1\nbcd  23\n");
    }
}
