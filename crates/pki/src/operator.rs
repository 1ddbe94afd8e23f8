//! Operators' key pairs: Ed25519 (RFC 8032). The public half's text form, `mk1-…`, is the seed's.

use masthead_seed::OperatorKey;

use crate::signing::SigningPair;
use crate::{Error, Secret};

/// An operator's private key.
#[derive(Debug)]
pub struct OperatorPrivateKey(pub(crate) SigningPair);

impl OperatorPrivateKey {
    const OF: &str = "an operator";

    /// Makes a new one.
    pub fn generate() -> Result<Self, Error> {
        SigningPair::generate(Self::OF).map(Self)
    }

    /// Reads one from PKCS #8 in PEM, such as [`OperatorPrivateKey::pem`] gives or
    /// `openssl genpkey -algorithm ed25519` makes.
    pub fn parse(pem: &Secret) -> Result<Self, Error> {
        SigningPair::parse(pem, Self::OF).map(Self)
    }

    /// PKCS #8 in PEM: the private file's form, which also a TLS client reads.
    pub fn pem(&self) -> Secret {
        self.0.pem()
    }

    /// The public half.
    pub fn public(&self) -> OperatorKey {
        OperatorKey(self.0.public)
    }
}

/// The SubjectPublicKeyInfo of an Ed25519 key, DER (RFC 8410, section 4): a constant head and the key.
pub(crate) fn public_key_info(key: OperatorKey) -> Vec<u8> {
    const HEAD: [u8; 12] = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    [HEAD.as_slice(), &key.0].concat()
}
