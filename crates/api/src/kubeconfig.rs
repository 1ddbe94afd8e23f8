//! Certificates for kubectl. The private key never travels: the client makes it and sends the
//! public half.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The time to live when the request does not say, in seconds: 8 hours.
pub const DEFAULT_TTL: u64 = 8 * 3600;

/// The longest time to live, in seconds: 7 days.
pub const MAX_TTL: u64 = 7 * 24 * 3600;

/// Asks for a client certificate of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeconfigRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The client's public key: a PEM SubjectPublicKeyInfo (RFC 5280, 4.1).
    pub public_key: String,
    /// Seconds that the certificate shall live, at most [`MAX_TTL`].
    #[serde(default = "default_ttl")]
    pub ttl: u64,
    /// Group `system:masters`, past all authorization, instead of `masthead:admins`.
    #[serde(default)]
    pub break_glass: bool,
}

fn default_ttl() -> u64 {
    DEFAULT_TTL
}

/// What a kubeconfig needs besides the private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeconfigAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The user's name in the certificate.
    pub user: String,
    /// Where the apiserver is: `https://HOST:PORT`.
    pub server: String,
    /// The cluster's authority, PEM.
    pub authority: String,
    /// The client certificate, PEM.
    pub certificate: String,
    /// When the certificate expires.
    pub expires_at: Timestamp,
}
