//! The command line: one file a command.

pub mod detect;
pub mod infer;
pub mod load;
pub mod npy;

use std::process::ExitCode;

/// Parses the arguments, runs the command, reports its error.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
