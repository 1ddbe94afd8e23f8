//! One-time tokens.

use std::fmt;
use std::str::FromStr;

use masthead_api::operators::OpenToken;
use masthead_api::{FORMAT, Timestamp, hex};
use masthead_seed::Hash;
use serde::{Deserialize, Serialize};

/// Of the bytes, those that name the token and are no secret.
const ID: usize = 4;

/// All bytes; 16 of them are a secret.
pub const LENGTH: usize = ID + 16;

/// What an operator hands to the next one, written `mt1-ID-SECRET` in hexadecimal. It has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; LENGTH]);

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoToken;

/// What etcd keeps of a token until it is used: enough to know it again, and not to make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptToken {
    /// See [`FORMAT`].
    pub format: u32,
    /// What it is told by.
    #[serde(flatten)]
    pub open: OpenToken,
    /// SHA-256 of all its bytes, hexadecimal.
    pub hash: String,
    /// The revision of its maker's record, for one who came in by a token: whoever comes in again has another one.
    #[serde(default)]
    pub maker: Option<i64>,
}

impl Token {
    /// What the text begins with.
    pub const PREFIX: &str = "mt1-";

    /// A token of random bytes.
    pub fn new(random: [u8; LENGTH]) -> Self {
        Self(random)
    }

    /// Its public name.
    pub fn id(&self) -> String {
        hex::encode(&self.0[..ID])
    }

    fn hash(&self) -> String {
        Hash::of(&self.0).to_string()
    }

    /// What is kept of it.
    pub fn kept(&self, by: String, maker: Option<i64>, expires_at: Timestamp) -> KeptToken {
        KeptToken {
            format: FORMAT,
            open: OpenToken {
                id: self.id(),
                by,
                expires_at,
            },
            hash: self.hash(),
            maker,
        }
    }

    /// The text for its bearer.
    pub fn to_text(&self) -> String {
        let secret = hex::encode(&self.0[ID..]);
        format!("{}{}-{secret}", Self::PREFIX, self.id())
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let words = text.strip_prefix(Self::PREFIX).ok_or(NoToken)?;
        let (id, secret) = words.split_once('-').ok_or(NoToken)?;
        let (id, secret) = (hex::decode(id), hex::decode(secret));
        let (Some(id), Some(secret)) = (id, secret) else {
            return Err(NoToken);
        };
        if id.len() != ID {
            return Err(NoToken);
        }
        let bytes = [id, secret].concat();
        bytes.try_into().map(Self).map_err(|_| NoToken)
    }
}

impl fmt::Display for NoToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("this is no token of `mastctl token`: it is mistyped or cut")
    }
}

impl std::error::Error for NoToken {}

impl KeptToken {
    /// Whether this is that token.
    pub fn is(&self, token: &Token) -> bool {
        // A hash of 16 random bytes: how long the comparison takes tells nothing that helps to guess them.
        self.hash == token.hash()
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.open.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> [u8; LENGTH] {
        std::array::from_fn(|index| u8::try_from(index).unwrap() + 0xa0)
    }

    const TEXT: &str = "mt1-a0a1a2a3-a4a5a6a7a8a9aaabacadaeafb0b1b2b3";

    #[test]
    fn is_written_and_read() {
        let token = Token::new(bytes());
        assert_eq!(token.to_text(), TEXT);
        assert_eq!(token.id(), "a0a1a2a3");
        assert!(TEXT.parse() == Ok(token));
        let shifted = "mt1-a0a1a2a3a4-a5a6a7a8a9aaabacadaeafb0b1b2b3";
        for wrong in ["", "mt1-", "mk1-a0", &TEXT[1..], &TEXT[..44], shifted] {
            assert!(wrong.parse::<Token>() == Err(NoToken), "{wrong}");
        }
    }

    #[test]
    fn what_is_kept_knows_the_token_and_does_not_hold_it() {
        let token = Token::new(bytes());
        let kept = token.kept(
            "mk1-a".to_owned(),
            Some(7),
            Timestamp::from_unix_millis(5000),
        );
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("a4a5a6"), "{text}");
        assert_eq!(serde_json::from_str::<KeptToken>(&text).unwrap(), kept);
        assert!(kept.is(&token));
        let mut other = bytes();
        other[LENGTH - 1] ^= 1;
        assert_eq!(Token::new(other).id(), token.id());
        assert!(!kept.is(&Token::new(other)));
        assert!(!kept.has_expired(Timestamp::from_unix_millis(4999)));
        assert!(kept.has_expired(Timestamp::from_unix_millis(5000)));
    }
}
