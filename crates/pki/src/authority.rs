//! Certificate authorities.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::parse_x509_pem;

use crate::peer::ALWAYS;
use crate::{Description, Error, Secret};

/// How far back a certificate's validity begins: clocks of one cluster differ.
pub(crate) const BACKDATING: Duration = Duration::hours(1);

/// How long an authority is valid: ten years of 365 days.
const LIFETIME: Duration = Duration::days(3650);

/// The five authorities. They are apart so that what one vouches for means nothing to another: an etcd client is no
/// Kubernetes user, and an operator of machines is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthorityKind {
    /// etcd's members and clients. Whoever it certifies may do everything in etcd.
    Etcd,
    /// The apiserver, its users and the kubelets.
    Kubernetes,
    /// Proxies whose word on the user's name aggregated apiservers trust.
    FrontProxy,
    /// The management API's servers and operators.
    Operators,
    /// Masters towards each other.
    Peers,
}

impl AuthorityKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Etcd,
        Self::Kubernetes,
        Self::FrontProxy,
        Self::Operators,
        Self::Peers,
    ];

    /// Its name, also that of its files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kubernetes => "kubernetes",
            Self::FrontProxy => "front-proxy",
            Self::Operators => "operators",
            Self::Peers => "peers",
        }
    }
}

/// A certificate authority with its key; cheap to clone.
#[derive(Clone, Debug)]
pub struct Authority {
    kind: AuthorityKind,
    certificate_pem: String,
    certificate_der: Vec<u8>,
    /// Nothing that it issues may outlive it: verifiers such as webpki do not look at a trusted authority's own dates.
    pub(crate) not_after: OffsetDateTime,
    pub(crate) issuer: Arc<Issuer<'static, KeyPair>>,
}

impl Authority {
    /// Makes a new one for the cluster of that id, which its subject names so that the authorities of two clusters
    /// are told apart.
    pub fn generate(
        kind: AuthorityKind,
        cluster_id: &str,
        now: OffsetDateTime,
    ) -> Result<Self, Error> {
        let of = || format!("the {} authority", kind.name());
        let key = new_key(of)?;
        let mut parameters = CertificateParams::default();
        (parameters.not_before, parameters.not_after) = match kind {
            AuthorityKind::Peers => ALWAYS,
            _ => (now - BACKDATING, now + LIFETIME),
        };
        parameters.distinguished_name = DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::CommonName, format!("{} {cluster_id}", kind.name()));
        // It issues leaves only.
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let certificate = parameters
            .self_signed(&key)
            .map_err(|source| Error::Issue { of: of(), source })?;
        Ok(Self {
            kind,
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            not_after: parameters.not_after,
            issuer: Arc::new(Issuer::new(parameters, key)),
        })
    }

    /// Reads one back from the PEM of its certificate and of its key.
    pub fn parse(
        kind: AuthorityKind,
        certificate_pem: &str,
        key_pem: &Secret,
    ) -> Result<Self, Error> {
        let of = || format!("the {} authority", kind.name());
        let key = parse_key(key_pem, of)?;
        let certificate_der = pair(certificate_pem, &key, of)?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(|source| {
            Error::Certificate {
                of: of(),
                detail: source.to_string(),
            }
        })?;
        Ok(Self {
            kind,
            certificate_pem: certificate_pem.to_owned(),
            not_after: Description::of_der(&certificate_der)?.not_after,
            certificate_der,
            issuer: Arc::new(issuer),
        })
    }

    /// Which one it is.
    pub fn kind(&self) -> AuthorityKind {
        self.kind
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Its certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Its private key, PKCS #8 in PEM.
    pub fn key_pem(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem())
    }
}

/// Makes a new key: ECDSA on P-256.
pub(crate) fn new_key(of: impl Fn() -> String) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(|source| Error::Generate { of: of(), source })
}

/// Parses a private key.
pub(crate) fn parse_key(key_pem: &Secret, of: impl Fn() -> String) -> Result<KeyPair, Error> {
    let text = key_pem.text().map_err(|_| Error::PrivateKey {
        of: of(),
        source: rcgen::Error::CouldNotParseKeyPair,
    })?;
    KeyPair::from_pem(text).map_err(|source| Error::PrivateKey { of: of(), source })
}

/// Checks that the certificate is of that key, and returns its DER.
pub(crate) fn pair(
    certificate_pem: &str,
    key: &KeyPair,
    of: impl Fn() -> String,
) -> Result<Vec<u8>, Error> {
    let unreadable = |detail: String| Error::Certificate { of: of(), detail };
    let (_, pem) = parse_x509_pem(certificate_pem.as_bytes())
        .map_err(|error| unreadable(error.to_string()))?;
    let certificate = pem
        .parse_x509()
        .map_err(|error| unreadable(error.to_string()))?;
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(Error::Mismatch { of: of() });
    }
    drop(certificate);
    Ok(pem.contents)
}
