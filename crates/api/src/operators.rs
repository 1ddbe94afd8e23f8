//! Operators beyond those that the seed names: each comes in by a one-time token of one who is in already.

use serde::{Deserialize, Serialize};

use crate::{Fingerprint, Timestamp};

/// The longest that a token may be good, in seconds.
pub const MAX_TOKEN_TTL: u64 = 24 * 3600;

/// Asks for a token that makes its bearer an operator, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// How many seconds it shall be good, at most [`MAX_TOKEN_TTL`].
    pub ttl: u64,
}

/// The token, which is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// `mt1-ID-SECRET`: whoever has it first becomes an operator.
    pub token: String,
    /// What there is to know of it without its secret.
    pub open: OpenToken,
    /// Of the operators' authority, by which its bearer knows the cluster.
    pub fingerprint: Fingerprint,
}

/// A token that nobody has used yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenToken {
    /// Its second word.
    pub id: String,
    /// The public key of the operator who made it.
    pub by: String,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// An operator who came in by a token. This is also what etcd keeps, under a key that the masters share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledOperator {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The operator's public key, `mk1-…`.
    pub key: String,
    /// The public key of the operator who made the token.
    pub by: String,
    /// The token's id.
    pub token: String,
    /// When the token was used.
    pub since: Timestamp,
}

/// Who may log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operators {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// Public keys that the seed names: only another seed takes them out.
    pub seed: Vec<String>,
    /// Those who came in by a token.
    pub enrolled: Vec<EnrolledOperator>,
    /// Tokens that are good now.
    pub tokens: Vec<OpenToken>,
}

/// Asks to take out an operator who came in by a token, or a token that nobody has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The operator's public key, or the token's id.
    pub whom: String,
}

/// It is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The operator, or the token's id.
    pub whom: String,
    /// Tokens of this operator's that went along, by their ids.
    #[serde(default)]
    pub tokens: Vec<String>,
}
