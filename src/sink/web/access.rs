//! Who may watch: everybody on this machine, and beyond it whoever knows the token.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{self, HeaderMap};
use axum::http::{Method, Uri};

use super::token::Token;

/// Paths that need no token: a monitor asks the first, the sign-in form is drawn with the second.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/page.css"];
/// A year: whoever changes the token ends it sooner.
const COOKIE_SECONDS: u32 = 365 * 24 * 3600;

/// What a server asks of its clients.
#[derive(Debug)]
pub(super) struct Access {
    hosts: Hosts,
    token: Option<Token>,
    /// Named after the port, for which cookies have no field.
    cookie: String,
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// The token came with the page's address: hand the browser this cookie and send it to the address without.
    SignIn {
        cookie: String,
    },
    /// The token is missing or wrong.
    Unknown,
}

impl Access {
    /// The rules of a server that listens on `address`.
    pub fn new(address: SocketAddr, token: Option<Token>) -> Self {
        Self {
            hosts: Hosts::of(address.ip()),
            token,
            cookie: format!("eyas_token_{}", address.port()),
        }
    }

    /// Whether a `Host` header names this server in a way that a web page of another site cannot arrange.
    pub fn knows_host(&self, host: &str) -> bool {
        self.hosts.accept(host)
    }

    /// Looks for the token: in the address of the page, the `Authorization` header (RFC 6750), the cookie.
    pub fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Verdict {
        let Some(token) = &self.token else {
            return Verdict::Pass;
        };
        if OPEN_PATHS.contains(&uri.path()) {
            return Verdict::Pass;
        }
        if uri.path() == "/"
            && method == Method::GET
            && let Some(text) = query_token(uri)
        {
            return if token.matches(text) {
                Verdict::SignIn {
                    cookie: self.cookie_of(token),
                }
            } else {
                Verdict::Unknown
            };
        }
        let known = bearer(headers).is_some_and(|text| token.matches(text))
            || cookies(headers).any(|(name, text)| name == self.cookie && token.matches(text));
        if known {
            Verdict::Pass
        } else {
            Verdict::Unknown
        }
    }

    fn cookie_of(&self, token: &Token) -> String {
        format!(
            "{}={}; Max-Age={COOKIE_SECONDS}; Path=/; HttpOnly; SameSite=Strict",
            self.cookie,
            token.reveal()
        )
    }
}

fn query_token(uri: &Uri) -> Option<&str> {
    let mut pairs = uri.query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("token="))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, text) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

/// The names that a server answers to. A page of another site can have its own name resolve to this machine (DNS
/// rebinding), and the browser then takes the two for one site; the `Host` header gives it away.
#[derive(Debug)]
enum Hosts {
    /// A server that only this machine reaches: `localhost` and loopback addresses.
    Loopback,
    /// Any address, `localhost`, and the machine's name alone or in any domain. A rebound name of this form gets no
    /// further than the token, which no browser sends to it.
    Machine { name: String },
}

impl Hosts {
    fn of(address: IpAddr) -> Self {
        if address.is_loopback() {
            return Self::Loopback;
        }
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::Machine {
            name: name.trim().into(),
        }
    }

    fn accept(&self, host: &str) -> bool {
        let Some(host) = Host::parse(host) else {
            return false;
        };
        match (self, host) {
            (_, Host::Name(name)) if name.eq_ignore_ascii_case("localhost") => true,
            (Self::Loopback, Host::Address(address)) => address.is_loopback(),
            (Self::Loopback, Host::Name(_)) => false,
            (Self::Machine { .. }, Host::Address(_)) => true,
            (Self::Machine { name }, Host::Name(host)) => {
                let first = host.split('.').next().unwrap_or_default();
                !name.is_empty()
                    && (host.eq_ignore_ascii_case(name) || first.eq_ignore_ascii_case(name))
            }
        }
    }
}

