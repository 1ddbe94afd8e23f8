//! Logging in: an operator proves to hold a key that the seed names, or that came in by a token, and gets a certificate.
//!
//! The signature covers the node's nonce and the SHA-256 of the public key of the TLS server that
//! the client sees, so that a server in between cannot pass the proof on. How the signed bytes
//! are made is `masthead-pki`'s business.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Asks for a nonce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The operator's public key, `mk1-…`.
    pub public_key: String,
}

/// The nonce to sign; good for one login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// 32 random bytes, hexadecimal.
    pub nonce: String,
    /// Seconds from now until the nonce is void.
    pub expires_in: u64,
}

/// The proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The operator's public key, `mk1-…`, the same as in the challenge's request.
    pub public_key: String,
    /// The challenge's nonce.
    pub nonce: String,
    /// The signature over nonce and server key, hexadecimal.
    pub signature: String,
    /// A one-time token, for a key that is no operator's yet.
    #[serde(default)]
    pub token: Option<String>,
}

/// The operator's certificate, for the very key that signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The client certificate, PEM.
    pub certificate: String,
    /// The operators' authority, PEM: what the client pins from now on.
    pub authority: String,
    /// When the certificate expires.
    pub expires_at: Timestamp,
    /// The cluster's name, for the client's context.
    pub cluster: String,
    /// The node's name, for the client's context.
    pub node: String,
    /// Whether the authority is this node's own, for as long as it is no member of a cluster and not restarted.
    #[serde(default)]
    pub provisional: bool,
    /// Whether the token was used, and the key is an operator's from now on.
    #[serde(default)]
    pub enrolled: bool,
}
