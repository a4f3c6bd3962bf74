//! The live page: pictures with boxes, events, status, metrics and the confidence slider over HTTP.

mod access;
mod guard;
mod hub;
mod io;
mod routes;
mod server;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Delivery, Scene, Sink};
use crate::detect::Threshold;
use crate::error::{Error, Result};
use crate::telemetry::Telemetry;
use access::Access;
use hub::Hub;
use server::Server;

pub use token::Token;

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
    /// Starts the server; port 0 is any free one. With a token only clients that know it are served; without one an
    /// address beyond loopback is wrong usage.
    pub fn start(
        listen: SocketAddr,
        token: Option<Token>,
        about: About,
        threshold: Threshold,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self> {
        if !listen.ip().is_loopback() && token.is_none() {
            return Err(Error::Usage(format!(
                "--listen {listen}: other machines may watch with a token only; pass one with --token-file FILE, or \
                 listen on 127.0.0.1:{}",
                listen.port()
            )));
        }
        let hub = Arc::new(Hub::new(about, threshold, telemetry));
        let server = Server::start(listen, |address| {
            let access = Arc::new(Access::new(address, token));
            routes::router(hub.clone(), access)
        })?;
        Ok(Self { hub, server })
    }

    /// A handle to what the page says.
    pub fn page(&self) -> Page {
        Page(self.hub.clone())
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// What the page says, from any thread.
#[derive(Clone)]
pub struct Page(Arc<Hub>);

impl Page {
    /// Another model runs from now on: its name and a line on its engine.
    pub fn set_model(&self, model: &str, engine: &str) {
        self.0.set_model(model, engine);
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
