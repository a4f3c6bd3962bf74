//! Where a broker listens.

use std::fmt;
use std::net::Ipv6Addr;

use super::topics::is_level;

const DEFAULT_PREFIX: &str = "eyas";
/// A topic is at most 65,535 bytes long (MQTT 3.1.1, section 4.7.3); names and labels need room too.
const MAX_PREFIX: usize = 256;
const EXPECTED: &str =
    "not a broker like mqtt://localhost, mqtt://user@192.168.1.2:1883 or mqtts://broker.lan/prefix";

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    Tls,
}

/// `mqtt://[USER@]HOST[:PORT][/PREFIX]`, or `mqtts://` for TLS. The port is 1883 or 8883 if not given, the prefix of all
/// topics `eyas`. Nothing is percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    pub security: Security,
    pub user: Option<String>,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// One level or more, without `/` at its ends.
    pub prefix: String,
}

impl BrokerUrl {
    /// Parses the URL. The error says what is wrong with it and quotes nothing that could be a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or(EXPECTED)?;
        let security = match scheme {
            "mqtt" => Security::Plain,
            "mqtts" => Security::Tls,
            "ws" | "wss" => {
                return Err(format!("MQTT over WebSocket is not supported; {EXPECTED}"));
            }
            _ => return Err(EXPECTED.into()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(parse_user(user)?), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address)?;
        Ok(Self {
            security,
            user,
            host: parse_host(host)?,
            port: match (port, security) {
                (Some(port), _) => port,
                (None, Security::Plain) => 1883,
                (None, Security::Tls) => 8883,
            },
            prefix: parse_prefix(path)?,
        })
    }
}

/// The broker as messages name it: without user and prefix.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.security {
            Security::Plain => "mqtt",
            Security::Tls => "mqtts",
        };
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

fn parse_user(user: &str) -> Result<String, String> {
    if user.contains(':') {
        return Err(
            "a password in the URL can be seen by every user of this machine; put it into a file and name that with \
             --mqtt-password-file"
                .into(),
        );
    }
    if user.is_empty() {
        return Err(EXPECTED.into());
    }
    Ok(user.into())
}

/// The host, perhaps in brackets, and the port behind it.
fn split_port(address: &str) -> Result<(&str, Option<u16>), String> {
    let end = address.find(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = address[end..].find(':').map(|at| end + at) else {
        return Ok((address, None));
    };
    let port = address[colon + 1..].parse().ok().filter(|&port| port > 0);
    match port {
        Some(port) => Ok((&address[..colon], Some(port))),
        None => Err("its port is not a number from 1 to 65535; IPv6 addresses stand in [ ]".into()),
    }
}

fn parse_host(host: &str) -> Result<String, String> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or_default();
        let known = address.split('%').next().unwrap_or_default();
        return match known.parse::<Ipv6Addr>() {
            Ok(_) => Ok(address.into()),
            Err(_) => Err("what stands in [ ] is not an IPv6 address".into()),
        };
    }
    let is_plain = |c: char| c.is_alphanumeric() || "-._".contains(c);
    if host.is_empty() || !host.chars().all(is_plain) {
        return Err(EXPECTED.into());
    }
    Ok(host.into())
}

fn parse_prefix(path: &str) -> Result<String, String> {
    let prefix = path.strip_suffix('/').unwrap_or(path);
    if prefix.is_empty() {
        return Ok(DEFAULT_PREFIX.into());
    }
    if prefix.len() > MAX_PREFIX || !prefix.split('/').all(is_level) {
        return Err(format!(
            "the prefix of topics after the host is not made of letters, digits and -_. with / between, or is longer \
             than {MAX_PREFIX} bytes"
        ));
    }
    Ok(prefix.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> BrokerUrl {
        BrokerUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parts_have_defaults() {
        let plain = parse("mqtt://localhost");
        let expected = BrokerUrl {
            security: Security::Plain,
            user: None,
            host: "localhost".into(),
            port: 1883,
            prefix: "eyas".into(),
        };
        assert_eq!(plain, expected);
        assert_eq!(parse("mqtt://localhost/"), plain);
        let all = parse("mqtts://o@lga@broker.lan:1234/site/north/");
        assert_eq!((all.security, all.port), (Security::Tls, 1234));
        assert_eq!(all.user.as_deref(), Some("o@lga"));
        assert_eq!(all.prefix, "site/north");
        assert_eq!(all.to_string(), "mqtts://broker.lan:1234");
        assert_eq!(parse("mqtts://10.0.0.2").port, 8883);
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        let url = parse("mqtt://me@[fd00::1]:1884");
        assert_eq!((&*url.host, url.port), ("fd00::1", 1884));
        assert_eq!(url.to_string(), "mqtt://[fd00::1]:1884");
        assert_eq!(parse("mqtt://[fe80::1%eth0]").host, "fe80::1%eth0");
    }

    #[test]
    fn what_is_no_broker_is_refused_with_a_reason() {
        for (text, word) in [
            ("localhost", "not a broker like"),
            ("tcp://localhost", "not a broker like"),
            ("ws://localhost", "WebSocket"),
            ("mqtt://", "not a broker like"),
            ("mqtt://@localhost", "not a broker like"),
            ("mqtt://two words", "not a broker like"),
            ("mqtt://localhost:0", "port"),
            ("mqtt://localhost:65536", "port"),
            ("mqtt://fd00::1", "[ ]"),
            ("mqtt://[fd00::1", "[ ]"),
            ("mqtt://[localhost]", "IPv6"),
            ("mqtt://localhost/a//b", "prefix"),
            ("mqtt://localhost/a/+", "prefix"),
            ("mqtt://localhost/$SYS", "prefix"),
            ("mqtt://localhost/a?b=c", "prefix"),
        ] {
            let error = BrokerUrl::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        let error = BrokerUrl::parse("mqtt://me:hunter2@localhost").unwrap_err();
        assert!(error.contains("--mqtt-password-file") && !error.contains("hunter2"));
    }
}
