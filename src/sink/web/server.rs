//! The thread that serves connections.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};

use super::io::TimedStream;
use crate::error::{Error, Result};

/// Connections served at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 128;
/// For a whole request head, and between two requests of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes nothing for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEADERS: usize = 64;
/// Bound of a request head, and of what waits to be written besides the picture in hand.
const BUFFER: usize = 16 * 1024;
/// After the system refused a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

/// A running server. Dropping it closes all connections and ends the thread.
pub(super) struct Server {
    address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds and serves what `router` makes for the address bound.
    pub fn start(listen: SocketAddr, router: impl FnOnce(SocketAddr) -> Router) -> Result<Self> {
        let listener = bind(listen)?;
        let address = listener
            .local_addr()
            .map_err(Error::io("read the address listened on"))?;
        let router = router(address);
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(2)
            .build()
            .map_err(Error::io("start the web server"))?;
        let (shutdown, asked) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("web".into())
            .spawn(move || serve(runtime, listener, router, asked))
            .map_err(Error::io("start the web server's thread"))?;
        Ok(Self {
            address,
            shutdown: Some(shutdown),
            thread: Some(thread),
        })
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the thread still runs.
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dropping the sender asks as well as sending does.
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the web server's thread panicked");
        }
    }
}

fn bind(listen: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(listen).map_err(Error::io(format!(
        "listen on {listen} (choose another port with --listen ADDR:PORT, port 0 for any free one)"
    )))?;
    listener
        .set_nonblocking(true)
        .map_err(Error::io(format!("listen on {listen}")))?;
    Ok(listener)
}

fn serve(runtime: Runtime, listener: TcpListener, router: Router, asked: oneshot::Receiver<()>) {
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return log::error!("web server: {error}"),
        };
        let accepting = tokio::spawn(accept(listener, router));
        let _ = asked.await;
        accepting.abort();
    });
    runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = room.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::debug!("web server: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small parts shall not wait for large ones; without it they only come later.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _held = permit;
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_headers(MAX_HEADERS)
                .max_buf_size(BUFFER)
                .serve_connection(
                    TokioIo::new(TimedStream::new(stream, WRITE_TIMEOUT)),
                    service,
                )
                .await;
            if let Err(error) = served {
                log::debug!("web client: {error}");
            }
        });
    }
}
