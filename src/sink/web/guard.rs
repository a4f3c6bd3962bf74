//! What every request passes first: only hosts, clients and sites that the server knows get further.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::{Access, Verdict};

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Refuses requests of strangers and those that a foreign site made the browser send, and sets the headers that every
/// answer carries.
pub(super) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match examine(&access, &request) {
        Some(answer) => answer,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The answer to a request that goes no further.
fn examine(access: &Access, request: &Request) -> Option<Response> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    // RFC 9112, section 3.2.2: an absolute request target overrides the Host header.
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => text(headers, &header::HOST).unwrap_or(""),
    };
    if !access.knows_host(host) {
        let reason =
            "this server answers to its addresses, localhost and the machine's name only\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, reason).into_response());
    }
    match access.judge(method, uri, headers) {
        Verdict::Pass => {}
        Verdict::SignIn { cookie } => {
            let headers = [
                (header::LOCATION, "/".to_owned()),
                (header::SET_COOKIE, cookie),
            ];
            return Some((StatusCode::SEE_OTHER, headers).into_response());
        }
        Verdict::Unknown => return Some(token_wanted(uri)),
    }
    let (status, reason) = foreign(method, headers, host)?;
    Some((status, format!("{reason}\n")).into_response())
}

/// A form for people, words for programs.
fn token_wanted(uri: &Uri) -> Response {
    let challenge = (header::WWW_AUTHENTICATE, "Bearer");
    if uri.path() != "/" {
        let reason = "send the token: `Authorization: Bearer TOKEN`, or open the page with /?token=TOKEN once\n";
        return (StatusCode::UNAUTHORIZED, [challenge], reason).into_response();
    }
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    let form = include_str!("sign_in.html");
    (StatusCode::UNAUTHORIZED, [challenge, kind], form).into_response()
}

/// Why a writing request looks as if a page of another site had sent it.
fn foreign(method: &Method, headers: &HeaderMap, host: &str) -> Option<(StatusCode, &'static str)> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let fetch_site = text(headers, &HeaderName::from_static("sec-fetch-site"));
    if fetch_site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Some((StatusCode::FORBIDDEN, "requests of other sites are refused"));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let authority = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .map(|(_, authority)| authority);
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            return Some((StatusCode::FORBIDDEN, "requests of other sites are refused"));
        }
    }
    let json = text(headers, &header::CONTENT_TYPE).is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or(kind);
        essence.trim().eq_ignore_ascii_case("application/json")
    });
    (!json).then_some((
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "send JSON with `Content-Type: application/json`",
    ))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, target: &str, pairs: &[(&'static str, &'static str)]) -> Option<u16> {
        let access = Access::new(([127, 0, 0, 1], 8080).into(), None);
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        let request = request.body(Default::default()).unwrap();
        examine(&access, &request).map(|answer| answer.status().as_u16())
    }

    #[test]
    fn writes_of_other_sites_are_refused() {
        let host = ("host", "127.0.0.1:8080");
        let check =
            |pairs: &[_]| status(Method::POST, "/api/threshold", &[&[host], pairs].concat());
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(check(&[json]), None);
        assert_eq!(check(&[]), Some(415));
        assert_eq!(check(&[("content-type", "text/plain")]), Some(415));
        assert_eq!(check(&[json, ("origin", "http://127.0.0.1:8080")]), None);
        assert_eq!(check(&[json, ("origin", "http://evil.example")]), Some(403));
        assert_eq!(check(&[json, ("origin", "null")]), Some(403));
        assert_eq!(check(&[json, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(check(&[json, ("sec-fetch-site", "same-origin")]), None);
    }

    #[test]
    fn absolute_target_names_the_host() {
        let local = [("host", "localhost")];
        assert_eq!(status(Method::GET, "/", &local), None);
        assert_eq!(
            status(Method::GET, "/", &[("host", "evil.example")]),
            Some(421)
        );
        assert_eq!(status(Method::GET, "/", &[]), Some(421));
        assert_eq!(
            status(Method::GET, "http://evil.example/", &local),
            Some(421)
        );
    }
}
