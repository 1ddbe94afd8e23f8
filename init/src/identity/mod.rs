//! What a founded node is, and the certificates that follow from it.
//!
//! ```text
//! /state/leaves/PURPOSE.pem      certificate and key, made again whenever they are due
//! ```
//! It is root's alone (0700, 0600), like all of STATE. Services read copies on a tmpfs, in directories of their own
//! (`masthead-control-plane` plans them, [`write_plan`] writes them), so that a lost STATE stops no service.
//!
//! - [`Identity`] is what the plan says of this node: how it came to be is [`formation`](crate::formation)'s;
//! - [`Handover`] is the copy in memory that a supervisor leaves to its successor, for STATE may be gone by then;
//! - [`Keeper`] issues leaves and keeps them valid;
//! - [`inventory`] lists all certificates with their expiry;
//! - [`bootstrap`] applies the objects that every cluster has;
//! - `storage` is how every change of STATE and ETCD is made.

mod bootstrap;
mod deploy;
mod handover;
mod inventory;
mod keeper;
mod member;
mod problem;
pub(crate) mod storage;

pub use bootstrap::{BootstrapError, apply_bootstrap, keep_bootstrap_applied};
pub use deploy::{Changes, DeployError, Owners, make_service_directories, write_plan};
pub use handover::Handover;
pub use inventory::inventory;
pub use keeper::{Issued, Keeper};
pub use member::Identity;
pub use problem::Problem;
pub use storage::StorageError;
