//! `eyas run`: the daemon.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::access::Door;
pub use super::config::Args;
use super::config::Settings;
use super::load::LoadedDetector;
use super::mqtt;
use super::pins;
use super::reload::{Next, Prepared, Reload, Request, detect_with};
use super::service;
use super::status::{self, Seen};
use super::terminal::{self, RawMode};
use crate::error::{Error, Result};
use crate::pipeline::{Pipeline, Stop};
use crate::sink::Sink;
use crate::sink::events::EventsSink;
use crate::sink::mqtt::{Counting, MqttSink};
use crate::sink::snapshot::SnapshotSink;
use crate::sink::track_events::TrackEventsSink;
use crate::sink::web::{About, Page, WebSink};
use crate::sink::window::Window;
use crate::source::{self, Masks};
use crate::telemetry::Telemetry;
use crate::track::{SharedRules, Watch, Zone};

const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until the source ends, `--frames` is reached, `q` is typed or a signal asks to end. SIGHUP reloads threshold,
/// labels, model, zones, masks and rules for classes, or ends the run where it means that the terminal has gone.
pub fn run(args: Args) -> Result<()> {
    let settings = Settings::resolve(args.clone())?;
    let Prepared { loaded, rules } = Prepared::load(&settings, settings.model.threshold())?;
    pins::check_labels(&settings, loaded.detector.labels())?;
    let (masks, rules) = (Masks::new(rules.masks.clone()), SharedRules::new(rules));
    let source = source::open(&settings.source, settings.source_options)?;
    let (stop, telemetry, seen) = (Stop::new(), Arc::new(Telemetry::default()), Seen::default());
    let window = open_window(&settings, source.name(), &telemetry)?;
    let pipe_closed = Arc::new(AtomicBool::new(false));
    let Outputs { mut sinks, page } = open_sinks(
        &settings,
        source.name(),
        &loaded,
        &telemetry,
        &stop,
        &pipe_closed,
    )?;
    sinks.extend(open_mqtt(
        &settings,
        &loaded,
        &rules.get().zones,
        &telemetry,
    )?);
    sinks.push(Box::new(seen.clone()));
    if let Some(window) = &window {
        sinks.push(Box::new(window.sink()));
    }

    let next = Next::default();
    let reload = Reload {
        args,
        settings: settings.clone(),
        threshold: loaded.threshold,
        masks: masks.clone(),
        next: next.clone(),
    };
    let signals = Watcher::signals(&stop, reload.start()?)?;
    // Lines of events on a terminal in raw mode would run down like stairs.
    let keys_free = settings.source != "-"
        && !settings.source.starts_with("raw:")
        && io::stderr().is_terminal()
        && !(settings.events_to_stdout() && io::stdout().is_terminal());
    let keys = keys_free.then(|| Watcher::keys(&stop)).flatten();
    let ticker = Watcher::status(telemetry.clone(), seen)?;
    service::ready(&stop);

    let pipeline = Pipeline {
        source,
        masks,
        watch: if settings.track {
            Watch::following(rules.clone())
        } else {
            Watch::sifting(rules.clone())
        },
        detect: detect_with(loaded.detector, rules, next, page),
        sinks,
        telemetry: telemetry.clone(),
        stop: stop.clone(),
        frame_limit: settings.frames,
    };
    let ended = match window {
        Some(window) => run_beside(window, pipeline, &stop),
        None => pipeline.run(),
    };

    // The key thread ends with the stop flag.
    stop.stop();
    drop((ticker, keys, signals));
    terminal::clear_line();
    if !pipe_closed.load(Ordering::Relaxed) {
        let text = status::summary(&telemetry.snapshot());
        terminal::say(log::Level::Info, &text);
    }
    ended
}

fn open_window(
    settings: &Settings,
    source_name: &str,
    telemetry: &Arc<Telemetry>,
) -> Result<Option<Window>> {
    let open = || Window::open(format!("eyas: {source_name}"), telemetry.clone());
    settings.display.then(open).transpose()
}

