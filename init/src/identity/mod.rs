//! Who this node is, in which cluster, and with which keys: what STATE holds, and the rules by which it
//! comes to be exactly once.
//!
//! ```text
//! /state/machine-id              random, for ever
//! /state/peer.key              what peers know the machine by
//! /state/identity.json           cluster id, members, digests of what was founded
//! /state/pki/AUTHORITY.crt|key   the authorities           ┐
//! /state/pki/service-account.key signs tokens              ├ made once, never again
//! /state/pki/encryption-key      encrypts secrets at rest  ┘
//! /state/leaves/PURPOSE.pem      certificate and key, made again whenever they are due
//! /state/started                 etcd's first start, and on which file system
//! /etcd/started                  its counterpart
//! ```
//! All of it is root's alone (0700, 0600). Services read copies on a tmpfs, in directories of their own
//! (`masthead-control-plane` plans them, [`write_plan`] writes them), so that a lost STATE stops no service.
//!
//! - [`introduce`] reads who the machine is to its peers;
//! - [`establish`] reads the identity, or founds a cluster of one;
//! - [`first_start`] decides whether etcd may start, and as what;
//! - [`Handover`] is the copy in memory that a supervisor leaves to its successor, for STATE may be gone by then;
//! - [`Keeper`] issues leaves and keeps them valid;
//! - [`inventory`] lists all certificates with their expiry;
//! - [`bootstrap`] applies the objects that every cluster has.

mod bootstrap;
mod deploy;
mod first_start;
mod founding;
mod handover;
mod introduction;
mod inventory;
mod keeper;
mod problem;
mod record;
mod storage;
#[cfg(test)]
mod tests;

pub use bootstrap::{BootstrapError, apply_bootstrap, keep_bootstrap_applied};
pub use deploy::{Changes, DeployError, Owners, make_service_directories, write_plan};
pub use first_start::{
    EtcdVolume, confirm_started, first_start, handed_over_etcd_start, keep_etcd_start,
};
pub use founding::{Established, Identity, establish, hand_over, handed_over};
pub use handover::Handover;
pub use introduction::{Introduction, hand_over_introduction, handed_over_introduction, introduce};
pub use inventory::inventory;
pub use keeper::{Issued, Keeper};
pub use problem::Problem;
pub use storage::StorageError;
