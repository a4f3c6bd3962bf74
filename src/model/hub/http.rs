//! One request for a file: which addresses may be asked, redirects, and which failures may pass.

use std::time::Duration;

use ureq::http::header::{ETAG, IF_RANGE, LOCATION, RANGE};
use ureq::http::uri::{Authority, Scheme, Uri};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use crate::error::Error;

const MAX_REDIRECTS: usize = 5;

/// How long to wait for a server, and how often to ask it again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the address of a name, and for a connection, encryption included.
    pub connect: Duration,
    /// For the answer to begin, and for each next part of it.
    pub read: Duration,
    /// Failures in a row, with no new byte between them, that end a download.
    pub failures: u32,
    /// After the first failure; twice as long after each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            read: Duration::from_secs(30),
            failures: 4,
            pause: Duration::from_secs(1),
        }
    }
}

/// Why a request did not bring the file, and what to do.
#[derive(Debug)]
pub(super) enum Failure {
    /// Asking again may help.
    Passing(String),
    Lasting(String),
    /// This machine cannot keep what comes.
    Here(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

/// The rest of a file: from which byte on, and of which version.
#[derive(Debug)]
pub(super) struct Rest {
    pub offset: u64,
    /// The entity tag that the server gave to the bytes that are there.
    pub etag: Option<String>,
}

/// Asks for files.
pub(super) struct Client {
    patience: Patience,
}

impl Client {
    pub fn new(patience: Patience) -> Self {
        Self { patience }
    }

    /// The answer to a GET request, redirects followed: 200, 206 or 416.
    ///
    /// Every address on the way is checked by [`check_address`]. Proxies are those of `HTTPS_PROXY` and `NO_PROXY`; the
    /// machine itself is asked directly.
    pub fn get(&self, url: &str, rest: Option<&Rest>) -> Result<Response<Body>, Failure> {
        let mut uri = check_address(url).map_err(Failure::Lasting)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.ask(&uri, rest)?;
            if !is_redirect(response.status()) {
                return checked(response, &uri);
            }
            let location = header(response.headers(), LOCATION.as_str());
            let target = location.and_then(|location| target(&uri, location));
            let target = target.ok_or_else(|| {
                Failure::Lasting(format!("{uri} sends elsewhere without saying where"))
            })?;
            uri = check_address(&target).map_err(|reason| {
                Failure::Lasting(format!("{uri} sends elsewhere, and {reason}"))
            })?;
        }
        Err(Failure::Lasting(format!(
            "{url} sends elsewhere more than {MAX_REDIRECTS} times"
        )))
    }

    fn ask(&self, uri: &Uri, rest: Option<&Rest>) -> Result<Response<Body>, Failure> {
        let mut request = self.agent(uri).get(uri);
        if let Some(rest) = rest {
            request = request.header(RANGE, format!("bytes={}-", rest.offset));
            if let Some(etag) = &rest.etag {
                request = request.header(IF_RANGE, etag);
            }
        }
        request.call().map_err(|error| failure(error, uri))
    }

    fn agent(&self, uri: &Uri) -> Agent {
        let Patience { connect, read, .. } = self.patience;
        let config = Agent::config_builder()
            .user_agent(concat!("eyas/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(read))
            .timeout_per_read(Some(read))
            .timeout_per_write(Some(read));
        let config = match is_this_machine(uri.authority()) {
            true => config.proxy(None),
            false => config,
        };
        config.build().into()
    }
}

/// Takes an address that may be asked: `https`, or `http` on this machine.
pub(super) fn check_address(url: &str) -> Result<Uri, String> {
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("{url:?} is no address: {error}"))?;
    let encrypted = uri.scheme() == Some(&Scheme::HTTPS);
    let here = uri.scheme() == Some(&Scheme::HTTP) && is_this_machine(uri.authority());
    if encrypted || here {
        return Ok(uri);
    }
    Err(format!("{url} is no https address"))
}

fn is_this_machine(authority: Option<&Authority>) -> bool {
    let host = authority.map_or("", Authority::host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a `Location` leads from `base`: it is a whole address, or one without its first parts.
fn target(base: &Uri, location: &str) -> Option<String> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    Some(if location.contains("://") {
        location.into()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let (folder, _) = base.path().rsplit_once('/')?;
        format!("{scheme}://{authority}{folder}/{location}")
    })
}

/// The text of a header.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The entity tag of an answer, if it stands for the very bytes: weak ones do not.
pub(super) fn strong_etag(headers: &HeaderMap) -> Option<&str> {
    header(headers, ETAG.as_str()).filter(|etag| etag.starts_with('"'))
}

fn checked(response: Response<Body>, uri: &Uri) -> Result<Response<Body>, Failure> {
    let status = response.status();
    match status.as_u16() {
        200 | 206 | 416 => Ok(response),
        404 | 410 => Err(Failure::Lasting(format!(
            "{uri} is not there any more ({status}); a newer eyas may know where it went"
        ))),
        408 | 429 | 500.. => Err(Failure::Passing(format!("{uri} answers {status}"))),
        _ => Err(Failure::Lasting(format!(
            "{uri} answers {status}; if there is a proxy on the way, HTTPS_PROXY may have to name it"
        ))),
    }
}

/// Says what a failed request means, and what to do.
fn failure(error: ureq::Error, uri: &Uri) -> Failure {
    let host = uri.host().unwrap_or_default();
    match error {
        ureq::Error::Timeout(_) => Failure::Passing(format!("{host} does not answer")),
        ureq::Error::ConnectProxyFailed(reason) => Failure::Lasting(format!(
            "the proxy that HTTPS_PROXY names refuses: {reason}; NO_PROXY lists hosts that need none"
        )),
        ureq::Error::Io(ref io) if is_of_encryption(io) => untrusted(host, io),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Io(_) => {
            Failure::Passing(format!(
                "{host} cannot be reached: {error}; check that this machine is on the internet"
            ))
        }
        ureq::Error::Rustls(error) => untrusted(host, &error),
        other => Failure::Lasting(format!("{uri}: {other}")),
    }
}

fn is_of_encryption(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

/// A Raspberry Pi has no clock of its own: it may believe that a certificate is not valid yet.
fn untrusted(host: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::Lasting(format!(
        "no trusted connection to {host}: {error}; check the clock of this machine (`date`)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_leaves_the_machine() {
        for good in [
            "https://example.org/a.tflite",
            "http://127.0.0.1:81/a",
            "http://[::1]/a",
            "http://localhost/a",
        ] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.org/a",
            "http://127.0.0.1.example.org/",
            "ftp://127.0.0.1/",
            "/a",
            "",
            "https://",
            "a b",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn locations_are_followed_as_they_are_written() {
        let base: Uri = "https://a.org/x/y?z".parse().unwrap();
        for (location, expected) in [
            ("https://b.org/c", "https://b.org/c"),
            ("//b.org/c", "https://b.org/c"),
            ("/c", "https://a.org/c"),
            ("c", "https://a.org/x/c"),
        ] {
            assert_eq!(target(&base, location).as_deref(), Some(expected));
        }
    }

    #[test]
    fn weak_tags_do_not_stand_for_bytes() {
        let tag = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ETAG, text.parse().unwrap());
            strong_etag(&headers).map(str::to_owned)
        };
        assert_eq!(tag("\"abc\""), Some("\"abc\"".into()));
        assert_eq!(tag("W/\"abc\""), None);
    }
}
