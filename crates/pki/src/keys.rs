//! Keys that have no certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::authority::{new_key, parse_key};
use crate::{Error, Secret};

/// The key that signs service-account tokens: ECDSA on P-256, so tokens say `ES256`.
#[derive(Debug)]
pub struct ServiceAccountKey(KeyPair);

impl ServiceAccountKey {
    const OF: &str = "service-account tokens";

    /// Makes a new one.
    pub fn generate() -> Result<Self, Error> {
        new_key(|| Self::OF.to_owned()).map(Self)
    }

    /// Reads one back.
    pub fn parse(key_pem: &Secret) -> Result<Self, Error> {
        parse_key(key_pem, || Self::OF.to_owned()).map(Self)
    }

    /// The private key, PKCS #8 in PEM: signs tokens.
    pub fn private_pem(&self) -> Secret {
        Secret::new(self.0.serialize_pem())
    }

    /// The public key, PEM: verifies tokens.
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }
}

/// A key for a certificate that somebody else signs, such as kubectl's: ECDSA on P-256.
#[derive(Debug)]
pub struct ClientKey(KeyPair);

impl ClientKey {
    /// Makes a new one.
    pub fn generate() -> Result<Self, Error> {
        new_key(|| "a client".to_owned()).map(Self)
    }

    /// The private key, PKCS #8 in PEM.
    pub fn private_pem(&self) -> Secret {
        Secret::new(self.0.serialize_pem())
    }

    /// The public key, SubjectPublicKeyInfo in PEM: what [`issue_kubernetes_admin`](crate::issue_kubernetes_admin)
    /// asks for.
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }
}

/// The key under which the apiserver encrypts secrets in etcd: 32 random bytes for `secretbox`
/// (XSalsa20 and Poly1305).
///
/// Not `aescbc`, which is open to padding oracles by Kubernetes' own documentation, and not `aesgcm`, whose random
/// 96-bit nonces ask for a new key every 200,000 writes; secretbox's 192-bit nonces may be random for ever.
#[derive(Clone)]
pub struct EncryptionKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("EncryptionKey(hidden)")
    }
}

impl EncryptionKey {
    /// Makes a new one.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(bytes.as_mut_slice())
            .map_err(|_| Error::Generate {
                of: "secrets at rest".to_owned(),
                source: rcgen::Error::RingUnspecified,
            })?;
        Ok(Self(bytes))
    }

    /// Reads one back from [`EncryptionKey::base64`].
    pub fn parse(text: &Secret) -> Result<Self, Error> {
        let decoded = STANDARD
            .decode(text.expose().trim_ascii())
            .map(Zeroizing::new)
            .map_err(|_| Error::EncryptionKey)?;
        let mut bytes = Zeroizing::new([0; 32]);
        if decoded.len() != bytes.len() {
            return Err(Error::EncryptionKey);
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self(bytes))
    }

    /// In base64, as an `EncryptionConfiguration` has it.
    pub fn base64(&self) -> Secret {
        Secret::new(STANDARD.encode(*self.0))
    }
}
