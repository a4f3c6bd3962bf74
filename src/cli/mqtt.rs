//! Which MQTT broker `run` tells, and where its password and this machine's name come from.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::labels::Labels;
use crate::sink::mqtt::{
    BrokerUrl, Counting, Group, Password, Security, Settings, parse_name, parse_topic,
};
use crate::track::{Zone, ZoneKind};

/// Name of the systemd credential that holds the password.
const CREDENTIAL: &str = "eyas-mqtt-password";
/// Of a password file no more is read.
const MAX_FILE: u64 = 4096;
const DEFAULT_DISCOVERY: &str = "homeassistant";

/// Flags and keys about MQTT.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct MqttArgs {
    /// Tell an MQTT broker what is found: mqtt://[USER@]HOST[:PORT][/PREFIX], or mqtts:// for TLS
    #[arg(long, value_name = "URL", value_parser = BrokerUrl::parse)]
    pub mqtt: Option<BrokerUrl>,
    /// Name of this machine in MQTT topics: PREFIX/NAME/... [default: the host name]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub mqtt_name: Option<String>,
    /// File with the password of the broker's USER [default: the systemd credential eyas-mqtt-password]
    #[arg(long, value_name = "FILE")]
    pub mqtt_password_file: Option<PathBuf>,
    /// PEM file with the authorities that mqtts:// trusts [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub mqtt_ca: Option<PathBuf>,
    /// Topic below which Home Assistant discovers devices, or `off` [default: homeassistant]
    #[arg(long, value_name = "TOPIC", value_parser = parse_discovery)]
    pub mqtt_discovery: Option<Discovery>,
}

/// Whether and where Home Assistant is told of this eyas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    Off,
    Below(String),
}

/// A topic, or `off`.
pub(super) fn parse_discovery(text: &str) -> std::result::Result<Discovery, String> {
    if text == "off" {
        return Ok(Discovery::Off);
    }
    parse_topic(text).map(Discovery::Below)
}

impl MqttArgs {
    /// What is not set here is taken from `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            mqtt: self.mqtt.or(other.mqtt),
            mqtt_name: self.mqtt_name.or(other.mqtt_name),
            mqtt_password_file: self.mqtt_password_file.or(other.mqtt_password_file),
            mqtt_ca: self.mqtt_ca.or(other.mqtt_ca),
            mqtt_discovery: self.mqtt_discovery.or(other.mqtt_discovery),
        }
    }

    /// Reads the files that are named. `None` if no broker is told.
    pub fn settings(&self, counting: Counting, groups: Vec<Group>) -> Result<Option<Settings>> {
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        self.settings_with(counting, groups, credentials)
    }

    fn settings_with(
        &self,
        counting: Counting,
        groups: Vec<Group>,
        credentials: Option<PathBuf>,
    ) -> Result<Option<Settings>> {
        let Some(url) = &self.mqtt else {
            return match self.first_of_others() {
                Some(flag) => Err(Error::Usage(format!(
                    "--{flag}: no broker is named; pass one with --mqtt URL"
                ))),
                None => Ok(None),
            };
        };
        if self.mqtt_ca.is_some() && url.security == Security::Plain {
            return Err(Error::Usage(format!(
                "--mqtt-ca: {url} is not encrypted; write mqtts:// for a broker with TLS"
            )));
        }
        let name = match &self.mqtt_name {
            Some(name) => name.clone(),
            None => host_name(Path::new("/proc/sys/kernel/hostname"))?,
        };
        let discovery = match &self.mqtt_discovery {
            Some(Discovery::Off) => None,
            Some(Discovery::Below(topic)) => Some(topic.clone()),
            None => Some(DEFAULT_DISCOVERY.into()),
        };
        Ok(Some(Settings {
            password: self.password(url, credentials)?,
            url: url.clone(),
            ca: self.mqtt_ca.clone(),
            name,
            discovery,
            counting,
            groups,
        }))
    }

    /// A flag that says something about a broker.
    fn first_of_others(&self) -> Option<&'static str> {
        let others = [
            (self.mqtt_name.is_some(), "mqtt-name"),
            (self.mqtt_password_file.is_some(), "mqtt-password-file"),
            (self.mqtt_ca.is_some(), "mqtt-ca"),
            (self.mqtt_discovery.is_some(), "mqtt-discovery"),
        ];
        others.iter().find(|(set, _)| *set).map(|(_, flag)| *flag)
    }

    /// The password of the file, else of the credential that systemd passes.
    fn password(&self, url: &BrokerUrl, credentials: Option<PathBuf>) -> Result<Option<Password>> {
        let credential = credentials
            .map(|folder| folder.join(CREDENTIAL))
            .filter(|file| file.exists());
        let Some(file) = self.mqtt_password_file.clone().or(credential) else {
            return Ok(None);
        };
        if url.user.is_none() {
            return Err(Error::Usage(format!(
                "{}: a password without a user; name the user with --mqtt mqtt://USER@HOST",
                file.display()
            )));
        }
        read_password(&file).map(Some)
    }
}

