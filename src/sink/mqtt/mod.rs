//! What is found, counts, events and health for an MQTT broker.

mod client;
mod discovery;
mod failure;
mod message;
mod outbox;
mod retry;
mod tls;
mod topics;
mod url;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{MqttOptions, Transport};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::events::EventRecord;
use super::{Delivery, Scene, Sink};
use crate::detect::Detection;
use crate::error::{Error, Result};
use crate::telemetry::Telemetry;
use crate::telemetry::broker::BrokerLink;
use crate::track::TrackEvent;
use client::{Client, Shared};
use discovery::HomeAssistant;
use message::Messages;
use outbox::Outbox;
use topics::{Counted, Topics};

pub use topics::Group;
pub use url::{BrokerUrl, Security};

/// A machine that is gone is taken for offline after one and a half times this (MQTT 3.1.1, section 3.1.2.10).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const MAX_INCOMING: usize = 64 * 1024;
/// Enough to announce a thousand labels.
const MAX_OUTGOING: usize = 1024 * 1024;
/// Where there are more labels than this, each is announced when it is seen for the first time.
const ANNOUNCED_AT_ONCE: usize = 20;
const MAX_NAME: usize = 64;

/// Which broker is told, and how this eyas is called there.
#[derive(Clone, Debug)]
pub struct Settings {
    pub url: BrokerUrl,
    pub password: Option<Password>,
    /// PEM file with the authorities to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// A level of topics: see [`parse_name`].
    pub name: String,
    /// The topic below which Home Assistant discovers devices, if it shall.
    pub discovery: Option<String>,
    pub counting: Counting,
    /// What can be counted.
    pub groups: Vec<Group>,
}

/// What counts count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// The detections of the newest scene.
    Detections,
    /// The objects that are followed, in the whole picture and in zones.
    Tracks,
}

/// A secret. `Debug` does not show it.
#[derive(Clone)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The name of an eyas: 1 to 64 of `A-Z a-z 0-9 - _`, which topics, client ids and Home Assistant's ids all allow.
pub fn parse_name(text: &str) -> std::result::Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(is_plain) {
        return Err(format!("not 1 to {MAX_NAME} of A-Z a-z 0-9 - _"));
    }
    Ok(text.into())
}

/// A topic as [`Settings::discovery`] takes it.
pub fn parse_topic(text: &str) -> std::result::Result<String, String> {
    if text.split('/').all(topics::is_level) {
        return Ok(text.into());
    }
    Err("not a topic of letters, digits and -_. with / between".into())
}

/// Publishes from a thread of its own. Whatever becomes of the broker, [`Sink::consume`] does not wait.
pub struct MqttSink {
    shared: Arc<Shared>,
    link: Arc<BrokerLink>,
    telemetry: Arc<Telemetry>,
    counting: Counting,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl MqttSink {
    /// Starts to connect. A broker that is not there is no error: it is tried again and again.
    pub fn start(settings: Settings, telemetry: Arc<Telemetry>) -> Result<Self> {
        let seed = random()?;
        let link = telemetry.broker(&settings.url.to_string());
        let few = |group: &&Group| group.labels.len() <= ANNOUNCED_AT_ONCE;
        let announced = settings.groups.iter().filter(few).flat_map(Group::counted);
        let outbox = Outbox::new(announced, Instant::now());
        let shared = Arc::new(Shared::new(outbox));
        let messages = messages(&settings, seed, telemetry.clone());
        let client = Client {
            options: options(&settings, &messages)?,
            url: settings.url,
            messages,
            groups: settings.groups,
            shared: shared.clone(),
            link: link.clone(),
            namesake_told: Cell::new(false),
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .map_err(Error::io("start the MQTT client"))?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("mqtt".into())
            .spawn(move || run(runtime, client, seed, stopped))
            .map_err(Error::io("start the MQTT client's thread"))?;
        Ok(Self {
            shared,
            link,
            telemetry,
            counting: settings.counting,
            stop,
            thread: Some(thread),
        })
    }

    fn counts(&self, detections: &[Detection]) -> BTreeMap<Counted, usize> {
        let mut counts = BTreeMap::new();
        match self.counting {
            Counting::Detections => {
                for detection in detections {
                    *counts.entry(Counted::label(&detection.label)).or_default() += 1;
                }
            }
            Counting::Tracks => {
                let objects = self.telemetry.objects();
                for count in objects.tracks {
                    counts.insert(Counted::label(&count.label), count.now);
                }
                for count in objects.zones {
                    counts.insert(Counted::in_zone(&count.zone, &count.label), count.now);
                }
            }
        }
        counts
    }

    fn tell_events(&self, events: &[TrackEvent]) {
        let lines = events.iter().map(TrackEvent::to_line);
        let dropped = self.shared.put(|outbox| outbox.events(lines));
        self.link.dropped(dropped);
    }
}

fn messages(settings: &Settings, seed: u32, telemetry: Arc<Telemetry>) -> Messages {
    let (prefix, name) = (&settings.url.prefix, &settings.name);
    let home_assistant = settings.discovery.as_ref();
    Messages {
        name: name.clone(),
        client_id: format!("eyas-{name}-{seed:08x}"),
        topics: Topics::new(prefix, name),
        home_assistant: home_assistant.map(|topic| HomeAssistant::new(topic, prefix, name)),
        telemetry,
    }
}

fn options(settings: &Settings, messages: &Messages) -> Result<MqttOptions> {
    let url = &settings.url;
    let mut options = MqttOptions::new(&messages.client_id, &url.host, url.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(MAX_INCOMING, MAX_OUTGOING)
        .set_last_will(messages.last_will());
    if let Some(user) = &url.user {
        let password = settings.password.as_ref();
        options.set_credentials(user, password.map_or("", |password| &password.0));
    }
    if url.security == Security::Tls {
        let config = tls::client_config(settings.ca.as_deref())?;
        options.set_transport(Transport::tls_with_config(config.into()));
    }
    Ok(options)
}

fn random() -> Result<u32> {
    getrandom::u32()
        .map_err(|error| Error::Internal(format!("no random number for a client id: {error}")))
}

fn run(runtime: Runtime, client: Client, seed: u32, stopped: watch::Receiver<bool>) {
    runtime.block_on(client.run(seed, stopped));
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
}

impl Sink for MqttSink {
    fn name(&self) -> &str {
        "mqtt"
    }

    fn delivery(&self) -> Delivery {
        Delivery::Every
    }

    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(Error::Internal("the MQTT client has ended".into()));
        }
        let line = || EventRecord::new(scene).to_line();
        let counts = self.counts(&scene.detections);
        self.shared.put(|outbox| {
            outbox.detections(line, scene.detections.is_empty());
            outbox.counts(counts, Instant::now());
        });
        self.tell_events(&scene.events);
        Ok(())
    }

    fn tracks_ended(&mut self, events: &[TrackEvent]) -> Result<()> {
        let counts = self.counts(&[]);
        self.shared
            .put(|outbox| outbox.counts(counts, Instant::now()));
        self.tell_events(events);
        Ok(())
    }
}

impl Drop for MqttSink {
    fn drop(&mut self) {
        // The client's thread holds the receiver until it ends.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the MQTT client's thread panicked");
        }
    }
}
