//! What etcd keeps of a virtual address: one key, which changes by compare-and-swap on its `mod_revision` only, and beside it keys that
//! are there to be deleted (see `frozen`).

use std::time::Duration;

/// A node, in one boot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The master's name.
    pub node: String,
    /// Drawn anew with each boot: what a node was told before a reboot binds nobody after it.
    pub instance: String,
}

/// Drawn anew for each transaction, so that one whose answer was lost is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u64);

/// How long a renewal holds, and how much longer everybody else waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The owner may own for so long after it *sent* the renewal.
    pub hold: Duration,
    /// Contenders wait for this in addition, after they *saw* the renewal.
    pub gap: Duration,
}

/// The value of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Somebody owns the address.
    Held(Held),
    /// Its last owner has let go of it.
    Free(Free),
    /// A later release wrote it: this one neither understands nor changes it.
    Unknown,
}

/// The address is owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// By whom.
    pub by: Identity,
    /// Of the transaction that wrote this.
    pub nonce: Nonce,
    /// How often the address has had another owner.
    pub epoch: u64,
    /// For how long.
    pub terms: Terms,
}

/// The address is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Free {
    /// Of the transaction that wrote this.
    pub nonce: Nonce,
    /// As in [`Held`].
    pub epoch: u64,
    /// Who may take it at once. Nobody else does before `reserved` is over.
    pub heir: Option<String>,
    /// Counted from when it is seen.
    pub reserved: Duration,
}

/// What a transaction expects of the record, and of the keys beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The record's `mod_revision`; 0 when there is none.
    pub revision: i64,
    /// While the record is frozen (see `frozen`), how many rounds are over.
    pub round: Option<u32>,
}

impl Version {
    /// Of a record that is not frozen.
    pub fn thawed(revision: i64) -> Self {
        Self {
            revision,
            round: None,
        }
    }
}

/// The record as somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The revision of the whole store at which this was so: of two sights the later one.
    pub as_of: i64,
    /// Which one it is.
    pub version: Version,
    /// What it says, if it is there.
    pub record: Option<Record>,
}

impl Seen {
    /// Whether a node owns the address by this, in that boot. Who owns a later round than the first one stands nowhere.
    pub(crate) fn is_held_by(&self, identity: &Identity) -> bool {
        let first = self.version.round.is_none_or(|round| round == 0);
        first && matches!(&self.record, Some(Record::Held(held)) if held.by == *identity)
    }
}

impl Record {
    /// Of the transaction that wrote this, as far as it is understood.
    pub fn nonce(&self) -> Option<Nonce> {
        match self {
            Self::Held(held) => Some(held.nonce),
            Self::Free(free) => Some(free.nonce),
            Self::Unknown => None,
        }
    }

    /// How often the address has had another owner.
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Held(held) => held.epoch,
            Self::Free(free) => free.epoch,
            Self::Unknown => 0,
        }
    }
}
