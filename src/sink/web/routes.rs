//! The answer to each path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;

use super::access::Access;
use super::guard::guard;
use super::hub::Hub;
use crate::sink::events::EventRecord;

const MAX_BODY: usize = 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
const BOUNDARY: &str = "eyas-frame";
const JPEG: &str = "image/jpeg";
const JSON: &str = "application/json";

/// Every path of the server, for clients that `access` lets in.
pub(super) fn router(hub: Arc<Hub>, access: Arc<Access>) -> Router {
    Router::new()
        .route(
            "/",
            get(async || asset("text/html; charset=utf-8", include_str!("page.html"))),
        )
        .route(
            "/page.css",
            get(async || asset("text/css; charset=utf-8", include_str!("page.css"))),
        )
        .route(
            "/page.js",
            get(async || asset("text/javascript; charset=utf-8", include_str!("page.js"))),
        )
        .route("/stream.mjpg", get(stream))
        .route("/snapshot.jpg", get(snapshot))
        .route("/events", get(events))
        .route("/api/status", get(status))
        .route(
            "/api/threshold",
            get(threshold).post(set_threshold).put(set_threshold),
        )
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .fallback(async || (StatusCode::NOT_FOUND, "no such page\n"))
        .layer(from_fn_with_state(access, guard))
        .with_state(hub)
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}

fn too_many_clients() -> Response {
    let retry = [(header::RETRY_AFTER, "5")];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        retry,
        "too many clients are watching\n",
    )
        .into_response()
}

/// The annotated picture of the newest scene. `None` before the first scene.
async fn newest_picture(hub: &Arc<Hub>) -> Option<Result<Bytes, Response>> {
    let scene = hub.scene()?;
    let hub = hub.clone();
    let encoded = tokio::task::spawn_blocking(move || hub.jpeg(&scene)).await;
    Some(match encoded {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(failure(&error)),
        Err(error) => Err(failure(&error)),
    })
}

fn failure(error: &dyn std::fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

async fn snapshot(State(hub): State<Arc<Hub>>) -> Response {
    match newest_picture(&hub).await {
        Some(Ok(bytes)) => ([(header::CONTENT_TYPE, JPEG)], bytes).into_response(),
        Some(Err(response)) => response,
        None => {
            let retry = [(header::RETRY_AFTER, "1")];
            (StatusCode::SERVICE_UNAVAILABLE, retry, "no picture yet\n").into_response()
        }
    }
}

/// One part after another, each a JPEG; a client that is slow gets the newest when it is ready again.
async fn stream(State(hub): State<Arc<Hub>>) -> Response {
    let Ok(permit) = hub.picture_clients.clone().try_acquire_owned() else {
        return too_many_clients();
    };
    // Subscribing first makes the sink draw from now on; the newest scene may have come before.
    let changes = WatchStream::from_changes(hub.pictures.subscribe());
    let first = newest_picture(&hub).await.and_then(Result::ok);
    let parts = tokio_stream::iter(first)
        .chain(changes.filter_map(|picture| picture))
        .map(part);
    let opening = tokio_stream::iter([Bytes::from(format!("--{BOUNDARY}\r\n"))]);
    let body = opening.chain(parts).map(move |bytes| {
        let _held = &permit;
        Ok::<_, Infallible>(bytes)
    });
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(body)).into_response()
}

/// A part with the boundary that follows it: browsers show a picture when they see its end.
fn part(picture: Bytes) -> Bytes {
    let head = format!(
        "Content-Type: {JPEG}\r\nContent-Length: {}\r\n\r\n",
        picture.len()
    );
    let tail = format!("\r\n--{BOUNDARY}\r\n");
    let mut part = Vec::with_capacity(head.len() + picture.len() + tail.len());
    part.extend_from_slice(head.as_bytes());
    part.extend_from_slice(&picture);
    part.extend_from_slice(tail.as_bytes());
    part.into()
}

async fn events(State(hub): State<Arc<Hub>>) -> Response {
    let Ok(permit) = hub.event_clients.clone().try_acquire_owned() else {
        return too_many_clients();
    };
    let records = WatchStream::new(hub.scenes.subscribe()).filter_map(move |scene| {
        let _held = &permit;
        let record = EventRecord::new(scene.as_deref()?).to_line();
        Some(Ok::<_, Infallible>(Event::default().data(record)))
    });
    Sse::new(records)
        .keep_alive(KeepAlive::default())
        .into_response()
}

async fn status(State(hub): State<Arc<Hub>>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], hub.status()).into_response()
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], hub.telemetry.prometheus()).into_response()
}

async fn healthz(State(hub): State<Arc<Hub>>) -> Response {
    if hub.telemetry.is_stuck() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "frames come, and none was inferred for 10 s\n",
        )
            .into_response();
    }
    "ok\n".into_response()
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ThresholdBody {
    confidence: f32,
}

async fn threshold(State(hub): State<Arc<Hub>>) -> Response {
    let body = ThresholdBody {
        confidence: hub.threshold.get(),
    };
    let json = serde_json::to_string(&body).expect("a number is always JSON");
    ([(header::CONTENT_TYPE, JSON)], json).into_response()
}

async fn set_threshold(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    let refuse =
        |status: StatusCode, reason: String| (status, format!("{reason}\n")).into_response();
    let Ok(body) = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), MAX_BODY)).await else {
        return refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come".into());
    };
    let Ok(body) = body else {
        let reason = format!("the body is broken or above {MAX_BODY} bytes");
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, reason);
    };
    match serde_json::from_slice::<ThresholdBody>(&body) {
        Ok(wanted) if (0.0..=1.0).contains(&wanted.confidence) => {
            hub.threshold.set(wanted.confidence);
            threshold(State(hub)).await
        }
        Ok(_) => refuse(
            StatusCode::BAD_REQUEST,
            "`confidence` is not from 0 to 1".into(),
        ),
        Err(error) => {
            let reason = format!("not of the form {{\"confidence\":0.5}}: {error}");
            refuse(StatusCode::BAD_REQUEST, reason)
        }
    }
}