/// Gives this thread, the main one, to the window, and one of its own to the pipeline. Each ends with the other.
fn run_beside(window: Window, pipeline: Pipeline, stop: &Stop) -> Result<()> {
    let closer = window.closer();
    stop.on_stop(move || closer.close());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let ended = pipeline.run();
            stop.stop();
            ended
        });
        let shown = window.run(|| stop.stop());
        stop.stop();
        let panicked = |_| Err(Error::Internal("the pipeline thread panicked".into()));
        running.join().unwrap_or_else(panicked).and(shown)
    })
}

/// Where results go.
struct Outputs {
    sinks: Vec<Box<dyn Sink>>,
    /// A handle to the live page, if there is one.
    page: Option<Page>,
}

fn open_sinks(
    settings: &Settings,
    source_name: &str,
    loaded: &LoadedDetector,
    telemetry: &Arc<Telemetry>,
    stop: &Stop,
    pipe_closed: &Arc<AtomicBool>,
) -> Result<Outputs> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    let mut page = None;
    if let Some(listen) = settings.listen {
        let about = About {
            model: loaded.model_name.clone(),
            engine: loaded.engine_summary.clone(),
            source: source_name.into(),
        };
        let door = Door::new(listen, settings.token_file.as_deref())?;
        let threshold = loaded.threshold.clone();
        let web = WebSink::start(listen, door.token(), about, threshold, telemetry.clone())?;
        door.announce(web.address());
        page = Some(web.page());
        sinks.push(Box::new(web));
    }
    let end_at_closed_pipe = || {
        let (stop, closed) = (stop.clone(), pipe_closed.clone());
        move || {
            closed.store(true, Ordering::Relaxed);
            stop.stop();
        }
    };
    if let Some(target) = &settings.events {
        sinks.push(Box::new(EventsSink::open(target, end_at_closed_pipe())?));
    }
    if let Some(target) = &settings.track_events {
        let sink = TrackEventsSink::open(target, end_at_closed_pipe())?;
        sinks.push(Box::new(sink));
    }
    if let Some(folder) = &settings.snapshots {
        sinks.push(Box::new(SnapshotSink::new(folder)?));
    }
    if let Some(gpio) = pins::open(settings, telemetry, stop)? {
        sinks.push(Box::new(gpio));
    }
    Ok(Outputs { sinks, page })
}

fn open_mqtt(
    settings: &Settings,
    loaded: &LoadedDetector,
    zones: &[Zone],
    telemetry: &Arc<Telemetry>,
) -> Result<Option<Box<dyn Sink>>> {
    let counting = if settings.track {
        Counting::Tracks
    } else {
        Counting::Detections
    };
    let groups = mqtt::groups(loaded.detector.labels(), zones);
    let Some(mqtt) = settings.mqtt.settings(counting, groups)? else {
        return Ok(None);
    };
    Ok(Some(Box::new(MqttSink::start(mqtt, telemetry.clone())?)))
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

    /// The first signal to end asks, the second does not ask. SIGHUP asks for a reload, unless eyas belongs to a terminal:
    /// then it says that nobody is there any more.
    fn signals(stop: &Stop, reload: Request) -> Result<Self> {
        let on_terminal = io::stdin().is_terminal() || io::stderr().is_terminal();
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Error::io("listen for signals"))?;
        let (handle, stop) = (signals.handle(), stop.clone());
        Self::spawn("signals", End::Signals(handle), move || {
            for signal in signals.forever() {
                if signal == SIGHUP && !on_terminal {
                    reload.send();
                    continue;
                }
                if stop.is_stopped() {
                    terminal::restore();
                    std::process::exit(super::INTERRUPTED);
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

    /// The status goes to systemd where it listens (a line for the journal now and then would only wear the disk), else
    /// to stderr.
    fn status(telemetry: Arc<Telemetry>, seen: Seen) -> Result<Self> {
        let on_terminal = io::stderr().is_terminal();
        let (sender, dropped) = mpsc::channel();
        if service::is_supervised() {
            return Self::spawn("service", End::Dropped(Some(sender)), move || {
                service::watch(&telemetry, &seen, &dropped);
            });
        }
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
