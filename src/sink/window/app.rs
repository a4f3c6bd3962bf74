//! What the window does with events.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use softbuffer::{Context, Surface};
use winit::application::ApplicationHandler;
use winit::dpi::PhysicalSize;
use winit::event::{ElementState, KeyEvent, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, OwnedDisplayHandle};
use winit::keyboard::{Key, NamedKey};
use winit::window::{Fullscreen, Window, WindowId};

use super::{Slot, Wake, paint};
use crate::sink::Scene;
use crate::telemetry::{SourceState, Telemetry};

/// How often the state of the source is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Before the size of the pictures is known.
const FIRST_SIZE: PhysicalSize<u32> = PhysicalSize::new(640, 480);

pub(super) struct App<F> {
    slot: Slot,
    telemetry: Arc<Telemetry>,
    title: String,
    on_close: F,
    surface: Option<Surface<OwnedDisplayHandle, Rc<Window>>>,
    scene: Option<Arc<Scene>>,
    source: SourceState,
    failure: Option<String>,
}

impl<F: Fn()> App<F> {
    pub fn new(slot: Slot, telemetry: Arc<Telemetry>, title: String, on_close: F) -> Self {
        Self {
            slot,
            source: telemetry.source(),
            telemetry,
            title,
            on_close,
            surface: None,
            scene: None,
            failure: None,
        }
    }

    /// Why it ended before it was closed.
    pub fn failure(self) -> Option<String> {
        self.failure
    }

    fn open(&mut self, event_loop: &ActiveEventLoop) -> Result<(), String> {
        let attributes = Window::default_attributes()
            .with_title(&self.title)
            .with_inner_size(FIRST_SIZE);
        let window = event_loop
            .create_window(attributes)
            .map_err(|error| error.to_string())?;
        let display = event_loop.owned_display_handle();
        let surface = Context::new(display)
            .and_then(|context| Surface::new(&context, Rc::new(window)))
            .map_err(|error| error.to_string())?;
        self.surface = Some(surface);
        Ok(())
    }

    fn draw(&mut self) -> Result<(), String> {
        let Some(surface) = &mut self.surface else {
            return Ok(());
        };
        let size = surface.window().inner_size();
        // A minimized window has no size.
        let (Some(width), Some(height)) =
            (NonZeroU32::new(size.width), NonZeroU32::new(size.height))
        else {
            return Ok(());
        };
        surface
            .resize(width, height)
            .map_err(|error| error.to_string())?;
        let mut buffer = surface.buffer_mut().map_err(|error| error.to_string())?;
        paint::paint(
            &mut buffer,
            [size.width, size.height],
            self.scene.as_deref(),
            caption(&self.source).as_deref(),
        );
        buffer.present().map_err(|error| error.to_string())
    }

    fn redraw(&self) {
        if let Some(surface) = &self.surface {
            surface.window().request_redraw();
        }
    }

    /// The first scene gives the window its size, as far as the screen allows.
    fn take_scene(&mut self) {
        let newest = self
            .slot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(scene) = newest else { return };
        if let (None, Some(surface)) = (&self.scene, &self.surface) {
            let window = surface.window();
            let mut size = [scene.frame.width as u32, scene.frame.height as u32];
            if let Some(screen) = window.current_monitor().map(|monitor| monitor.size())
                && (size[0] > screen.width || size[1] > screen.height)
            {
                size = paint::fitted(size, [screen.width, screen.height]);
            }
            // The window's manager may decide otherwise.
            let _ = window.request_inner_size(PhysicalSize::new(size[0], size[1]));
        }
        self.scene = Some(scene);
        self.redraw();
    }

    fn toggle_fullscreen(&self) {
        if let Some(surface) = &self.surface {
            let window = surface.window();
            let next = match window.fullscreen() {
                Some(_) => None,
                None => Some(Fullscreen::Borderless(None)),
            };
            window.set_fullscreen(next);
        }
    }

    fn key(&mut self, event_loop: &ActiveEventLoop, key: &KeyEvent) {
        if key.state != ElementState::Pressed || key.repeat {
            return;
        }
        match key.logical_key.as_ref() {
            Key::Named(NamedKey::Escape) | Key::Character("q" | "Q") => self.close(event_loop),
            Key::Character("f" | "F") => self.toggle_fullscreen(),
            _ => {}
        }
    }

    fn close(&self, event_loop: &ActiveEventLoop) {
        (self.on_close)();
        event_loop.exit();
    }

    fn keep(&mut self, event_loop: &ActiveEventLoop, outcome: Result<(), String>) {
        if let Err(reason) = outcome {
            self.failure = Some(reason);
            event_loop.exit();
        }
    }
}

impl<F: Fn()> ApplicationHandler<Wake> for App<F> {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.surface.is_none() {
            let opened = self.open(event_loop);
            self.keep(event_loop, opened);
        }
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, wake: Wake) {
        match wake {
            Wake::Scene => self.take_scene(),
            Wake::End => event_loop.exit(),
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::CloseRequested => self.close(event_loop),
            WindowEvent::KeyboardInput { event, .. } => self.key(event_loop, &event),
            WindowEvent::Resized(_) => self.redraw(),
            WindowEvent::RedrawRequested => {
                let drawn = self.draw();
                self.keep(event_loop, drawn);
            }
            _ => {}
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let source = self.telemetry.source();
        if source != self.source {
            self.source = source;
            self.redraw();
        }
        event_loop.set_control_flow(ControlFlow::WaitUntil(Instant::now() + LOOK));
    }
}

/// What is written over the picture.
fn caption(source: &SourceState) -> Option<String> {
    match source {
        SourceState::Live => None,
        SourceState::Starting => Some("waiting for the first picture".into()),
        SourceState::NoSignal { reason } => Some(format!("no signal\n{reason}")),
        SourceState::Ended => Some("ended".into()),
    }
}
