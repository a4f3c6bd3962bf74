//! A thread that opens a camera and takes pictures. Whoever looks at it from outside never waits for the driver.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::device::{Failure, Open, Shot};
use crate::error::{Error, Result};

/// What a look at a worker gave.
#[derive(Debug)]
pub(super) enum Look {
    /// The newest shot, and how many have been taken before it.
    Shot(Shot, u64),
    /// Nothing new; how long ago the worker last gave a sign of life.
    Silent(Duration),
    /// It takes no more pictures.
    Ended(Failure),
}

/// A camera being read. Dropping it asks the thread to end and does not wait.
pub(super) struct Worker(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    newest: Option<Shot>,
    taken: u64,
    alive: Instant,
    ended: Option<Failure>,
    cancelled: bool,
}

impl Worker {
    pub(super) fn start(name: &str, open: Arc<Open>) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                newest: None,
                taken: 0,
                alive: Instant::now(),
                ended: None,
                cancelled: false,
            }),
            changed: Condvar::new(),
        });
        let inside = shared.clone();
        let work = move || {
            // The libraries under a camera panic on some answers of drivers, also while they close it.
            let read = catch_unwind(AssertUnwindSafe(|| read(&open, &inside)));
            let panicked = "the driver gave an answer that a library could not take";
            inside.end(read.unwrap_or_else(|_| Failure::Passing(panicked.into())));
        };
        std::thread::Builder::new()
            .name("camera".into())
            .spawn(work)
            .map_err(Error::io(format!("start a thread for {name}")))?;
        Ok(Self(shared))
    }

    /// Waits for a shot, at most so long.
    pub(super) fn look(&self, patience: Duration) -> Look {
        let waits = |state: &mut State| state.newest.is_none() && state.ended.is_none();
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), patience, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (state.newest.take(), &state.ended) {
            (Some(shot), _) => Look::Shot(shot, state.taken - 1),
            (None, Some(failure)) => Look::Ended(failure.clone()),
            (None, None) => Look::Silent(state.alive.elapsed()),
        }
    }

    /// Whether the thread has let go of the camera.
    pub(super) fn has_ended(&self) -> bool {
        self.0.lock().ended.is_some()
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.0.lock().taken
    }

    /// Asks the thread to end as soon as the driver lets it.
    pub(super) fn cancel(&self) {
        self.0.lock().cancelled = true;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a shot in place of the last. `false` if nobody wants it.
    fn put(&self, shot: Shot) -> bool {
        let mut state = self.lock();
        state.newest = Some(shot);
        state.taken += 1;
        state.alive = Instant::now();
        self.changed.notify_all();
        !state.cancelled
    }

    fn end(&self, failure: Failure) {
        self.lock().ended = Some(failure);
        self.changed.notify_all();
    }
}

/// Takes pictures until the camera fails or nobody wants them.
fn read(open: &Arc<Open>, shared: &Shared) -> Failure {
    let mut device = match open() {
        Ok(device) => device,
        Err(failure) => return failure,
    };
    loop {
        let shot = match device.shoot() {
            Ok(shot) => shot,
            Err(failure) => return failure,
        };
        if !shared.put(shot) {
            return Failure::Passing("given up".into());
        }
    }
}
