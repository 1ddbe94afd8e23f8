//! What the server is: its certificate, and what it may issue.

use std::sync::Arc;

use masthead_api::Fingerprint;
use masthead_pki::{Authority, Leaf, server_key_hash};
use masthead_seed::{ImageKey, OperatorKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use thiserror::Error;

/// What the server issues certificates with, and for whom.
#[derive(Debug)]
pub struct Issuers {
    /// Of operators, and of the server itself.
    pub operators: Authority,
    /// Of users of the apiserver; absent while the node is no member of a cluster, when the operators' authority is a
    /// provisional one.
    pub kubernetes: Option<Authority>,
    /// The operators that the seed names. One who is taken out is refused from then on, whatever
    /// certificate there still is.
    pub admins: Vec<OperatorKey>,
    /// Who signs images, according to the seed.
    pub image_keys: Vec<ImageKey>,
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Where the apiserver is for kubectl: `https://HOST:PORT`.
    pub kubernetes_server: String,
}

/// The server's certificate made ready for TLS, with what it may issue. Exchanged as a whole: a connection
/// keeps the one that it began with, so that a login proof is checked against the very certificate that
/// this client saw.
#[derive(Debug)]
pub struct Identity {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) key_hash: [u8; 32],
    pub(super) issuers: Issuers,
}

/// Why no server can be made of a leaf and an authority.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The certificate or the key is no PEM.
    #[error("read the management server's certificate or key")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// The certificate is none.
    #[error("read the management server's certificate")]
    Certificate(#[source] masthead_pki::Error),
    /// The operators' authority cannot verify clients.
    #[error("use the operators' authority to verify clients")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Certificate and key are not a pair, or not for TLS.
    #[error("use the management server's certificate for TLS")]
    Tls(#[source] rustls::Error),
}

impl Identity {
    /// Makes a `management-server` leaf and its issuers ready for TLS 1.3.
    pub fn new(leaf: &Leaf, issuers: Issuers) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes())
            .map_err(IdentityError::Pem)?;
        let key =
            PrivateKeyDer::from_pem_slice(leaf.key_pem.expose()).map_err(IdentityError::Pem)?;
        let key_hash = server_key_hash(&certificate).map_err(IdentityError::Certificate)?;

        let authority = CertificateDer::from(issuers.operators.certificate_der().to_vec());
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.clone())
            .map_err(|error| IdentityError::Authority(error.into()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // A client without a certificate gets in, and then nowhere but to the login.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| IdentityError::Authority(error.into()))?;
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(IdentityError::Tls)?
            .with_client_cert_verifier(verifier)
            // The authority goes along although TLS does not ask for it: a client that knows only its
            // fingerprint finds it there.
            .with_single_cert(vec![certificate, authority], key)
            .map_err(IdentityError::Tls)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would not look at the client's certificate again.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(Self {
            tls: Arc::new(tls),
            key_hash,
            issuers,
        })
    }

    /// Whether the operators' authority is a provisional one: the node is no member of a cluster.
    pub fn is_provisional(&self) -> bool {
        self.issuers.kubernetes.is_none()
    }

    /// The fingerprint of the operators' authority, for the console and `mastctl login --fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.issuers.operators.certificate_der())
    }
}
