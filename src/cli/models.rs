//! `eyas models`: public models by name.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{print, table, terminal};
use crate::error::{Error, Result};
use crate::model::hub::{BuiltIn, Entry, Existing, Hub, Named, Progress};

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What there is to do with public models.
#[derive(Debug, clap::Subcommand)]
pub enum Models {
    /// Tell the names, and what is there already
    List {
        /// Print a list of JSON objects
        #[arg(long)]
        json: bool,
    },
    /// Download models and check their size and hash; prints where they are
    ///
    /// A download that breaks off is taken up again by the next one.
    Pull {
        /// Names from `eyas models list`
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Download again what is there already
        #[arg(long)]
        force: bool,
    },
    /// Print where the file of a pulled model is
    Path {
        /// A name from `eyas models list`
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Runs the command.
pub fn run(command: Models) -> Result<()> {
    let hub = Hub::from_env()?;
    match command {
        Models::List { json } => list(&hub, json),
        Models::Pull { names, force } => {
            let existing = match force {
                true => Existing::Replace,
                false => Existing::Check,
            };
            pull_all(&hub, &names, existing)
        }
        Models::Path { name } => print(&format!("{}\n", path(&hub, &name)?.display())),
    }
}

/// A model as `list` tells it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    task: &'a str,
    size: u64,
    licence: &'a str,
    state: State,
    /// `None` unless pulled.
    path: Option<PathBuf>,
    description: &'a str,
    /// Address of the project that it comes from, and of the file. `None` for built-in models.
    source: Option<&'a str>,
    url: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum State {
    #[serde(rename = "built in")]
    BuiltIn,
    #[serde(rename = "pulled")]
    Pulled,
    #[serde(rename = "not pulled")]
    Absent,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built in",
            Self::Pulled => "pulled",
            Self::Absent => "not pulled",
        }
    }
}

fn built_in_row<'a>(model: &'static BuiltIn) -> Row<'a> {
    Row {
        name: model.name,
        task: "detect",
        size: model.model.len() as u64,
        licence: model.licence,
        state: State::BuiltIn,
        path: None,
        description: model.description,
        source: None,
        url: None,
    }
}

fn public_row<'a>(hub: &Hub, entry: &'a Entry) -> Row<'a> {
    let path = hub.path(entry);
    Row {
        name: &entry.name,
        task: entry.task.name(),
        size: entry.model.size,
        licence: &entry.licence,
        state: match path {
            Some(_) => State::Pulled,
            None => State::Absent,
        },
        path,
        description: &entry.description,
        source: Some(&entry.source),
        url: Some(&entry.model.url),
    }
}

fn list(hub: &Hub, json: bool) -> Result<()> {
    let built_in = BuiltIn::ALL.into_iter().map(built_in_row);
    let public = hub.registry.entries().iter();
    let rows: Vec<Row<'_>> = built_in
        .chain(public.map(|entry| public_row(hub, entry)))
        .collect();
    if json {
        let text = serde_json::to_string_pretty(&rows)
            .map_err(|error| Error::Internal(format!("the list of models: {error}")))?;
        return print(&(text + "\n"));
    }
    let head = ["name", "task", "size", "licence", "state", "description"];
    let mut cells = vec![head.map(String::from).to_vec()];
    cells.extend(rows.iter().map(|row| {
        vec![
            row.name.into(),
            row.task.into(),
            megabytes(row.size),
            row.licence.into(),
            row.state.name().into(),
            row.description.into(),
        ]
    }));
    print(&table(&cells, &[2]))
}

/// All names are looked up before anything is downloaded.
fn pull_all(hub: &Hub, names: &[String], existing: Existing) -> Result<()> {
    let found = names.iter().map(|name| hub.find(name));
    for named in found.collect::<Result<Vec<_>>>()? {
        match named {
            Named::BuiltIn(model) => log::info!("{} is built in: nothing to pull", model.name),
            Named::Public(entry) => {
                let path = pull(hub, entry, existing)?;
                print(&format!("{}\n", path.display()))?;
            }
        }
    }
    Ok(())
}

fn path(hub: &Hub, name: &str) -> Result<PathBuf> {
    match hub.find(name)? {
        Named::BuiltIn(model) => Err(Error::Usage(format!(
            "{} is built into the program and is no file; `-m {}` uses it",
            model.name, model.name
        ))),
        Named::Public(entry) => hub.path(entry).ok_or_else(|| Error::Download {
            model: name.into(),
            reason: format!("it has not been pulled; `eyas models pull {name}` does that"),
        }),
    }
}

/// [`Hub::pull`], told on stderr: by a line at its beginning and its end, and by its progress on a terminal.
pub(super) fn pull(hub: &Hub, entry: &Entry, existing: Existing) -> Result<PathBuf> {
    let name = &entry.name;
    if hub.path(entry).is_none() || existing == Existing::Replace {
        let size = megabytes(entry.model.size);
        log::info!(
            "pulling {name} ({size}, {}) from {}",
            entry.licence,
            entry.model.url
        );
    }
    let mut line = ProgressLine::default();
    let pulled = hub.pull(entry, existing, |progress| line.show(progress));
    terminal::clear_line();
    let path = pulled?;
    log::info!("{name} is at {}", path.display());
    Ok(path)
}

/// The progress of a download on a terminal; nothing elsewhere.
#[derive(Default)]
struct ProgressLine {
    shown: Option<Instant>,
}

impl ProgressLine {
    fn show(&mut self, progress: Progress<'_>) {
        let is_due = self
            .shown
            .is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL);
        if is_due && io::stderr().is_terminal() {
            terminal::show_line(&progress_text(progress));
            self.shown = Some(Instant::now());
        }
    }
}

fn progress_text(progress: Progress<'_>) -> String {
    let Progress { name, done, total } = progress;
    match total {
        Some(total) if total > 0 => {
            let percent = done as f64 / total as f64 * 100.0;
            format!("{name}: {percent:.0} % of {}", megabytes(total))
        }
        _ => format!("{name}: {}", megabytes(done)),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_percent_where_the_end_is_known() {
        let text = |done, total| {
            progress_text(Progress {
                name: "x",
                done,
                total,
            })
        };
        assert_eq!(text(1_000_000, Some(4_000_000)), "x: 25 % of 4.0 MB");
        assert_eq!(text(1_500_000, None), "x: 1.5 MB");
        assert_eq!(text(0, Some(0)), "x: 0.0 MB");
    }
}
