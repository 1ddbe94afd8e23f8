//! Who masters are to each other.
//!
//! Before there is a cluster, all that they have in common is the seed. From its secret and the cluster's name each
//! derives the same *join authority*, and certifies itself with it: whoever shows such a certificate holds the
//! secret, which itself never travels. When the cluster is founded it gets a *peer authority* of its own, by which
//! members know each other from then on, and the join authority opens nothing any more.
//!
//! Dates play no part in either: a machine whose clock stands at 1970, or years ahead, must be able to join, and nobody is
//! kept out by a date who could make a certificate himself. So these certificates are valid for ever; who is a member is
//! decided by the list of members and their keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use ring::digest::{SHA256, digest};
use ring::hkdf;
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;
use time::macros::datetime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;
use zeroize::Zeroizing;

use crate::authority::{new_key, parse_key};
use crate::{Authority, AuthorityKind, Error, Secret};

/// From when and until when certificates among peers are valid: always. The end is that of RFC 5280, 4.1.2.5, for
/// certificates without one.
pub(crate) const ALWAYS: (OffsetDateTime, OffsetDateTime) = (
    datetime!(1970-01-01 0:00 UTC),
    datetime!(9999-12-31 23:59:59 UTC),
);

/// The salt of all derivations.
const SALT: &[u8] = b"masthead";

/// What the join authority's key is derived for. A new way of deriving it gets a new number.
const JOIN_LABEL: &[u8] = b"masthead join authority v1\0";

/// The join authority's common name.
const JOIN_NAME: &str = "masthead join authority";

/// What comes before a machine's id in its certificate.
const MACHINE: &str = "urn:masthead:machine:";

/// What a peer shows to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trust {
    /// That it holds the seed's secret.
    Join,
    /// That it was certified by the cluster's own peer authority.
    Member,
}

/// SHA-256 of a peer's public key (SubjectPublicKeyInfo, DER): what a peer is pinned by. Written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerFingerprint(pub [u8; 32]);

impl fmt::Display for PeerFingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerFingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PeerFingerprint({self})")
    }
}

/// The text is not 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer's fingerprint is 64 hexadecimal digits in lower case")]
pub struct InvalidPeerFingerprint;

impl FromStr for PeerFingerprint {
    type Err = InvalidPeerFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 2 * bytes.len() {
            return Err(InvalidPeerFingerprint);
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(InvalidPeerFingerprint),
        };
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = value(pair[0])? * 16 + value(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

/// A node's key towards its peers: ECDSA on P-256, made once and kept for as long as STATE is.
#[derive(Debug)]
pub struct PeerKey(KeyPair);

impl PeerKey {
    const OF: &str = "a peer";

    /// Makes a new one.
    pub fn generate() -> Result<Self, Error> {
        new_key(|| Self::OF.to_owned()).map(Self)
    }

    /// Reads one back from [`PeerKey::pem`].
    pub fn parse(pem: &Secret) -> Result<Self, Error> {
        parse_key(pem, || Self::OF.to_owned()).map(Self)
    }

    /// PKCS #8 in PEM.
    pub fn pem(&self) -> Secret {
        Secret::new(self.0.serialize_pem())
    }

    /// What others know it by.
    pub fn fingerprint(&self) -> PeerFingerprint {
        use rcgen::PublicKeyData as _;
        fingerprint(&self.0.subject_public_key_info())
    }
}

fn fingerprint(public_key_info: &[u8]) -> PeerFingerprint {
    let hash = digest(&SHA256, public_key_info);
    PeerFingerprint(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// One of the two authorities that certify peers; cheap to clone.
#[derive(Clone)]
pub struct PeerAuthority {
    trust: Trust,
    certificate_der: Arc<[u8]>,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl fmt::Debug for PeerAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PeerAuthority({:?})", self.trust)
    }
}

impl PeerAuthority {
    /// The join authority of that secret and that cluster's name: the same bytes on every node. Its subject has the
    /// name, so that a peer of another cluster can be told from one with another secret.
    pub fn join(secret: &masthead_seed::Secret, cluster: &str) -> Result<Self, Error> {
        let of = || "the join authority".to_owned();
        let failed = |source| Error::Generate { of: of(), source };
        let key = derive_key(secret.expose(), &[JOIN_LABEL, cluster.as_bytes()]).map_err(failed)?;
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, cluster);
        name.push(DnType::CommonName, JOIN_NAME);
        let mut parameters = CertificateParams::default();
        (parameters.not_before, parameters.not_after) = ALWAYS;
        parameters.distinguished_name = name;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = parameters
            .self_signed(&key)
            .map_err(|source| Error::Issue { of: of(), source })?;
        Ok(Self {
            trust: Trust::Join,
            certificate_der: certificate.der().as_ref().into(),
            issuer: Arc::new(Issuer::new(parameters, key)),
        })
    }

    /// A founded cluster's peer authority.
    ///
    /// # Panics
    /// When it is an authority of another kind: that would be a fault of the caller's code.
    pub fn member(authority: &Authority) -> Self {
        assert_eq!(
            authority.kind(),
            AuthorityKind::Peers,
            "members know each other by the peer authority"
        );
        Self {
            trust: Trust::Member,
            certificate_der: authority.certificate_der().into(),
            issuer: Arc::clone(&authority.issuer),
        }
    }

    /// What its certificates show.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Its certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Certifies a node's key; DER. Good as server and as client, valid for ever, and never stored: a node mints it
    /// whenever it starts.
    pub fn certify(&self, key: &PeerKey, subject: &PeerSubject) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Issue {
            of: PeerKey::OF.to_owned(),
            source,
        };
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, subject.name.as_str());
        let machine = format!("{MACHINE}{}", subject.machine_id);
        let mut parameters = CertificateParams::default();
        (parameters.not_before, parameters.not_after) = ALWAYS;
        parameters.distinguished_name = name;
        parameters
            .subject_alt_names
            .push(SanType::URI(machine.as_str().try_into().map_err(failed)?));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters
            .signed_by(&key.0, self.issuer.as_ref())
            .map_err(failed)?;
        Ok(certificate.der().to_vec())
    }
}

