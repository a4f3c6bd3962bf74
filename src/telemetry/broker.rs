//! The connection to a message broker.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::lock;

/// Whether messages get out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BrokerState {
    /// No attempt has succeeded or failed yet.
    Connecting,
    Connected,
    /// It is tried again.
    Disconnected {
        reason: String,
    },
}

/// State and counters of the connection, shared by the thread that keeps it up and those who show it.
#[derive(Debug)]
pub struct BrokerLink {
    url: String,
    state: Mutex<BrokerState>,
    connections: AtomicU64,
    published: AtomicU64,
    dropped: AtomicU64,
}

impl BrokerLink {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            state: Mutex::new(BrokerState::Connecting),
            connections: AtomicU64::new(0),
            published: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Sets the state; `true` if it was another one. Each connection is counted.
    pub fn set(&self, state: BrokerState) -> bool {
        if state == BrokerState::Connected {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
        let mut current = lock(&self.state);
        let changed = *current != state;
        *current = state;
        changed
    }

    /// A message went out.
    pub fn published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// Events were given up because too many waited.
    pub fn dropped(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> BrokerSnapshot {
        BrokerSnapshot {
            url: self.url.clone(),
            state: lock(&self.state).clone(),
            connections: self.connections.load(Ordering::Relaxed),
            published: self.published.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// A [`BrokerLink`] at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerSnapshot {
    pub url: String,
    #[serde(flatten)]
    pub state: BrokerState,
    /// How often it has been connected.
    pub connections: u64,
    /// Messages sent.
    pub published: u64,
    /// Events given up because too many waited.
    pub dropped: u64,
}

impl BrokerSnapshot {
    /// Whether messages get out.
    pub fn is_connected(&self) -> bool {
        self.state == BrokerState::Connected
    }
}