/// What can be counted: the labels of a model, and in each zone those that it is for.
pub(super) fn groups(labels: &Labels, zones: &[Zone]) -> Vec<Group> {
    let named = (0..labels.len()).filter(|&id| !labels.is_hole(id));
    let group = |zone: Option<&Zone>| {
        let is_for = |id: &usize| zone.is_none_or(|zone| zone.is_for(*id));
        Group {
            zone: zone.map(|zone| zone.name.clone()),
            labels: named
                .clone()
                .filter(is_for)
                .map(|id| labels.name(id))
                .collect(),
        }
    };
    let counted = zones.iter().filter(|zone| zone.kind != ZoneKind::Exclude);
    std::iter::once(group(None))
        .chain(counted.map(|zone| group(Some(zone))))
        .collect()
}

fn read_password(file: &Path) -> Result<Password> {
    let name = file.display();
    let mut text = String::new();
    File::open(file)
        .and_then(|open| open.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(Error::io(format!("read the password file {name}")))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || text.len() as u64 > MAX_FILE {
        return Err(Error::Usage(format!(
            "{name}: not a password: one line of at most {MAX_FILE} bytes is needed"
        )));
    }
    Ok(Password(password.into()))
}

/// The host's name without its domain, with `_` for every character that a name must not have.
fn host_name(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let short = text.trim().split('.').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let name = short.replace(|c| !is_plain(c), "_");
    parse_name(&name).map_err(|reason| {
        Error::Usage(format!(
            "the host name cannot be this machine's name in MQTT topics ({reason}); pass one with --mqtt-name NAME"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str) -> MqttArgs {
        MqttArgs {
            mqtt: Some(BrokerUrl::parse(url).unwrap()),
            mqtt_name: Some("gate".into()),
            ..MqttArgs::default()
        }
    }

    fn error(args: &MqttArgs) -> String {
        let error = args
            .settings_with(Counting::Tracks, Vec::new(), None)
            .unwrap_err();
        error.to_string()
    }

    #[test]
    fn without_a_broker_nobody_is_told_and_other_flags_are_a_mistake() {
        let none = MqttArgs::default();
        assert!(
            none.settings_with(Counting::Tracks, Vec::new(), None)
                .unwrap()
                .is_none()
        );
        let mut args = args("mqtt://localhost");
        args.mqtt = None;
        assert!(error(&args).starts_with("--mqtt-name: no broker"));
    }

    #[test]
    fn home_assistant_is_told_unless_it_is_off() {
        let mut args = args("mqtt://localhost");
        let told = |args: &MqttArgs| {
            args.settings_with(Counting::Tracks, Vec::new(), None)
                .unwrap()
                .unwrap()
                .discovery
        };
        assert_eq!(told(&args).as_deref(), Some("homeassistant"));
        args.mqtt_discovery = Some(parse_discovery("ha").unwrap());
        assert_eq!(told(&args).as_deref(), Some("ha"));
        args.mqtt_discovery = Some(parse_discovery("off").unwrap());
        assert_eq!(told(&args), None);
        assert!(parse_discovery("#").is_err());
    }

    #[test]
    fn the_password_file_wins_over_the_credential_and_needs_a_user() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CREDENTIAL), "sesame\n").unwrap();
        let mut args = args("mqtt://me@localhost");
        let password = |args: &MqttArgs| {
            let settings =
                args.settings_with(Counting::Tracks, Vec::new(), Some(folder.path().into()));
            settings.map(|settings| settings.unwrap().password.unwrap().0)
        };
        assert_eq!(password(&args).unwrap(), "sesame");
        let file = folder.path().join("other");
        std::fs::write(&file, " with spaces \r\n").unwrap();
        args.mqtt_password_file = Some(file.clone());
        assert_eq!(password(&args).unwrap(), " with spaces ");
        for text in ["", "\n", &"x".repeat(5000)] {
            std::fs::write(&file, text).unwrap();
            assert!(error(&args).contains("other: not a password"), "{text}");
        }
        args.mqtt = Some(BrokerUrl::parse("mqtt://localhost").unwrap());
        assert!(error(&args).contains("other: a password without a user"));
        args.mqtt_password_file = None;
        let text = password(&args).unwrap_err().to_string();
        assert!(
            text.contains("eyas-mqtt-password: a password without a user"),
            "{text}"
        );
    }

    #[test]
    fn authorities_are_for_encrypted_connections() {
        let mut args = args("mqtt://localhost");
        args.mqtt_ca = Some("ca.pem".into());
        assert!(error(&args).contains("write mqtts://"));
    }

    #[test]
    fn the_host_is_named_without_its_domain() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hostname");
        std::fs::write(&file, "gate north.example.org\n").unwrap();
        assert_eq!(host_name(&file).unwrap(), "gate_north");
        std::fs::write(&file, "\n").unwrap();
        assert!(
            host_name(&file)
                .unwrap_err()
                .to_string()
                .contains("--mqtt-name")
        );
    }
}
