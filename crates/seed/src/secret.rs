//! The cluster's secret: 32 random bytes, written `mh1-…`.

use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

use crate::Hash;
use crate::encoded::{EncodedError, decode, encode};

/// The cluster's secret. It has no `Display`, its `Debug` shows nothing, and it leaves memory with its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// Why a secret is refused. Never holds any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// The text is not that of a secret.
    Encoded(EncodedError),
    /// The text is right, but somebody chose the bytes instead of a random number generator.
    LowEntropy,
}

impl Secret {
    /// What the text begins with.
    pub const PREFIX: &str = "mh1-";

    /// A secret from 32 bytes of the caller's random number generator.
    pub fn generate(random: [u8; 32]) -> Result<Self, SecretError> {
        let secret = Self(random);
        if looks_random(&secret.0) {
            Ok(secret)
        } else {
            Err(SecretError::LowEntropy)
        }
    }

    /// Whether it is the secret of Masthead's examples, which everybody knows.
    pub fn is_example(&self) -> bool {
        /// SHA-256 of the secret in `configs/seeds/`.
        const EXAMPLE: &str = "bd026833930bd7c7d8cfd95a7d84cbac9cfabb9a3cb4097679406a352029177e";
        Hash::of(&self.0).to_string() == EXAMPLE
    }

    /// The bytes, for key derivation.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text for the seed file: what `mastctl secret` prints.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(encode(Self::PREFIX, &self.0))
    }
}

/// Whether bytes could come from a random number generator. Thirty-two random bytes have about 30
/// distinct values and about 30 distinct steps from one to the next; each test refuses fewer than one
/// in 10¹² of them, and catches constants, repetitions, counters and typed text.
fn looks_random(bytes: &[u8; 32]) -> bool {
    const FEWEST_DISTINCT: usize = 20;
    let distinct = |values: &mut dyn Iterator<Item = u8>| {
        let mut seen = [false; 256];
        values.for_each(|value| seen[usize::from(value)] = true);
        seen.iter().filter(|seen| **seen).count()
    };
    let steps = &mut bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let text = bytes
        .iter()
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    distinct(&mut bytes.iter().copied()) >= FEWEST_DISTINCT
        && distinct(steps) >= FEWEST_DISTINCT
        && !text
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let bytes = decode(Self::PREFIX, text).map_err(SecretError::Encoded)?;
        Self::generate(*bytes)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(hidden)")
    }
}

impl std::error::Error for SecretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encoded(error) => Some(error),
            Self::LowEntropy => None,
        }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Encoded(_) => "this is not a secret made by mastctl secret",
            Self::LowEntropy => "the secret is not random: it can be guessed",
        })
    }
}
