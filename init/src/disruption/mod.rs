//! Taking a master out of service on purpose: one at a time, and never the one too many.
//!
//! - [`plan`]: what a reboot or power-off does and what speaks against it, from what all masters say; pure;
//! - [`lock`]: the one disruption lock, a key in etcd.
//!
//! The supervisor's task of the same name carries out what is planned, and gives the lock back when the master serves
//! again. Two things keep masters from being out of service together: the lock, which only one can hold and which has no
//! time to run out, and the voters, which are counted after it was taken.

pub mod lock;
pub mod plan;

pub use lock::{Held, Lock, LockError};
pub use plan::{LockSeen, Situation, has_quorum, under_way};
