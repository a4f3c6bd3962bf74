//! Where the token of the live page comes from, and how its owner learns of it.

use std::env;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use super::terminal;
use crate::error::{Error, Result};
use crate::sink::web::Token;

/// Name of the systemd credential that holds the token.
const CREDENTIAL: &str = "eyas-token";
/// Of a token file no more is read.
const MAX_FILE: u64 = 4096;

/// What the live page asks of those who come.
#[derive(Debug)]
pub(super) enum Door {
    /// Nothing: only this machine can come.
    Open,
    /// A token that its owner keeps in a file.
    Configured { token: Token, file: PathBuf },
    /// A token that nobody knows yet.
    Generated(Token),
}

impl Door {
    /// The token of the file, else of the credential that systemd passes, else a new one if `listen` can be reached
    /// from other machines.
    pub fn new(listen: SocketAddr, file: Option<&Path>) -> Result<Self> {
        Self::choose(
            listen,
            file,
            env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        )
    }

    fn choose(
        listen: SocketAddr,
        file: Option<&Path>,
        credentials: Option<PathBuf>,
    ) -> Result<Self> {
        let credential = credentials
            .map(|folder| folder.join(CREDENTIAL))
            .filter(|file| file.exists());
        if let Some(file) = file.map(PathBuf::from).or(credential) {
            let token = read(&file)?;
            return Ok(Self::Configured { token, file });
        }
        if listen.ip().is_loopback() {
            return Ok(Self::Open);
        }
        Token::generate().map(Self::Generated)
    }

    /// What clients have to know.
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Open => None,
            Self::Configured { token, .. } | Self::Generated(token) => Some(token.clone()),
        }
    }

    /// Says where the page is. A new token is said here and never again.
    pub fn announce(&self, address: SocketAddr) {
        let page = format!("http://{}/", reachable(address));
        match self {
            Self::Open => log::info!("live page: {page}"),
            Self::Configured { file, .. } => {
                log::info!(
                    "live page: {page} (asks for the token of {})",
                    file.display()
                );
            }
            // Whatever RUST_LOG leaves out, this is the only way in.
            Self::Generated(token) => terminal::say(
                log::Level::Info,
                &format!(
                    "live page: {page}?token={} (this token ends with this run; --token-file FILE keeps one)",
                    token.reveal()
                ),
            ),
        }
    }
}

fn read(file: &Path) -> Result<Token> {
    let name = file.display();
    let mut text = String::new();
    File::open(file)
        .and_then(|open| open.take(MAX_FILE).read_to_string(&mut text))
        .map_err(Error::io(format!("read the token file {name}")))?;
    Token::parse(&text).map_err(|reason| Error::Usage(format!("{name}: {reason}")))
}

/// The address for people to type: where all addresses are listened on, the one that other machines would use.
fn reachable(listening: SocketAddr) -> SocketAddr {
    if !listening.ip().is_unspecified() {
        return listening;
    }
    let ip = outward_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, listening.port())
}

/// This machine's address on the way out. Connecting a datagram socket (here to an address kept for documentation, RFC
/// 5737) looks up the route and sends nothing.
fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn choose(listen: &str, file: Option<&Path>, credentials: Option<&Path>) -> Result<Door> {
        Door::choose(
            listen.parse().unwrap(),
            file,
            credentials.map(Path::to_path_buf),
        )
    }

    #[test]
    fn only_loopback_goes_without_a_token() {
        for listen in ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"] {
            assert!(
                matches!(choose(listen, None, None), Ok(Door::Open)),
                "{listen}"
            );
        }
        for listen in ["0.0.0.0:0", "192.168.0.2:0", "[::]:0", "[fe80::1]:0"] {
            let door = choose(listen, None, None).unwrap();
            assert!(matches!(door, Door::Generated(_)), "{listen}");
            assert!(door.token().is_some());
        }
    }

    #[test]
    fn the_file_wins_over_the_credential_and_both_hold_on_loopback() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            choose("127.0.0.1:0", None, Some(folder.path())),
            Ok(Door::Open)
        ));
        std::fs::write(folder.path().join(CREDENTIAL), format!("{SECRET}\n")).unwrap();
        let file = folder.path().join("other");
        std::fs::write(&file, "fedcba9876543210").unwrap();
        let token = |file| {
            choose("127.0.0.1:0", file, Some(folder.path()))
                .unwrap()
                .token()
                .unwrap()
        };
        assert!(token(None).matches(SECRET));
        assert!(token(Some(&*file)).matches("fedcba9876543210"));
    }

    #[test]
    fn unusable_files_are_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let error = |file: &Path| choose("0.0.0.0:0", Some(file), None).unwrap_err();
        assert!(error(&file).to_string().contains("read the token file"));
        std::fs::write(&file, "secret").unwrap();
        let text = error(&file).to_string();
        assert!(
            text.contains("token: not a token") && !text.contains("secret"),
            "{text}"
        );
        assert!(
            error(Path::new("/dev/zero"))
                .to_string()
                .contains("not a token")
        );
    }

    #[test]
    fn all_addresses_are_announced_as_one_that_can_be_typed() {
        let fixed = "192.168.0.2:80".parse().unwrap();
        assert_eq!(reachable(fixed), fixed);
        let found = reachable("0.0.0.0:80".parse().unwrap());
        assert!(!found.ip().is_unspecified() && found.port() == 80);
    }
}
