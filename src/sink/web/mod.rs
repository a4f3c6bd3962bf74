//! The live page: pictures with boxes, events, status, metrics and the confidence slider over HTTP.

mod guard;
mod hub;
mod io;
mod routes;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Delivery, Scene, Sink};
use crate::detect::Threshold;
use crate::error::{Error, Result};
use crate::telemetry::Telemetry;
use hub::Hub;
use server::Server;

/// What the page says of the run.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The model file as the user named it.
    pub model: String,
    /// One line on the engine.
    pub engine: String,
    /// The source as the user named it.
    pub source: String,
}

/// Serves the newest scene. Pictures are drawn and encoded only while somebody watches, once for all who do.
pub struct WebSink {
    hub: Arc<Hub>,
    server: Server,
}

impl WebSink {
    /// Starts the server on a loopback address; port 0 is any free one. Any other address is wrong usage.
    pub fn start(
        listen: SocketAddr,
        about: About,
        threshold: Threshold,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self> {
        if !listen.ip().is_loopback() {
            return Err(Error::Usage(format!(
                "--listen {listen}: other machines could watch without a password, so this version serves its own \
                 machine only; listen on 127.0.0.1:{} and reach it through `ssh -L`",
                listen.port()
            )));
        }
        let hub = Arc::new(Hub::new(about, threshold, telemetry));
        let server = Server::start(listen, routes::router(hub.clone()))?;
        Ok(Self { hub, server })
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

impl Sink for WebSink {
    fn name(&self) -> &str {
        "web"
    }

    fn delivery(&self) -> Delivery {
        Delivery::Newest
    }

    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        if !self.server.is_running() {
            return Err(Error::Internal("the web server has ended".into()));
        }
        self.hub.publish(scene)
    }
}
