//! What the management API and `mastctl` exchange, and the stable reason codes.
//!
//! Every message is JSON and carries a `format` number ([`FORMAT`]). A reader tolerates unknown
//! fields and unknown enumeration values (they survive as `Other`), so that an old `mastctl` can
//! show a newer node and the reverse. A field is only ever added; a changed meaning is a new
//! [`FORMAT`].
//!
//! - [`routes`]: the paths of version 1, and its limits;
//! - [`status`]: what a node says about itself;
//! - [`etcd`], [`cluster`]: what a node says about its etcd member and about the other masters, and how much more
//!   their etcd survives;
//! - [`reason`]: why something waits or is degraded, as code, cause and remedy; [`Why`]: with the part concerned;
//! - [`login`], [`kubeconfig`], [`power`], [`upgrade`], [`found`]: the requests and their answers;
//! - [`error`]: what every refused or failed request answers.

#![forbid(unsafe_code)]

mod open_enum;

pub mod cluster;
pub mod disruption;
pub mod error;
pub mod etcd;
pub mod fingerprint;
pub mod found;
pub mod hex;
pub mod kubeconfig;
pub mod login;
pub mod operators;
pub mod power;
pub mod reason;
pub mod routes;
mod serves;
pub mod status;
pub mod timestamp;
pub mod upgrade;
pub mod vip;
mod why;

pub use error::{ApiError, ErrorCode};
pub use fingerprint::Fingerprint;
pub use reason::{Reason, ReasonCode};
pub use status::Status;
pub use timestamp::Timestamp;
pub use why::Why;

/// The format number of every message in this crate.
pub const FORMAT: u32 = 1;

/// For `#[serde(default)]`: a message without a format number is of the first format.
pub(crate) fn first_format() -> u32 {
    1
}
