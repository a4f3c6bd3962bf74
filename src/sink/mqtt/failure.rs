//! Why there is no connection, for the one who can mend it.

use std::error::Error;
use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use rustls::CertificateError;

use super::url::{BrokerUrl, Security};

/// The reason and, where one is known, what to do.
pub(super) fn reason(error: &ConnectionError, url: &BrokerUrl) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => return refusal(*code, url),
        ConnectionError::NetworkTimeout => return "it does not answer".into(),
        ConnectionError::FlushTimeout => return "it takes no more messages".into(),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            return "it does not answer any more".into();
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => return closed(url),
        _ => {}
    }
    if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref()) {
        return tls(error);
    }
    if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref()) {
        return io(error, url);
    }
    format!("what it says is not MQTT: {error}")
}

fn refusal(code: ConnectReturnCode, url: &BrokerUrl) -> String {
    let whom = match &url.user {
        Some(user) => format!("user {user} with this password"),
        None => {
            "clients without user and password (--mqtt mqtt://USER@HOST, --mqtt-password-file FILE)"
                .into()
        }
    };
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            format!("it refuses {whom}")
        }
        ConnectReturnCode::ServiceUnavailable => "it is out of service".into(),
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1".into(),
        other => format!("it refuses the connection: {other:?}"),
    }
}

fn closed(url: &BrokerUrl) -> String {
    let mut text = String::from("it closed the connection");
    if url.security == Security::Plain && url.port == 8883 {
        text += " (port 8883 is the one for mqtts://)";
    }
    text
}

fn io(error: &io::Error, url: &BrokerUrl) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => closed(url),
        _ => error.to_string(),
    }
}

fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "nobody that is trusted has signed its certificate; name the authority that has with --mqtt-ca FILE".into()
        }
        rustls::Error::InvalidMessage(_) => {
            "what it says is not TLS; is it a port for mqtt:// without s?".into()
        }
        other => format!("TLS: {other}"),
    }
}

/// The error and what caused it, down to what an I/O error wraps.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
