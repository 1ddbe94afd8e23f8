//! What a supervisor leaves to its successor in the same boot: a copy, in memory, of what STATE said.
//!
//! A disk may die or stall while the node runs, and the supervisor may die after it. Its successor must know at once
//! who this node is, with which keys, and how etcd was started, or there is neither API nor supervision until a
//! reboot. So whatever this boot has read from STATE, or written there, and a successor needs is kept under
//! `/run/masthead/handover`:
//!
//! | name | who keeps it |
//! |---|---|
//! | `formation.json` | [`formation`](crate::formation), once etcd may start: the records of both volumes |
//! | `leaves/PURPOSE.pem` | [`Keeper`](super::Keeper) |
//! | `provisional-authority.json` | the supervisor's API, while the node belongs to no cluster |
//!
//! A successor reads it first, and STATE only for what is not there. It lives as long as the boot, on a tmpfs, and
//! is root's alone. It is no authority: nothing is decided by it that this boot has not decided by STATE before.

use std::path::PathBuf;

use super::storage::{Durable, Storage, StorageError, read};

/// A place in memory for what STATE said. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handover {
    directory: PathBuf,
}

impl Handover {
    /// Where every supervisor of this boot has it.
    pub fn of_this_boot() -> Self {
        Self::in_directory("/run/masthead/handover")
    }

    /// In a directory that is made when something is kept.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Where something of that name is, or would be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Keeps a document of that name, which may begin with one directory, in the place of an earlier one.
    pub fn keep(&self, name: &str, contents: &[u8]) -> Result<(), StorageError> {
        let path = self.path(name);
        Durable.make_directory(&self.directory)?;
        if let Some(parent) = path.parent().filter(|parent| *parent != self.directory) {
            Durable.make_directory(parent)?;
        }
        Durable.replace(&path, contents)
    }

    /// What an earlier supervisor of this boot, or this one, has kept under that name.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        read(&self.path(name)).ok()?
    }
}
