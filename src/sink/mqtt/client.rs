//! The thread that keeps a connection to the broker.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, ClientError, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish,
    SubscribeFilter, SubscribeReasonCode,
};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until};

use super::failure;
use super::message::{Message, Messages};
use super::outbox::{Outbox, Step};
use super::retry::Backoff;
use super::topics::Group;
use super::url::BrokerUrl;
use crate::telemetry::broker::{BrokerLink, BrokerState};

/// Messages between the outbox and the connection.
const CHANNEL: usize = 4;
/// The source's state is looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// The farewell gets so much time.
const GOODBYE: Duration = Duration::from_secs(1);

/// The outbox, between the sink's thread and the client's.
pub(super) struct Shared {
    outbox: Mutex<Outbox>,
    changed: Notify,
}

impl Shared {
    pub fn new(outbox: Outbox) -> Self {
        Self {
            outbox: Mutex::new(outbox),
            changed: Notify::new(),
        }
    }

    /// Puts something in, and wakes the client.
    pub fn put<T>(&self, put: impl FnOnce(&mut Outbox) -> T) -> T {
        let done = put(&mut self.lock());
        self.changed.notify_one();
        done
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that a connection needs.
pub(super) struct Client {
    pub url: BrokerUrl,
    pub options: MqttOptions,
    pub messages: Messages,
    /// What a count may be of.
    pub groups: Vec<Group>,
    pub shared: Arc<Shared>,
    pub link: Arc<BrokerLink>,
    /// Whether the log says already that another eyas has this name.
    pub namesake_told: Cell<bool>,
}

/// How a connection ended.
enum End {
    Stopped,
    Lost(String),
}

impl Client {
    /// Connects, again and again, until `stop` says so.
    pub async fn run(self, seed: u32, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(seed);
        loop {
            let began = Instant::now();
            let end = self.connection(&mut stop).await;
            let End::Lost(reason) = end else { return };
            self.lost(reason);
            let stopped = stop.wait_for(|&stop| stop);
            tokio::select! {
                _ = stopped => return,
                () = sleep(backoff.next(began.elapsed())) => {}
            }
        }
    }

    fn lost(&self, reason: String) {
        let state = BrokerState::Disconnected {
            reason: reason.clone(),
        };
        if self.link.set(state) {
            log::warn!("{}: no connection: {reason}; it is tried again", self.url);
        }
    }

    /// One connection from its beginning to its end. The event loop is a new one: it would take over what was under way
    /// on the last connection, and everything is told anew.
    async fn connection(&self, stop: &mut watch::Receiver<bool>) -> End {
        let (client, mut events) = AsyncClient::new(self.options.clone(), CHANNEL);
        events.network_options.set_tcp_nodelay(true);
        let connected = tokio::select! {
            _ = stop.wait_for(|&stop| stop) => return End::Stopped,
            connected = events.poll() => connected,
        };
        if let Err(error) = connected {
            return End::Lost(failure::reason(&error, &self.url));
        }
        if self.link.set(BrokerState::Connected) {
            let name = &self.messages.name;
            log::info!("{}: connected; this is {name}", self.url);
        }
        self.shared.put(|outbox| outbox.connected(Instant::now()));
        let mut feeding = stop.clone();
        tokio::select! {
            error = self.listen(&mut events) => {
                if *stop.borrow() {
                    return End::Stopped;
                }
                End::Lost(error)
            }
            end = self.feed(&client, &mut feeding) => end,
            end = overdue(stop.clone()) => end,
        }
    }

    /// Moves messages both ways until the connection breaks, and returns why.
    async fn listen(&self, events: &mut EventLoop) -> String {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) => self.heard(&publish),
                Ok(Event::Incoming(Packet::SubAck(ack)))
                    if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
                {
                    log::warn!("{}: it does not let eyas read some of its topics", self.url);
                }
                Ok(Event::Outgoing(Outgoing::Publish(_))) => self.link.published(),
                Ok(_) => {}
                Err(error) => return failure::reason(&error, &self.url),
            }
        }
    }

    fn heard(&self, publish: &Publish) {
        let (topic, payload) = (&*publish.topic, &publish.payload);
        let topics = &self.messages.topics;
        if let Some(key) = topics.key_of(topic) {
            if publish.retain && !payload.is_empty() {
                let counted = self.groups.iter().find_map(|group| group.find(key));
                self.shared
                    .put(|outbox| outbox.remembered(key, counted, Instant::now()));
            }
        } else if topic == topics.status() {
            // What the broker kept may be of an earlier run of this one.
            let is_of_another = !publish.retain && self.messages.is_of_another(payload);
            if is_of_another && !self.namesake_told.replace(true) {
                log::error!(
                    "{}: another eyas has the name {} too, and both write the same topics; give each a name of its own \
                     with --mqtt-name",
                    self.url,
                    self.messages.name
                );
            }
        } else if payload == "online" {
            self.shared.put(|outbox| outbox.announce(Instant::now()));
        }
    }

    /// Hands over what is due until `stop` says so, and then the farewell. Waits for the connection where that is slow.
    async fn feed(&self, client: &AsyncClient, stop: &mut watch::Receiver<bool>) -> End {
        let fed = self.feed_until(client, stop).await;
        if let Err(error) = fed {
            return End::Lost(error.to_string());
        }
        std::future::pending().await
    }

    async fn feed_until(
        &self,
        client: &AsyncClient,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), ClientError> {
        client.subscribe_many(self.subscriptions()).await?;
        let mut was_live = None;
        while !*stop.borrow() {
            self.look_at_source(&mut was_live);
            let now = Instant::now();
            let step = self.shared.lock().next(now);
            match step {
                Step::Publish(due) => {
                    if let Some(message) = self.messages.message(due) {
                        publish(client, message).await?;
                    }
                }
                Step::Wait(until) => {
                    tokio::select! {
                        () = self.shared.changed.notified() => {}
                        () = sleep_until(until.min(now + TICK).into()) => {}
                        _ = stop.changed() => {}
                    }
                }
            }
        }
        publish(client, self.messages.offline()).await?;
        client.disconnect().await
    }

    /// A change is told at once, and where no pictures come nothing is seen.
    fn look_at_source(&self, was_live: &mut Option<bool>) {
        let now = Instant::now();
        let live = self.messages.telemetry.source_is_live();
        let changed = was_live.replace(live).is_some_and(|was| was != live);
        let mut outbox = self.shared.lock();
        if changed {
            outbox.status_changed(now);
        }
        if !live {
            outbox.counts([], now);
        }
    }

    fn subscriptions(&self) -> Vec<SubscribeFilter> {
        let topics = &self.messages.topics;
        let home = self.messages.home_assistant.as_ref();
        let mut filters = Vec::from(topics.count_filters());
        filters.push(topics.status());
        filters.extend(home.map(|home| home.birth_topic()));
        let subscribe = |filter| SubscribeFilter::new(filter, rumqttc::QoS::AtMostOnce);
        filters.into_iter().map(subscribe).collect()
    }
}

async fn publish(client: &AsyncClient, message: Message) -> Result<(), ClientError> {
    let Message {
        topic,
        payload,
        kind,
    } = message;
    client
        .publish(topic, kind.qos(), kind.is_retained(), payload)
        .await
}

/// The broker has had time enough for the farewell.
async fn overdue(mut stop: watch::Receiver<bool>) -> End {
    // An error means that the one who could say so is gone.
    let _ = stop.wait_for(|&stop| stop).await;
    sleep(GOODBYE).await;
    End::Stopped
}
