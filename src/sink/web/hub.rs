//! What the sink's thread and the clients share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use super::About;
use crate::detect::Threshold;
use crate::error::Result;
use crate::sink::events::EventRecord;
use crate::sink::{Scene, jpeg};
use crate::telemetry::{Snapshot, Telemetry};

/// Clients of `/stream.mjpg`, and as many of `/events`.
pub(super) const MAX_STREAMS: usize = 32;

/// The newest scene and its picture, and what the handlers tell of the run.
pub(super) struct Hub {
    pub scenes: watch::Sender<Option<Arc<Scene>>>,
    pub pictures: watch::Sender<Option<Bytes>>,
    encoded: Mutex<Option<(Arc<Scene>, Bytes)>>,
    pub picture_clients: Arc<Semaphore>,
    pub event_clients: Arc<Semaphore>,
    pub threshold: Threshold,
    pub telemetry: Arc<Telemetry>,
    about: Mutex<About>,
}

impl Hub {
    pub fn new(about: About, threshold: Threshold, telemetry: Arc<Telemetry>) -> Self {
        Self {
            scenes: watch::Sender::new(None),
            pictures: watch::Sender::new(None),
            encoded: Mutex::new(None),
            picture_clients: Arc::new(Semaphore::new(MAX_STREAMS)),
            event_clients: Arc::new(Semaphore::new(MAX_STREAMS)),
            threshold,
            telemetry,
            about: Mutex::new(about),
        }
    }

    /// Makes a scene the newest. Draws and encodes it if somebody watches.
    pub fn publish(&self, scene: &Arc<Scene>) -> Result<()> {
        self.scenes.send_replace(Some(scene.clone()));
        if self.pictures.receiver_count() > 0 {
            self.pictures.send_replace(Some(self.jpeg(scene)?));
        }
        Ok(())
    }

    /// The newest scene.
    pub fn scene(&self) -> Option<Arc<Scene>> {
        self.scenes.borrow().clone()
    }

    /// The annotated picture of a scene, encoded once however many ask. Takes milliseconds: not for the server's thread.
    pub fn jpeg(&self, scene: &Arc<Scene>) -> Result<Bytes> {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, bytes)) = &*encoded
            && Arc::ptr_eq(known, scene)
        {
            return Ok(bytes.clone());
        }
        let bytes = Bytes::from(jpeg::annotated(scene)?);
        *encoded = Some((scene.clone(), bytes.clone()));
        Ok(bytes)
    }

    /// Another model runs from now on.
    pub fn set_model(&self, model: &str, engine: &str) {
        let mut about = self.about();
        about.model = model.into();
        about.engine = engine.into();
    }

    fn about(&self) -> MutexGuard<'_, About> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of `/api/status`.
    pub fn status(&self) -> String {
        let scene = self.scene();
        let about = self.about().clone();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            model: &about.model,
            engine: &about.engine,
            source_name: &about.source,
            confidence: self.threshold.get(),
            healthy: !self.telemetry.is_stuck(),
            snapshot: self.telemetry.snapshot(),
            scene: scene.as_deref().map(EventRecord::new),
        };
        serde_json::to_string(&status).expect("a status of strings and numbers is always JSON")
    }
}

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    model: &'a str,
    engine: &'a str,
    source_name: &'a str,
    confidence: f32,
    healthy: bool,
    #[serde(flatten)]
    snapshot: Snapshot,
    /// The newest scene.
    scene: Option<EventRecord<'a>>,
}
