//! SIGHUP: threshold, labels, model, zones, masks and rules for classes are read again while frames go on.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::config::{Args, Settings};
use super::load::{LoadedDetector, Work, load_detector_with};
use super::service;
use crate::detect::{Detector, Threshold};
use crate::error::{Error, Result};
use crate::pipeline::Detect;
use crate::sink::web::Page;
use crate::source::Masks;
use crate::track::{LEAST_CONFIDENCE, Rules, SharedRules};

/// A detector as the settings want it, and the rules for what it finds.
pub(super) struct Prepared {
    pub loaded: LoadedDetector,
    pub rules: Rules,
}

impl Prepared {
    /// Loads the model and fits the rules to its labels.
    pub fn load(settings: &Settings, threshold: Threshold) -> Result<Self> {
        let mut loaded = load_detector_with(&settings.model, Work::Live, threshold)?;
        let labels = loaded.detector.labels();
        let rules = settings.places.rules(labels)?;
        let thresholds = settings.places.thresholds(labels)?;
        loaded.detector = loaded.detector.with_class_thresholds(thresholds);
        if settings.track {
            loaded.detector = loaded.detector.with_faint(LEAST_CONFIDENCE);
        }
        Ok(Self { loaded, rules })
    }
}

/// What the next frame is to be looked at with.
struct Replacement {
    prepared: Prepared,
    confidence: f32,
}

/// Where a reload leaves the new detector for the thread that detects.
#[derive(Clone, Default)]
pub(super) struct Next(Arc<Mutex<Option<Replacement>>>);

impl Next {
    fn put(&self, replacement: Replacement) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(replacement);
    }

    fn take(&self) -> Option<Replacement> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Detects with `detector` until a reload has left another: that one, its threshold and its rules hold from the next
/// frame on, so that every frame is judged by one model, one set of labels and one threshold.
pub(super) fn detect_with(
    mut detector: Detector,
    rules: SharedRules,
    next: Next,
    page: Option<Page>,
) -> Detect {
    Box::new(move |frame| {
        if let Some(Replacement {
            prepared,
            confidence,
        }) = next.take()
        {
            let loaded = prepared.loaded;
            loaded.threshold.set(confidence);
            rules.set(prepared.rules);
            if let Some(page) = &page {
                page.set_model(&loaded.model_name, &loaded.engine_summary);
            }
            detector = loaded.detector;
        }
        detector.detect(frame)
    })
}

/// What a reload starts from.
pub(super) struct Reload {
    /// The flags, which win over the configuration file this time too.
    pub args: Args,
    pub settings: Settings,
    /// The one that the page moves.
    pub threshold: Threshold,
    pub masks: Masks,
    pub next: Next,
}

impl Reload {
    /// Starts the thread that reloads whenever it is asked to through what is returned. It is not waited for at the
    /// end: it may be reading a large file.
    pub fn start(self) -> Result<Request> {
        let (request, requests) = sync_channel(1);
        std::thread::Builder::new()
            .name("reload".into())
            .spawn(move || {
                for () in requests {
                    service::reloading(|| self.run());
                }
            })
            .map_err(Error::io("start the reload thread"))?;
        Ok(Request(request))
    }

    /// A model or a file that cannot be used leaves everything as it was.
    fn run(&self) {
        match self.load() {
            Ok(replacement) => {
                log::info!(
                    "reloaded: {}, confidence {}",
                    replacement.prepared.loaded.model_name,
                    replacement.confidence
                );
                // At once: what is to be hidden need not wait for what is to be found.
                self.masks.set(replacement.prepared.rules.masks.clone());
                self.next.put(replacement);
            }
            Err(error) => log::error!("not reloaded, all goes on as before: {error}"),
        }
    }

    fn load(&self) -> Result<Replacement> {
        let settings = Settings::resolve(self.args.clone())?;
        for key in self.settings.changes_for_a_restart(&settings) {
            log::warn!("`{key}` has changed and takes effect with a restart");
        }
        let confidence = settings.model.threshold().get();
        let prepared = Prepared::load(&settings, self.threshold.clone())?;
        Ok(Replacement {
            prepared,
            confidence,
        })
    }
}

/// Asks for a reload.
pub(super) struct Request(SyncSender<()>);

impl Request {
    /// Returns at once. A request that already waits will do for this one too.
    pub fn send(&self) {
        if let Err(TrySendError::Disconnected(())) = self.0.try_send(()) {
            log::error!("not reloaded: the reload thread has ended");
        }
    }
}
