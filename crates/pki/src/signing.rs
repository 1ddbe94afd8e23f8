//! Ed25519 key pairs (RFC 8032) as files hold them: of an operator, and of who signs images.

use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};

use crate::authority::parse_key;
use crate::{Error, Secret};

/// A pair, and whose it is, for errors.
#[derive(Debug)]
pub(crate) struct SigningPair {
    pair: KeyPair,
    pub(crate) public: [u8; 32],
}

impl SigningPair {
    pub(crate) fn generate(of: &'static str) -> Result<Self, Error> {
        let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(|source| Error::Generate {
            of: of.to_owned(),
            source,
        })?;
        Self::new(pair, of)
    }

    /// From PKCS #8 in PEM, such as [`Self::pem`] gives or `openssl genpkey -algorithm ed25519` makes.
    pub(crate) fn parse(pem: &Secret, of: &'static str) -> Result<Self, Error> {
        Self::new(parse_key(pem, || of.to_owned())?, of)
    }

    fn new(pair: KeyPair, of: &'static str) -> Result<Self, Error> {
        let public = <[u8; 32]>::try_from(pair.public_key_raw())
            .ok()
            .filter(|_| pair.algorithm() == &PKCS_ED25519)
            .ok_or_else(|| Error::PrivateKey {
                of: of.to_owned(),
                source: rcgen::Error::UnsupportedSignatureAlgorithm,
            })?;
        Ok(Self { pair, public })
    }

    /// PKCS #8 in PEM.
    pub(crate) fn pem(&self) -> Secret {
        Secret::new(self.pair.serialize_pem())
    }

    /// A signature of 64 bytes.
    pub(crate) fn sign(&self, message: &[u8], what: &'static str) -> Result<Vec<u8>, Error> {
        self.pair.sign(message).map_err(|source| Error::Issue {
            of: what.to_owned(),
            source,
        })
    }
}
