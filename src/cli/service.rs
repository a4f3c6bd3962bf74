//! What systemd is told (sd_notify(3)): readiness, progress, status, reloads, the end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::status::{self, Seen};
use crate::pipeline::Stop;
use crate::telemetry::{SourceState, Telemetry};

const TICK: Duration = Duration::from_secs(1);
/// The status is told so often, and whenever the source's state changes.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Whether a service manager listens.
pub(super) fn is_supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells that the page listens and frames are waited for, and that the end begins once somebody asks for it.
pub(super) fn ready(stop: &Stop) {
    tell(&[NotifyState::Ready]);
    stop.on_stop(|| tell(&[NotifyState::Stopping]));
}

/// Runs `work`, a reload, and tells when it begins and ends.
pub(super) fn reloading<T>(work: impl FnOnce() -> T) -> T {
    let mut states = vec![NotifyState::Reloading];
    // From systemd 253 on a reload without the time counts as failed.
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
    let done = work();
    tell(&[NotifyState::Ready]);
    done
}

/// Feeds the watchdog and tells the status, until `dropped` says that this is over.
///
/// The watchdog is fed by progress alone, see [`Telemetry::progress`]: newly inferred frames, or while there is no
/// signal the source's repeated word that it still tries. A detector or a source that hangs ends in a restart.
pub(super) fn watch(telemetry: &Arc<Telemetry>, seen: &Seen, dropped: &Receiver<()>) {
    let watchdog = sd_notify::watchdog_enabled();
    let tick = watchdog.map_or(TICK, |limit| TICK.min(limit / 4));
    let mut fed_at = telemetry.progress();
    let mut told = None;
    while dropped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
        let progress = telemetry.progress();
        if watchdog.is_some() && progress != fed_at {
            fed_at = progress;
            tell(&[NotifyState::Watchdog]);
        }
        let snapshot = telemetry.snapshot();
        if is_due(told.as_ref(), &snapshot.source) {
            tell(&[NotifyState::Status(&status::line(&snapshot, seen))]);
            told = Some((Instant::now(), snapshot.source));
        }
    }
}

fn is_due(told: Option<&(Instant, SourceState)>, state: &SourceState) -> bool {
    told.is_none_or(|(at, before)| at.elapsed() >= STATUS_INTERVAL || before != state)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("systemd was not told of {states:?}: {error}");
    }
}
