//! Whom to believe: exactly one authority, pinned by its certificate or by its fingerprint.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use masthead_api::Fingerprint;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    version,
};

use crate::Failure;

/// The authority that a node's certificate must come from.
#[derive(Clone, Debug)]
pub enum Trust {
    /// This one.
    Authority(CertificateDer<'static>),
    /// The one with this fingerprint, which the node sends along.
    Fingerprint(Fingerprint),
    /// None: the handshake fails, and what the node presented can be looked at.
    Nobody,
}

impl Trust {
    /// This authority, from PEM.
    pub fn authority(pem: &str) -> Result<Self, Failure> {
        CertificateDer::from_pem_slice(pem.as_bytes())
            .map(Self::Authority)
            .map_err(|error| {
                Failure::new(
                    "read the pinned authority",
                    &error,
                    "Run `mastctl login NODE --fingerprint sha256:…`.",
                )
            })
    }

    /// The pinned authority's fingerprint.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Authority(certificate) => Some(Fingerprint::of(certificate)),
            Self::Fingerprint(fingerprint) => Some(*fingerprint),
            Self::Nobody => None,
        }
    }
}

/// Verifies nodes by a [`Trust`], and remembers what the last one presented.
pub(crate) struct Verifier {
    trust: Trust,
    presented: Mutex<Option<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The authority that the node sent along, believed or not.
    pub(crate) fn presented(&self) -> Option<Fingerprint> {
        let presented = self
            .presented
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        presented
            .as_ref()
            .map(|certificate| Fingerprint::of(certificate))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Verifier")
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let sent = intermediates
            .last()
            .map(|certificate| certificate.clone().into_owned());
        *self
            .presented
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = sent;
        let authority = match &self.trust {
            Trust::Authority(certificate) => Some(certificate),
            Trust::Fingerprint(pin) => intermediates
                .iter()
                .find(|certificate| Fingerprint::of(certificate) == *pin),
            Trust::Nobody => None,
        };
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let mut roots = RootCertStore::empty();
        roots.add(authority.ok_or_else(unknown)?.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone())
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(end_entity, &[], server_name, &[], now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A certificate with its key, PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(hidden)")
    }
}

/// TLS 1.3 towards a node: whom to believe, and who to be.
pub(crate) fn configuration(
    trust: Trust,
    credentials: Option<&Credentials>,
) -> Result<(Arc<ClientConfig>, Arc<Verifier>), Failure> {
    let unusable = |error: &dyn std::error::Error| {
        Failure::new(
            "use the operator's certificate and key",
            error,
            "Run `mastctl login NODE`.",
        )
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier {
        trust,
        presented: Mutex::new(None),
        provider: provider.clone(),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let mut config = match credentials {
        Some(Credentials { certificate, key }) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
                .map_err(|error| unusable(&error))?;
            let key =
                PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unusable(&error))?;
            builder
                .with_client_auth_cert(vec![certificate], key)
                .map_err(|error| unusable(&error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), verifier))
}
