//! The seed of a cluster: one short TOML file that serves all of its masters.
//!
//! [`Seed::parse`] reads and validates it, reporting every fault at once; [`Seed::find_self`] tells a
//! machine which master it is. The common part of the file is already merged into each [`Master`].
//! Pure: no file, clock or network in it. `docs/seed.md` is the operator's reference.
#![forbid(unsafe_code)]

mod check;
mod disk;
mod encoded;
mod flags;
mod hash;
mod machine;
mod masking;
mod model;
mod names;
mod parse;
mod read;
mod secret;

pub use disk::{DiskKind, DiskMatch, DiskSelector};
pub use encoded::{EncodedError, ImageKey, OperatorKey};
pub use flags::{OWN_FLAGS, own_flag};
pub use hash::Hash;
pub use ipnet::IpNet;
pub use machine::{MacAddress, Machine, NotFound};
pub use masthead_diagnostics::{LIMIT as SEED_LIMIT, Report};
pub use model::{
    Component, Endpoint, Files, Kubernetes, Master, Network, Route, Seed, Selector, SubjectName,
};
pub use secret::{Secret, SecretError};
