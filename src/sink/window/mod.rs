//! The live picture in a window of this machine's desktop.

mod app;
mod paint;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use winit::event_loop::{EventLoop, EventLoopProxy};

use super::{Delivery, Scene, Sink};
use crate::error::{Error, Result};
use crate::telemetry::Telemetry;
use app::App;

/// What wakes the window's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Scene,
    End,
}

/// The newest scene, until the window takes it.
type Slot = Arc<Mutex<Option<Arc<Scene>>>>;

/// A window that has yet to be shown. It belongs to the main thread.
pub struct Window {
    event_loop: EventLoop<Wake>,
    slot: Slot,
    telemetry: Arc<Telemetry>,
    title: String,
}

impl Window {
    /// Connects to the desktop. An error without an X11 display.
    ///
    /// # Panics
    /// On another thread than the main one.
    pub fn open(title: String, telemetry: Arc<Telemetry>) -> Result<Self> {
        let build = || EventLoop::with_user_event().build();
        // winit panics where X11 lacks an extension or a library.
        let event_loop = match catch_unwind(AssertUnwindSafe(build)) {
            Ok(Ok(event_loop)) => event_loop,
            Ok(Err(error)) => return Err(no_window(&error.to_string())),
            Err(_) => return Err(no_window("a library of X11 is missing")),
        };
        Ok(Self {
            event_loop,
            slot: Slot::default(),
            telemetry,
            title,
        })
    }

    /// The sink that feeds it.
    pub fn sink(&self) -> WindowSink {
        WindowSink {
            slot: self.slot.clone(),
            closer: self.closer(),
        }
    }

    /// A handle to close it with.
    pub fn closer(&self) -> Closer {
        Closer(self.event_loop.create_proxy())
    }

    /// Shows it until it is closed. `on_close` is called when the user does that: by `q`, Esc or the window's own button.
    pub fn run(self, on_close: impl Fn()) -> Result<()> {
        let mut app = App::new(self.slot, self.telemetry, self.title, on_close);
        let event_loop = self.event_loop;
        // winit panics where the desktop breaks off.
        let ran = catch_unwind(AssertUnwindSafe(|| event_loop.run_app(&mut app)));
        let failure = match (app.failure(), ran) {
            (Some(failure), _) => failure,
            (None, Ok(Ok(()))) => return Ok(()),
            (None, Ok(Err(error))) => error.to_string(),
            (None, Err(_)) => "the desktop has broken off".into(),
        };
        Err(no_window(&failure))
    }
}

/// Closes the window, from any thread.
#[derive(Clone)]
pub struct Closer(EventLoopProxy<Wake>);

impl Closer {
    /// Asks the window to close.
    pub fn close(&self) {
        // It may be closed already.
        let _ = self.0.send_event(Wake::End);
    }
}

/// Hands the newest scene to the window, which draws it on its own thread.
pub struct WindowSink {
    slot: Slot,
    closer: Closer,
}

impl Sink for WindowSink {
    fn name(&self) -> &str {
        "window"
    }

    fn delivery(&self) -> Delivery {
        Delivery::Newest
    }

    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = slot.replace(scene.clone()).is_some();
        drop(slot);
        if !is_told {
            // It may be closed already.
            let _ = self.closer.0.send_event(Wake::Scene);
        }
        Ok(())
    }
}

fn no_window(reason: &str) -> Error {
    Error::Usage(format!(
        "--display: no window can be shown ({reason}); start eyas on the desktop of this machine, or from elsewhere with \
         DISPLAY=:0; where there is none, watch the live page"
    ))
}