/// A `host[:port]` without its port.
enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let digits = match port {
            "" => "",
            _ => port.strip_prefix(':')?,
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let address = name.parse().map(Self::Address);
        Some(address.unwrap_or(Self::Name(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn access(token: Option<&str>) -> Access {
        let token = token.map(|text| Token::parse(text).unwrap());
        Access::new(SocketAddr::from(([127, 0, 0, 1], 81)), token)
    }

    fn judge(access: &Access, target: &str, pairs: &[(&'static str, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        access.judge(&Method::GET, &target.parse().unwrap(), &headers)
    }

    #[test]
    fn without_a_token_everybody_on_the_machine_passes() {
        assert_eq!(judge(&access(None), "/stream.mjpg", &[]), Verdict::Pass);
    }

    #[test]
    fn the_token_opens_by_header_and_cookie() {
        let access = access(Some(SECRET));
        for (name, value) in [
            ("authorization", format!("Bearer {SECRET}")),
            ("authorization", format!("bearer  {SECRET}")),
            ("cookie", format!("eyas_token_81={SECRET}")),
            ("cookie", format!("a=b; eyas_token_81={SECRET}; c")),
        ] {
            assert_eq!(
                judge(&access, "/events", &[(name, &value)]),
                Verdict::Pass,
                "{value}"
            );
        }
        for (name, value) in [
            ("x", ""),
            ("authorization", SECRET),
            ("authorization", "Bearer"),
            ("authorization", "Bearer 0123456789abcdeX"),
            ("authorization", "Basic 0123456789abcdef"),
            ("cookie", "eyas_token_80=0123456789abcdef"),
            ("cookie", "eyas_token_81="),
        ] {
            assert_eq!(
                judge(&access, "/events", &[(name, value)]),
                Verdict::Unknown,
                "{value}"
            );
        }
    }

    #[test]
    fn the_address_of_the_page_signs_in_and_no_other_address_does() {
        let access = access(Some(SECRET));
        let Verdict::SignIn { cookie } = judge(&access, "/?a=1&token=0123456789abcdef", &[]) else {
            panic!("not signed in");
        };
        assert!(
            cookie.starts_with("eyas_token_81=0123456789abcdef; "),
            "{cookie}"
        );
        for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        for target in [
            "/?token=",
            "/?token=0123456789abcdeX",
            "/?xtoken=0123456789abcdef",
            "/api/status?token=0123456789abcdef",
        ] {
            assert_eq!(judge(&access, target, &[]), Verdict::Unknown, "{target}");
        }
    }

    #[test]
    fn health_and_style_are_open() {
        let access = access(Some(SECRET));
        for path in ["/healthz", "/page.css"] {
            assert_eq!(judge(&access, path, &[]), Verdict::Pass);
        }
        assert_eq!(judge(&access, "/", &[]), Verdict::Unknown);
        assert_eq!(judge(&access, "/healthz/", &[]), Verdict::Unknown);
    }

    #[test]
    fn a_loopback_server_answers_to_loopback_names_only() {
        let hosts = Hosts::of(IpAddr::from([127, 0, 0, 2]));
        for good in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "127.8.0.1",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(hosts.accept(good), "{good}");
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
            assert!(!hosts.accept(bad), "{bad}");
        }
    }

    #[test]
    fn an_open_server_answers_to_addresses_and_its_own_name() {
        assert!(matches!(
            Hosts::of(IpAddr::from([0, 0, 0, 0])),
            Hosts::Machine { .. }
        ));
        let hosts = Hosts::Machine { name: "pi".into() };
        for good in [
            "192.168.0.2:8080",
            "[fe80::1]",
            "localhost",
            "PI",
            "pi.local:8080",
            "pi.fritz.box",
        ] {
            assert!(hosts.accept(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "pie.local",
            "evil.pi",
            "x@pi",
            "pi:80@evil",
        ] {
            assert!(!hosts.accept(bad), "{bad}");
        }
        let nameless = Hosts::Machine {
            name: String::new(),
        };
        assert!(!nameless.accept("") && !nameless.accept(".local"));
    }
}