/// HKDF-SHA-256 of a secret for that purpose, as an Ed25519 key.
fn derive_key(secret: &[u8], purpose: &[&[u8]]) -> Result<KeyPair, rcgen::Error> {
    /// PKCS #8 of an Ed25519 key: a constant head and the key (RFC 8410, section 7).
    const HEAD: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let mut pkcs8 = Zeroizing::new([0; 48]);
    pkcs8[..16].copy_from_slice(&HEAD);
    hkdf::Salt::new(hkdf::HKDF_SHA256, SALT)
        .extract(secret)
        .expand(purpose, hkdf::HKDF_SHA256)
        .and_then(|derived| derived.fill(&mut pkcs8[16..]))
        .map_err(|_| rcgen::Error::RingUnspecified)?;
    KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(pkcs8.as_slice()),
        &PKCS_ED25519,
    )
}

/// Whom a peer's certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerSubject {
    /// 32 random hexadecimal digits, made at the machine's first boot: who it is.
    pub machine_id: String,
    /// The master's name in its seed: what people call it.
    pub name: String,
}

/// Who issued a peer's certificate, by what the certificate says: only a verified signature makes it true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedIssuer {
    /// The join authority of the cluster of that name.
    Join {
        /// The cluster's name.
        cluster: String,
    },
    /// The peer authority of the founded cluster of that id.
    Member {
        /// 32 hexadecimal digits.
        cluster_id: String,
    },
    /// None that masters know each other by.
    Other,
}

/// What a peer's certificate says. Nothing of it is true before TLS has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDescription {
    /// Whom it is for; absent where it does not say so as peers' certificates do.
    pub subject: Option<PeerSubject>,
    /// Who issued it.
    pub issuer: ClaimedIssuer,
    /// The key that it is for.
    pub key: PeerFingerprint,
}

impl PeerDescription {
    /// Reads a certificate in DER.
    pub fn of_der(certificate: &[u8]) -> Result<Self, Error> {
        let (_, certificate) =
            x509_parser::parse_x509_certificate(certificate).map_err(|error| {
                Error::Certificate {
                    of: PeerKey::OF.to_owned(),
                    detail: error.to_string(),
                }
            })?;
        Ok(Self {
            subject: subject(&certificate),
            issuer: issuer(certificate.issuer()),
            key: fingerprint(certificate.public_key().raw),
        })
    }
}

fn subject(certificate: &X509Certificate<'_>) -> Option<PeerSubject> {
    let alternative = certificate.subject_alternative_name().ok()??;
    let machine_id = alternative
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(MACHINE).filter(|id| is_id(id)),
            _ => None,
        })?;
    Some(PeerSubject {
        machine_id: machine_id.to_owned(),
        name: label(common_name(certificate.subject())?)?.to_owned(),
    })
}

fn issuer(name: &X509Name<'_>) -> ClaimedIssuer {
    let organization = name
        .iter_organization()
        .next()
        .and_then(|organization| organization.as_str().ok());
    let common_name = common_name(name).unwrap_or_default();
    if common_name == JOIN_NAME
        && let Some(cluster) = organization.and_then(label)
    {
        return ClaimedIssuer::Join {
            cluster: cluster.to_owned(),
        };
    }
    let member = common_name
        .strip_prefix(AuthorityKind::Peers.name())
        .and_then(|rest| rest.strip_prefix(' '))
        .filter(|id| is_id(id));
    member.map_or(ClaimedIssuer::Other, |cluster_id| ClaimedIssuer::Member {
        cluster_id: cluster_id.to_owned(),
    })
}

fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    name.iter_common_name().next()?.as_str().ok()
}

/// A DNS label and nothing else: it is shown on consoles, and anybody may have written it.
fn label(text: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (!text.is_empty() && text.len() <= 63 && text.bytes().all(plain)).then_some(text)
}

/// 128 bits in hexadecimal, as machines and clusters are called.
fn is_id(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}
