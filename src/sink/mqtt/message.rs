//! The form of what is published.

use std::sync::Arc;

use rumqttc::{LastWill, QoS};
use serde::Serialize;

use super::discovery::HomeAssistant;
use super::outbox::Due;
use super::topics::Topics;
use crate::telemetry::{Snapshot, Telemetry};

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub topic: String,
    pub payload: String,
    pub kind: Kind,
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It holds until the next one: the broker keeps it for those who come later.
    State,
    /// It happened once and shall arrive.
    Event,
    /// There will soon be a newer one.
    Sample,
}

impl Kind {
    pub fn qos(self) -> QoS {
        match self {
            Self::State | Self::Event => QoS::AtLeastOnce,
            Self::Sample => QoS::AtMostOnce,
        }
    }

    pub fn is_retained(self) -> bool {
        self == Self::State
    }
}

/// What messages are made from.
#[derive(Debug)]
pub(super) struct Messages {
    pub name: String,
    pub client_id: String,
    pub topics: Topics,
    pub home_assistant: Option<HomeAssistant>,
    pub telemetry: Arc<Telemetry>,
}

/// The message on the topic `status`: what `/api/status` says of the run, and of whom it is.
#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    client_id: &'a str,
    version: &'static str,
    #[serde(flatten)]
    snapshot: Snapshot,
}

impl Messages {
    /// `None` if nobody is to be told.
    pub fn message(&self, due: Due) -> Option<Message> {
        let topics = &self.topics;
        let (topic, payload, kind) = match due {
            Due::Availability => (topics.availability(), "online".into(), Kind::State),
            Due::Announcement { counted, forgotten } => {
                let home = self.home_assistant.as_ref()?;
                let device = home.device(&self.name, topics, &counted, &forgotten);
                (home.topic(), device, Kind::State)
            }
            Due::Event(line) => (topics.events(), line, Kind::Event),
            Due::Count { key, objects } => (topics.below(&key), objects.to_string(), Kind::State),
            Due::NoCount { key } => (topics.below(&key), String::new(), Kind::State),
            Due::Status => (topics.status(), self.status(), Kind::State),
            Due::Detections(line) => (topics.detections(), line, Kind::Sample),
        };
        Some(Message {
            topic,
            payload,
            kind,
        })
    }

    /// The last message of a run.
    pub fn offline(&self) -> Message {
        Message {
            topic: self.topics.availability(),
            payload: "offline".into(),
            kind: Kind::State,
        }
    }

    /// The same, for the broker to publish when this eyas cannot.
    pub fn last_will(&self) -> LastWill {
        let Message {
            topic,
            payload,
            kind,
        } = self.offline();
        LastWill::new(topic, payload, kind.qos(), kind.is_retained())
    }

    fn status(&self) -> String {
        let status = Status {
            name: &self.name,
            client_id: &self.client_id,
            version: env!("CARGO_PKG_VERSION"),
            snapshot: self.telemetry.snapshot(),
        };
        serde_json::to_string(&status).expect("a status of strings and numbers is always JSON")
    }

    /// Whether a message on the topic `status` tells of another eyas with the same name.
    pub fn is_of_another(&self, status: &[u8]) -> bool {
        let status: Option<serde_json::Value> = serde_json::from_slice(status).ok();
        status.is_some_and(|status| status["client_id"] != *self.client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(home_assistant: Option<HomeAssistant>) -> Messages {
        Messages {
            name: "gate".into(),
            client_id: "eyas-gate-1".into(),
            topics: Topics::new("eyas", "gate"),
            home_assistant,
            telemetry: Arc::default(),
        }
    }

    #[test]
    fn states_are_retained_and_samples_may_be_lost() {
        let messages = messages(None);
        let qos = |due| messages.message(due).unwrap().kind;
        let (key, line) = (|| "count/cat".to_string(), || "{}".to_string());
        assert_eq!(qos(Due::Availability), Kind::State);
        assert_eq!(qos(Due::NoCount { key: key() }), Kind::State);
        assert_eq!(qos(Due::Status), Kind::State);
        assert_eq!(qos(Due::Event(line())), Kind::Event);
        assert_eq!(qos(Due::Detections(line())), Kind::Sample);
        let count = messages.message(Due::Count {
            key: key(),
            objects: 2,
        });
        let expected = Message {
            topic: "eyas/gate/count/cat".into(),
            payload: "2".into(),
            kind: Kind::State,
        };
        assert_eq!(count, Some(expected));
    }

    #[test]
    fn the_last_will_is_the_farewell() {
        let will = messages(None).last_will();
        assert_eq!(
            (&*will.topic, &*will.message),
            ("eyas/gate/availability", &b"offline"[..])
        );
        assert!(will.retain && will.qos == QoS::AtLeastOnce);
    }

    #[test]
    fn nothing_is_announced_where_nobody_discovers() {
        let announcement = || Due::Announcement {
            counted: Vec::new(),
            forgotten: Vec::new(),
        };
        assert_eq!(messages(None).message(announcement()), None);
        let home = HomeAssistant::new("homeassistant", "eyas", "gate");
        let message = messages(Some(home)).message(announcement()).unwrap();
        assert_eq!(message.topic, "homeassistant/device/eyas_gate/config");
    }

    #[test]
    fn a_namesake_is_told_by_its_status() {
        let messages = messages(None);
        let status = messages.message(Due::Status).unwrap().payload;
        assert!(!messages.is_of_another(status.as_bytes()));
        let other = status.replace("eyas-gate-1", "eyas-gate-2");
        assert!(messages.is_of_another(other.as_bytes()));
        assert!(!messages.is_of_another(b"noise"));
    }
}
