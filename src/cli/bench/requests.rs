//! Measuring when asked: `eyas bench --on-request`.

use std::io::BufRead;

use serde::Serialize;

use super::{MAX_RUNS, isa_of, millis, print_json, time};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::telemetry::system::peak_rss_bytes;

/// Printed once, before the first request is read.
#[derive(Debug, Serialize)]
struct Ready {
    model: String,
    isa: String,
    threads: usize,
    macs: u64,
}

/// The answer to a request.
#[derive(Debug, Serialize)]
struct Answer {
    /// In the order of the runs.
    times_ms: Vec<f64>,
    peak_rss_bytes: Option<u64>,
}

/// Answers the requests on stdin until it ends.
pub(super) fn serve(
    engine: &mut dyn Engine,
    model: String,
    threads: usize,
    macs: u64,
) -> Result<()> {
    print_json(&Ready {
        model,
        isa: isa_of(&engine.summary()).into(),
        threads,
        macs,
    })?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Error::io("read requests from stdin"))?;
        let runs = parse(&line)?;
        print_json(&measure(engine, runs)?)?;
    }
    Ok(())
}

fn measure(engine: &mut dyn Engine, runs: usize) -> Result<Answer> {
    let mut times_ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        times_ms.push(millis(time(engine)?));
    }
    Ok(Answer {
        times_ms,
        peak_rss_bytes: peak_rss_bytes(),
    })
}

/// A number of runs.
fn parse(line: &str) -> Result<usize> {
    match line.trim().parse() {
        Ok(runs @ 1..=MAX_RUNS) => Ok(runs),
        _ => Err(Error::Usage(format!(
            "{line:?} on stdin is not a number of runs from 1 to {MAX_RUNS}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_numbers_of_runs() {
        assert_eq!(parse("3").unwrap(), 3);
        assert_eq!(parse(" 12\r").unwrap(), 12);
        for wrong in ["", "0", "-1", "2.5", "1000001", "many"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
