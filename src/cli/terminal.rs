//! Logs, the status line and keys share one terminal, or systemd's journal in its place.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyModifiers};
use log::Level;

use super::journal;

/// Whether a status line without a line break stands on the terminal.
static LINE_SHOWN: Mutex<bool> = Mutex::new(false);
/// In raw mode a line feed does not return the carriage.
static RAW: AtomicBool = AtomicBool::new(false);

static TO_JOURNAL: LazyLock<bool> = LazyLock::new(journal::takes_stderr);

const CLEAR_LINE: &str = "\r\x1b[K";
const KEY_POLL: Duration = Duration::from_millis(100);

/// Sends logs to stderr in a way that leaves the status line whole. `RUST_LOG` chooses; default `info`.
pub(super) fn start_logging() {
    let style = if io::stderr().is_terminal() {
        env_logger::WriteStyle::Auto
    } else {
        env_logger::WriteStyle::Never
    };
    let environment = env_logger::Env::default().default_filter_or("info");
    let mut builder = env_logger::Builder::from_env(environment);
    builder
        .format_target(false)
        .write_style(style)
        .target(env_logger::Target::Pipe(Box::new(LogWriter)));
    if *TO_JOURNAL {
        builder.format(|line, record| {
            line.write_all(journal::lines(record.level(), &record.args().to_string()).as_bytes())
        });
    }
    // A second start, as tests do, keeps the first.
    let _ = builder.try_init();
}

/// Writes a line to stderr in place of the status line, whatever `RUST_LOG` says.
pub(super) fn say(level: Level, text: &str) {
    if *TO_JOURNAL {
        write_over_line(&journal::lines(level, text));
    } else {
        write_over_line(&format!("{text}\n"));
    }
}

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_over_line(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes whole lines to stderr in place of the status line.
pub(super) fn write_over_line(text: &str) {
    let mut shown = LINE_SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = String::new();
    if std::mem::take(&mut *shown) {
        out.push_str(CLEAR_LINE);
    }
    if RAW.load(Ordering::Relaxed) {
        out.push_str(&text.replace('\n', "\r\n"));
    } else {
        out.push_str(text);
    }
    // Nobody is left to be told that stderr is closed.
    let _ = io::stderr().write_all(out.as_bytes());
}

/// Shows the status line in place of the last one, cut to the width of the terminal.
pub(super) fn show_line(text: &str) {
    // Terminals that do not know their size say 0.
    let width = match crossterm::terminal::size() {
        Ok((width, _)) if width > 0 => usize::from(width),
        _ => 80,
    };
    let cut: String = text.chars().take(width.saturating_sub(1)).collect();
    let mut shown = LINE_SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *shown = true;
    let _ = io::stderr().write_all(format!("{CLEAR_LINE}{cut}").as_bytes());
}

/// Takes the status line away.
pub(super) fn clear_line() {
    write_over_line("");
}

/// Keys come at once and are not echoed while this lives.
pub(super) struct RawMode(());

impl RawMode {
    /// `None` if stdin is no terminal, or belongs to another program in the foreground.
    pub fn enter() -> Option<Self> {
        if !io::stdin().is_terminal() || !is_foreground() {
            return None;
        }
        crossterm::terminal::enable_raw_mode().ok()?;
        RAW.store(true, Ordering::Relaxed);
        Some(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was.
pub(super) fn restore() {
    if RAW.swap(false, Ordering::Relaxed) {
        // There is no other way to mend a terminal that refuses.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// Waits a moment for a key that asks to end: `q` or Ctrl-C, which raw mode makes a key.
pub(super) fn end_was_typed() -> bool {
    if !crossterm::event::poll(KEY_POLL).unwrap_or(false) {
        return false;
    }
    match crossterm::event::read() {
        Ok(Event::Key(key)) => {
            key.code == KeyCode::Char('q')
                || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
        }
        _ => false,
    }
}

/// Whether the terminal listens to this process: changing its mode from the background would suspend the process.
fn is_foreground() -> bool {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return true;
    };
    // After the name in parentheses: state, parent, process group, session, terminal, foreground process group.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().take(6).collect();
    matches!(fields[..], [_, _, group, _, _, foreground] if group == foreground)
}
