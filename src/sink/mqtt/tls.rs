//! Whom a connection with TLS trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Result};

/// Trusts the authorities in a PEM file, or those of the system if none is given.
pub(super) fn client_config(ca: Option<&Path>) -> Result<ClientConfig> {
    let roots = match ca {
        Some(file) => roots_of(file)?,
        None => roots_of_the_system()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Internal(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn roots_of(file: &Path) -> Result<RootCertStore> {
    let name = file.display();
    let pem = std::fs::read(file).map_err(Error::io(format!("read the certificates of {name}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|reason| {
            Error::Usage(format!(
                "{name}: a certificate in it cannot be used: {reason}"
            ))
        })?;
    }
    if roots.is_empty() {
        return Err(Error::Usage(format!(
            "{name}: no certificate in it; --mqtt-ca takes a PEM file with the authority that signed the broker's"
        )));
    }
    Ok(roots)
}

fn roots_of_the_system() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first();
        let reason = reason.map_or("none is installed".into(), ToString::to_string);
        return Err(Error::Usage(format!(
            "--mqtt mqtts://...: no authorities of this system are to be trusted: {reason}; install the package \
             ca-certificates, or name a PEM file with --mqtt-ca FILE"
        )));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let error = || client_config(Some(&file)).unwrap_err().to_string();
        assert!(error().contains("read the certificates of"));
        std::fs::write(&file, "secret").unwrap();
        assert!(error().contains("ca.pem: no certificate"));
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&file, damaged).unwrap();
        assert!(error().contains("ca.pem: a certificate in it cannot be used"));
    }
}
