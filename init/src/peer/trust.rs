//! What a shown certificate proves, or why it proves nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use masthead_api::ReasonCode;
use masthead_pki::{
    ClaimedIssuer, PeerAuthority, PeerDescription, PeerFingerprint, PeerSubject, Trust,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, server::VerifierBuilderError};

/// The instant at which certificates are verified: that of all peers' certificates, whatever the clock says. They are
/// valid for ever, because a clock may stand anywhere.
const ANY_TIME: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(946_684_800));

/// Verifies certificates of one of the two authorities.
#[derive(Debug)]
pub(super) struct Judge {
    trust: Trust,
    /// The cluster's name in the seed.
    cluster: String,
    /// The id of the cluster that this node belongs to, or is about to.
    cluster_id: Option<String>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// A peer whose certificate is what it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certified {
    pub(super) trust: Trust,
    pub(super) subject: PeerSubject,
    pub(super) key: PeerFingerprint,
}

/// Why a certificate proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    /// Our cluster's name, derived from another secret.
    OtherSecret,
    /// The join authority of another cluster's name.
    OtherCluster { name: String },
    /// A member of another founded cluster.
    OtherMember { cluster_id: String },
    /// It has the seed's secret, where a member of the founded cluster was expected.
    NotMember,
    /// A member of the founded cluster, where this node has none yet.
    IsMember { cluster_id: String },
    /// No certificate that masters show to each other.
    NoPeer,
}

impl Judge {
    pub(super) fn new(
        authority: &PeerAuthority,
        cluster: &str,
        cluster_id: Option<&str>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let mut roots = RootCertStore::empty();
        // An authority that is no certificate leaves the store empty, which the builder refuses.
        let _ = roots.add(CertificateDer::from(authority.certificate_der().to_vec()));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build()?;
        Ok(Self {
            trust: authority.trust(),
            cluster: cluster.to_owned(),
            cluster_id: cluster_id.map(str::to_owned),
            verifier,
        })
    }

    /// Judges the certificate that a peer showed. That it holds the key is TLS' business.
    pub(super) fn judge(&self, certificate: &CertificateDer<'_>) -> Result<Certified, Distrust> {
        let description = PeerDescription::of_der(certificate).map_err(|_| Distrust::NoPeer)?;
        let verified = self.verifier.verify_client_cert(certificate, &[], ANY_TIME);
        match (verified, description.subject) {
            (Ok(_), Some(subject)) => Ok(Certified {
                trust: self.trust,
                subject,
                key: description.key,
            }),
            (Ok(_), None) => Err(Distrust::NoPeer),
            (Err(_), _) => Err(self.explain(description.issuer)),
        }
    }

    /// Why a certificate of that issuer is none of this authority's.
    fn explain(&self, issuer: ClaimedIssuer) -> Distrust {
        match issuer {
            ClaimedIssuer::Join { cluster } if cluster != self.cluster => {
                Distrust::OtherCluster { name: cluster }
            }
            ClaimedIssuer::Join { .. } => match self.trust {
                Trust::Join => Distrust::OtherSecret,
                Trust::Member => Distrust::NotMember,
            },
            ClaimedIssuer::Member { cluster_id } => match &self.cluster_id {
                None => Distrust::IsMember { cluster_id },
                Some(_) => Distrust::OtherMember { cluster_id },
            },
            ClaimedIssuer::Other => Distrust::NoPeer,
        }
    }
}

impl Distrust {
    /// For programs.
    pub(super) fn code(&self) -> ReasonCode {
        match self {
            Self::OtherSecret => ReasonCode::PeerOtherSecret,
            Self::OtherCluster { .. } | Self::OtherMember { .. } => ReasonCode::PeerOtherCluster,
            Self::NotMember => ReasonCode::PeerNotMember,
            Self::IsMember { .. } => ReasonCode::PeerIsMember,
            Self::NoPeer => ReasonCode::PeerUntrusted,
        }
    }
}

impl fmt::Display for Distrust {
    /// What it is, to follow "it" or a name.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherSecret => {
                formatter.write_str("has the same cluster name and another secret")
            }
            Self::OtherCluster { name } => write!(formatter, "has the seed of cluster \"{name}\""),
            Self::OtherMember { cluster_id } => write!(
                formatter,
                "is a member of another cluster, {}",
                short(cluster_id)
            ),
            Self::NotMember => formatter.write_str("belongs to no cluster yet"),
            Self::IsMember { cluster_id } => write!(
                formatter,
                "is a member of the founded cluster {}",
                short(cluster_id)
            ),
            Self::NoPeer => formatter.write_str("shows no certificate of a master"),
        }
    }
}

impl std::error::Error for Distrust {}

fn short(cluster_id: &str) -> &str {
    cluster_id.get(..8).unwrap_or(cluster_id)
}
