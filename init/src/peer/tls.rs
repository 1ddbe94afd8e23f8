//! The two identities of a node, made ready for TLS 1.3: who has the seed's secret, and who is a member. A caller chooses
//! by server name.

use std::sync::Arc;

use masthead_peer_protocol::MEMBER_SERVER_NAME;
use masthead_pki::{PeerAuthority, Trust};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    ServerConfig, SignatureScheme, version,
};
use thiserror::Error;

use super::access::Access;
use super::settings::Settings;
use super::trust::{Distrust, Judge};

/// Why the node's own key cannot be used.
#[derive(Debug, Error)]
pub enum UnusableIdentity {
    /// No certificate can be issued for it.
    #[error("certify the peer key")]
    Certify(#[source] masthead_pki::Error),
    /// The key is no PEM.
    #[error("read the peer key")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// The authority cannot verify peers.
    #[error("use the authority to verify peers")]
    Authority(#[source] VerifierBuilderError),
    /// Certificate and key are not for TLS.
    #[error("use the peer certificate for TLS")]
    Tls(#[source] rustls::Error),
}

/// One identity, both ways.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) judge: Arc<Judge>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

/// What the node shows, with what it lets in.
#[derive(Debug)]
pub(super) struct Identities {
    pub(super) access: Access,
    pub(super) join: Identity,
    pub(super) member: Option<Identity>,
}

impl Identities {
    pub(super) fn new(settings: &Settings, access: Access) -> Result<Self, UnusableIdentity> {
        let membership = access.membership();
        let cluster_id = membership.map(|membership| membership.cluster_id.as_str());
        let join = Identity::new(settings, &settings.join, cluster_id)?;
        let member = membership
            .map(|membership| Identity::new(settings, &membership.authority, cluster_id))
            .transpose()?;
        Ok(Self {
            access,
            join,
            member,
        })
    }

    /// The identity that a caller asks for. Who asks for a member's where there is none sees by the other one that there
    /// is none.
    pub(super) fn named(&self, server_name: Option<&str>) -> &Identity {
        match (&self.member, server_name) {
            (Some(member), Some(MEMBER_SERVER_NAME)) => member,
            _ => &self.join,
        }
    }

    /// The identity for that trust, if there is one.
    pub(super) fn of(&self, trust: Trust) -> Option<&Identity> {
        match trust {
            Trust::Join => Some(&self.join),
            Trust::Member => self.member.as_ref(),
        }
    }
}

impl Identity {
    fn new(
        settings: &Settings,
        authority: &PeerAuthority,
        cluster_id: Option<&str>,
    ) -> Result<Self, UnusableIdentity> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = authority
            .certify(&settings.key, &settings.subject)
            .map_err(UnusableIdentity::Certify)?;
        let chain = vec![CertificateDer::from(certificate)];
        let key = PrivateKeyDer::from_pem_slice(settings.key.pem().expose())
            .map_err(UnusableIdentity::Key)?;
        let judge = Judge::new(
            authority,
            &settings.cluster,
            cluster_id,
            Arc::clone(&provider),
        )
        .map_err(UnusableIdentity::Authority)?;
        let verifier = Arc::new(Verifier {
            judge: Arc::new(judge),
            provider: Arc::clone(&provider),
        });

        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(UnusableIdentity::Tls)?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(UnusableIdentity::Tls)?;
        // A resumed session would not look at the peer's certificate again.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(UnusableIdentity::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_auth_cert(chain, key)
            .map_err(UnusableIdentity::Tls)?;
        client.resumption = Resumption::disabled();
        Ok(Self {
            judge: Arc::clone(&verifier.judge),
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }
}

/// Why TLS with a peer failed, when it was because of what the peer showed.
pub(super) fn distrust(error: &std::io::Error) -> Option<&Distrust> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.downcast_ref()
        }
        _ => None,
    }
}

/// Verifies what peers show, by a judge.
#[derive(Debug)]
struct Verifier {
    judge: Arc<Judge>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn judge(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        self.judge
            .judge(certificate)
            .map(drop)
            .map_err(|distrust| CertificateError::Other(OtherError(Arc::new(distrust))).into())
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// TLS 1.2 is not offered.
fn not_tls12() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not offered".to_owned())
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(certificate)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(not_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// As a client the node finishes the handshake with whoever holds the key of the certificate that it shows, and judges
/// the certificate right after it (`dial`), before a byte of data is sent. Refused in the middle of the handshake, a server
/// would see an alert and not this node's certificate: it could not say on its console who called, and why in vain.
impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(not_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
