//! Thirty-two bytes as text with a prefix and a checksum, so that a typing error is told apart from
//! a wrong value: `PREFIX` + base64url without padding of the bytes and of the first four bytes of
//! SHA-256(`PREFIX` ‖ bytes). That is `PREFIX` and 48 characters.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const CHECKSUM: usize = 4;
/// Characters after the prefix.
const LENGTH: usize = 48;

/// What is wrong with such a text. Never holds any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedError {
    /// It begins otherwise.
    Prefix,
    /// It is too short or too long; this many characters follow the prefix.
    Length(usize),
    /// The character at this place (counted from 0, in characters) is none of base64url.
    Character(usize),
    /// It was mistyped or cut.
    Checksum,
}

fn checksum(prefix: &str, bytes: &[u8; 32]) -> [u8; CHECKSUM] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(prefix)
        .chain_update(bytes)
        .finalize()
        .into();
    [digest[0], digest[1], digest[2], digest[3]]
}

pub(crate) fn encode(prefix: &str, bytes: &[u8; 32]) -> String {
    let mut all = Zeroizing::new([0; 32 + CHECKSUM]);
    all[..32].copy_from_slice(bytes);
    all[32..].copy_from_slice(&checksum(prefix, bytes));
    let mut text = String::with_capacity(prefix.len() + LENGTH);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(*all, &mut text);
    text
}

pub(crate) fn decode(prefix: &str, text: &str) -> Result<Zeroizing<[u8; 32]>, EncodedError> {
    let rest = text.strip_prefix(prefix).ok_or(EncodedError::Prefix)?;
    let alphabet = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    if let Some(index) = rest.chars().position(|character| !alphabet(character)) {
        return Err(EncodedError::Character(prefix.chars().count() + index));
    }
    if rest.len() != LENGTH {
        return Err(EncodedError::Length(rest.len()));
    }
    let mut all = Zeroizing::new([0; 32 + CHECKSUM]);
    URL_SAFE_NO_PAD
        .decode_slice(rest, all.as_mut_slice())
        .map_err(|_| EncodedError::Checksum)?;
    let mut bytes = Zeroizing::new([0; 32]);
    bytes.copy_from_slice(&all[..32]);
    if all[32..] == checksum(prefix, &bytes) {
        Ok(bytes)
    } else {
        Err(EncodedError::Checksum)
    }
}

impl std::error::Error for EncodedError {}

impl fmt::Display for EncodedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => formatter.write_str("the prefix is wrong"),
            Self::Length(length) => {
                write!(
                    formatter,
                    "{length} characters follow the prefix instead of {LENGTH}"
                )
            }
            Self::Character(index) => write!(
                formatter,
                "character {} is neither a letter, a digit, \"-\" nor \"_\"",
                index + 1
            ),
            Self::Checksum => formatter.write_str("the checksum does not match: it was mistyped"),
        }
    }
}

/// The public half of an operator's key pair: an Ed25519 public key (RFC 8032), written `mk1-…`.
/// `mastctl keygen` makes the pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorKey(pub [u8; 32]);

impl OperatorKey {
    /// What the text begins with.
    pub const PREFIX: &str = "mk1-";
}

/// The public half of a key pair that signs images: an Ed25519 public key (RFC 8032), written `mi1-…`.
/// `imagebuild keygen` makes the pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey(pub [u8; 32]);

impl ImageKey {
    /// What the text begins with: neither key is ever taken for the other.
    pub const PREFIX: &str = "mi1-";
}

/// The text form of a key type, by its `PREFIX`.
macro_rules! text_form {
    ($key:ident) => {
        impl FromStr for $key {
            type Err = EncodedError;

            fn from_str(text: &str) -> Result<Self, EncodedError> {
                decode(Self::PREFIX, text).map(|bytes| Self(*bytes))
            }
        }

        impl fmt::Display for $key {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&encode(Self::PREFIX, &self.0))
            }
        }

        impl fmt::Debug for $key {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({self})", stringify!($key))
            }
        }
    };
}

text_form!(OperatorKey);
text_form!(ImageKey);
