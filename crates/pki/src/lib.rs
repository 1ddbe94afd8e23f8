//! Keys and certificates of a cluster: five authorities, the leaves of a master, the keys behind service-account
//! tokens and secrets at rest, the operators' key pairs with their login proof, and what masters know each other by.
//!
//! Pure but for randomness: time comes in as an argument, and nothing here touches a file. What is stored where,
//! and when a leaf is issued anew, is up to the caller, who asks [`renewal`].
//!
//! Every key of a certificate is ECDSA on P-256: Go, rustls and ring all have fast constant-time code for it, its
//! signatures are small, and kubeadm, etcd and every client accept it. (An operator's own key is Ed25519:
//! 32 bytes are short enough for a line of a seed, and only our own server has to accept it.)
#![forbid(unsafe_code)]

mod authority;
mod credentials;
mod error;
mod image;
mod keys;
mod leaf;
mod login;
mod operator;
mod peer;
mod purpose;
mod renewal;
mod secret;
mod signing;

pub use authority::{Authority, AuthorityKind};
pub use credentials::{Leaves, Roots};
pub use error::Error;
pub use image::ImagePrivateKey;
pub use keys::{ClientKey, EncryptionKey, ServiceAccountKey};
pub use leaf::{Description, KUBERNETES_ADMIN_MAX, Leaf, MANAGEMENT_ROLE_ADMIN, OPERATOR_LIFETIME};
pub use leaf::{issue, issue_kubernetes_admin, issue_operator};
pub use login::{LoginProof, NONCE_LENGTH, server_key_hash};
pub use operator::OperatorPrivateKey;
pub use peer::{
    ClaimedIssuer, InvalidPeerFingerprint, PeerAuthority, PeerDescription, PeerFingerprint,
    PeerKey, PeerSubject, Trust,
};
pub use purpose::{Purpose, SubjectNames};
pub use renewal::{Reason, Renewal, renewal, renewed_at};
pub use secret::Secret;
