//! What Masthead writes on a disk, and what it makes of what it finds there.
//!
//! Pure but for the `Read`, `Write` and `Seek` it is given: everything here runs on a buffer in a
//! test. The effects (which disks exist, making file systems, mounting) are `init`'s `disk` module.
//!
//! - [`layout`]: which partitions, how large.
//! - [`table`]: reading and writing them so that a power cut between any two writes leaves a disk
//!   that is either not yet ours or whole.
//! - [`boot_sector`]: what a BIOS finds in front of it.
//! - [`contents`]: blank, ours, foreign, remains of ours, or unknown. Only a blank disk is ever taken unasked.
//! - [`choice`]: which of the disks present a seed means.
#![forbid(unsafe_code)]

pub mod boot_sector;
pub mod choice;
pub mod contents;
mod edges;
pub mod layout;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod replay_tests;
mod signatures;
mod storage;
pub mod table;

pub use choice::{Candidate, Choice, Wanted, choose};
pub use contents::{Contents, Finding, inspect};
pub use layout::{Holds, LayoutError, Role, plan};
pub use storage::Part;
pub use table::{Partition, Storage, Table, TableError};
