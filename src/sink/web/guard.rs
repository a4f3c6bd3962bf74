//! Who may ask: the page itself and programs on this machine, not other sites in the same browser.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Refuses requests that a foreign site made the browser send, and sets the headers that every answer carries.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(request.method(), request.uri(), request.headers()) {
        Some((status, reason)) => (status, format!("{reason}\n")).into_response(),
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

fn refusal(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    // RFC 9112, section 3.2.2: an absolute request target overrides the Host header.
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => text(headers, &header::HOST).unwrap_or(""),
    };
    if !is_loopback(host) {
        return Some((
            StatusCode::MISDIRECTED_REQUEST,
            "this server answers to localhost, 127.0.0.1 and [::1] only",
        ));
    }
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

/// Whether a `host[:port]` names this machine by a name that no foreign DNS server can answer for.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, ""),
            Some((address, port)) if port.starts_with(':') => (address, &port[1..]),
            _ => return false,
        },
        None => host.split_once(':').unwrap_or((host, "")),
    };
    port.bytes().all(|byte| byte.is_ascii_digit())
        && (name.eq_ignore_ascii_case("localhost")
            || name
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_hosts() {
        for good in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "127.8.0.1",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8080",
            "192.168.0.2",
            "[::2]:80",
            "[::1",
            "[::1]evil",
            "localhost:80@evil",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn writes_of_other_sites_are_refused() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            refusal(&Method::POST, &Uri::from_static("/api/threshold"), &headers)
                .map(|(status, _)| status.as_u16())
        };
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(check(&[json]), None);
        assert_eq!(check(&[]), Some(415));
        assert_eq!(check(&[("content-type", "text/plain")]), Some(415));
        assert_eq!(check(&[json, ("origin", "http://127.0.0.1:8080")]), None);
        assert_eq!(check(&[json, ("origin", "http://evil.example")]), Some(403));
        assert_eq!(check(&[json, ("origin", "null")]), Some(403));
        assert_eq!(check(&[json, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(check(&[json, ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(check(&[json, ("host", "evil.example")]), Some(421));
    }

    #[test]
    fn absolute_target_names_the_host() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost"));
        let uri = Uri::from_static("http://evil.example/");
        assert!(refusal(&Method::GET, &uri, &headers).is_some());
    }
}
