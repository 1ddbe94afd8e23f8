//! What a client of Kubernetes shows and believes, from a kubeconfig.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::error::{Attempt, Error, Result};

/// The authority, and the client's certificate and key, of a kubeconfig that mastctl has written.
pub(crate) fn credentials(kubeconfig: &Path) -> Result<TlsConfig> {
    let text =
        fs::read_to_string(kubeconfig).attempt(|| format!("read {}", kubeconfig.display()))?;
    let wrong = |what: &str| Error::Refused(format!("{}: {what}", kubeconfig.display()));
    let field = |name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(": "));
        let value = value.ok_or_else(|| wrong(&format!("no {name}")))?;
        STANDARD
            .decode(value.trim())
            .map_err(|error| wrong(&format!("{name}: {error}")))
    };
    let certificate = |name: &str| {
        Certificate::from_pem(&field(name)?).map_err(|error| wrong(&format!("{name}: {error}")))
    };
    let key = PrivateKey::from_pem(&field("client-key-data")?)
        .map_err(|error| wrong(&format!("client-key-data: {error}")))?;
    let authority = certificate("certificate-authority-data")?;
    let client = ClientCert::new_with_certs(&[certificate("client-certificate-data")?], key);
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[authority]))
        .client_cert(Some(client))
        .build())
}
