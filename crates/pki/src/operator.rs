//! Operators' key pairs: Ed25519 (RFC 8032). The public half's text form, `mk1-…`, is the seed's.

use masthead_seed::OperatorKey;
use rcgen::{KeyPair, PKCS_ED25519};

use crate::authority::parse_key;
use crate::{Error, Secret};

/// An operator's private key.
#[derive(Debug)]
pub struct OperatorPrivateKey {
    pub(crate) pair: KeyPair,
    public: OperatorKey,
}

impl OperatorPrivateKey {
    const OF: &str = "an operator";

    /// Makes a new one.
    pub fn generate() -> Result<Self, Error> {
        KeyPair::generate_for(&PKCS_ED25519)
            .map_err(|source| Error::Generate {
                of: Self::OF.to_owned(),
                source,
            })
            .and_then(Self::new)
    }

    /// Reads one from PKCS #8 in PEM, such as [`OperatorPrivateKey::pem`] gives or
    /// `openssl genpkey -algorithm ed25519` makes.
    pub fn parse(pem: &Secret) -> Result<Self, Error> {
        parse_key(pem, || Self::OF.to_owned()).and_then(Self::new)
    }

    fn new(pair: KeyPair) -> Result<Self, Error> {
        let public = <[u8; 32]>::try_from(pair.public_key_raw())
            .ok()
            .filter(|_| pair.algorithm() == &PKCS_ED25519)
            .map(OperatorKey)
            .ok_or_else(|| Error::PrivateKey {
                of: Self::OF.to_owned(),
                source: rcgen::Error::UnsupportedSignatureAlgorithm,
            })?;
        Ok(Self { pair, public })
    }

    /// PKCS #8 in PEM: the private file's form, which also a TLS client reads.
    pub fn pem(&self) -> Secret {
        Secret::new(self.pair.serialize_pem())
    }

    /// The public half.
    pub fn public(&self) -> OperatorKey {
        self.public
    }
}

/// The SubjectPublicKeyInfo of an Ed25519 key, DER (RFC 8410, section 4): a constant head and the key.
pub(crate) fn public_key_info(key: OperatorKey) -> Vec<u8> {
    const HEAD: [u8; 12] = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    [HEAD.as_slice(), &key.0].concat()
}
