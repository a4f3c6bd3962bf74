//! `eyas run`: the daemon.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

pub use super::config::Args;
use super::config::Settings;
use super::load::{LoadedDetector, Work, load_detector};
use super::status::{self, Seen};
use super::terminal::{self, RawMode};
use crate::error::{Error, Result};
use crate::pipeline::{Pipeline, Stop};
use crate::sink::Sink;
use crate::sink::events::EventsSink;
use crate::sink::snapshot::SnapshotSink;
use crate::sink::web::{About, WebSink};
use crate::source;
use crate::telemetry::Telemetry;

const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);
/// 128 + SIGINT, as shells count.
const INTERRUPTED: i32 = 130;

/// Runs until the source ends, `--frames` is reached, `q` is typed or a signal asks to end.
pub fn run(args: Args) -> Result<()> {
    let settings = Settings::resolve(args)?;
    let loaded = load_detector(&settings.model, Work::Live)?;
    let source = source::open(&settings.source, settings.source_options)?;
    let (stop, telemetry, seen) = (Stop::new(), Arc::new(Telemetry::default()), Seen::default());
    let pipe_closed = Arc::new(AtomicBool::new(false));
    let mut sinks = open_sinks(
        &settings,
        source.name(),
        &loaded,
        &telemetry,
        &stop,
        &pipe_closed,
    )?;
    sinks.push(Box::new(seen.clone()));

    let signals = Watcher::signals(&stop)?;
    // Lines of events on a terminal in raw mode would run down like stairs.
    let keys_free = settings.source != "-"
        && !settings.source.starts_with("raw:")
        && io::stderr().is_terminal()
        && !(settings.events_to_stdout() && io::stdout().is_terminal());
    let keys = keys_free.then(|| Watcher::keys(&stop)).flatten();
    let ticker = Watcher::status(telemetry.clone(), seen)?;

    let mut detector = loaded.detector;
    let ended = Pipeline {
        source,
        detect: Box::new(move |frame| detector.detect(frame)),
        sinks,
        telemetry: telemetry.clone(),
        stop: stop.clone(),
        frame_limit: settings.frames,
    }
    .run();

    // The key thread ends with the stop flag.
    stop.stop();
    drop((ticker, keys, signals));
    terminal::clear_line();
    if !pipe_closed.load(Ordering::Relaxed) {
        let text = status::summary(&telemetry.snapshot());
        terminal::write_over_line(&format!("{text}\n"));
    }
    ended
}

fn open_sinks(
    settings: &Settings,
    source_name: &str,
    loaded: &LoadedDetector,
    telemetry: &Arc<Telemetry>,
    stop: &Stop,
    pipe_closed: &Arc<AtomicBool>,
) -> Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(listen) = settings.listen {
        let about = About {
            model: loaded.model_name.clone(),
            engine: loaded.engine_summary.clone(),
            source: source_name.into(),
        };
        let web = WebSink::start(listen, about, loaded.threshold.clone(), telemetry.clone())?;
        log::info!("live page: http://{}/", web.address());
        sinks.push(Box::new(web));
    }
    if let Some(target) = &settings.events {
        let (stop, closed) = (stop.clone(), pipe_closed.clone());
        sinks.push(Box::new(EventsSink::open(target, move || {
            closed.store(true, Ordering::Relaxed);
            stop.stop();
        })?));
    }
    if let Some(folder) = &settings.snapshots {
        sinks.push(Box::new(SnapshotSink::new(folder)?));
    }
    Ok(sinks)
}

/// A thread beside the pipeline. Dropping it ends the thread.
struct Watcher {
    end: End,
    thread: Option<JoinHandle<()>>,
}

/// How a [`Watcher`] is told to end.
enum End {
    Signals(Handle),
    Dropped(Option<mpsc::Sender<()>>),
    StopFlag,
}

impl Watcher {
    fn spawn(name: &str, end: End, work: impl FnOnce() + Send + 'static) -> Result<Self> {
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(work)
            .map_err(Error::io(format!("start the {name} thread")))?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }

    /// The first signal asks to end, the second does not ask.
    fn signals(stop: &Stop) -> Result<Self> {
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Error::io("listen for signals"))?;
        let (handle, stop) = (signals.handle(), stop.clone());
        Self::spawn("signals", End::Signals(handle), move || {
            for _ in signals.forever() {
                if stop.is_stopped() {
                    terminal::restore();
                    std::process::exit(INTERRUPTED);
                }
                stop.stop();
            }
        })
    }

    /// `None` where no keys can be read.
    fn keys(stop: &Stop) -> Option<Self> {
        let raw = RawMode::enter()?;
        let stop = stop.clone();
        let watcher = Self::spawn("keys", End::StopFlag, move || {
            let _raw = raw;
            while !stop.is_stopped() {
                if terminal::end_was_typed() {
                    stop.stop();
                }
            }
        });
        watcher.ok()
    }

    fn status(telemetry: Arc<Telemetry>, seen: Seen) -> Result<Self> {
        let on_terminal = io::stderr().is_terminal();
        let (sender, dropped) = mpsc::channel();
        let interval = if on_terminal {
            TERMINAL_INTERVAL
        } else {
            PLAIN_INTERVAL
        };
        Self::spawn("status", End::Dropped(Some(sender)), move || {
            while dropped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let line = status::line(&telemetry.snapshot(), &seen);
                if on_terminal {
                    terminal::show_line(&line);
                } else {
                    terminal::write_over_line(&format!("{line}\n"));
                }
            }
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        match &mut self.end {
            End::Signals(handle) => handle.close(),
            End::Dropped(sender) => drop(sender.take()),
            End::StopFlag => {}
        }
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed and harms nothing else.
            let _ = thread.join();
        }
    }
}
