//! Key pairs of who signs images: Ed25519. The public half's text form, `mi1-…`, is the seed's and the image's.

use masthead_seed::ImageKey;

use crate::signing::SigningPair;
use crate::{Error, Secret};

/// The private key of who signs images.
#[derive(Debug)]
pub struct ImagePrivateKey(SigningPair);

impl ImagePrivateKey {
    const OF: &str = "who signs images";

    /// Makes a new one.
    pub fn generate() -> Result<Self, Error> {
        SigningPair::generate(Self::OF).map(Self)
    }

    /// Reads one from PKCS #8 in PEM, such as [`ImagePrivateKey::pem`] gives or
    /// `openssl genpkey -algorithm ed25519` makes.
    pub fn parse(pem: &Secret) -> Result<Self, Error> {
        SigningPair::parse(pem, Self::OF).map(Self)
    }

    /// PKCS #8 in PEM: the private file's form.
    pub fn pem(&self) -> Secret {
        self.0.pem()
    }

    /// The public half.
    pub fn public(&self) -> ImageKey {
        ImageKey(self.0.public)
    }

    /// A signature of 64 bytes. What is signed must begin with words that say what it is.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message, "an image")
    }
}
