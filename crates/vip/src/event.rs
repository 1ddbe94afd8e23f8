//! What the machine hears and what it asks for.

use std::time::Duration;

use masthead_machine::{BootTime, Scale, Wakes, Woken};

use crate::{Identity, Nonce, Record, Seen};

/// What a machine starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// This node in this boot.
    pub identity: Identity,
    /// For nonces.
    pub seed: u64,
    /// `timing.scale`.
    pub scale: Scale,
    /// Renewals that are remembered: when so many in a row would have allowed it, the hold becomes shorter by a step.
    pub window: usize,
}

/// What this node's own member of etcd says of its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raft {
    /// The leader's id, while there is one.
    pub leader: Option<u64>,
    /// Raft's term.
    pub term: u64,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is committed; the key has this `mod_revision` now.
    Done(i64),
    /// The key was not as expected; this is how it was.
    Refused(Seen),
    /// Nobody said. It may be committed now, later, or never.
    Unanswered,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Woken,
    /// What a watch or a poll of the own member showed; it may be old.
    Saw(Seen),
    /// The answer to [`Action::Read`].
    Read(Seen),
    /// The answer to [`Action::Read`]: nobody said.
    ReadFailed,
    /// The answer to [`Action::Transact`]; each has one.
    Decided {
        /// Of the transaction.
        nonce: Nonce,
        /// What became of it.
        decision: Decision,
    },
    /// How the own member sees its cluster; told when it changes.
    Raft(Raft),
    /// Whether the own apiserver can serve; told when it changes.
    Ready(bool),
    /// Another master has just said that its apiserver can serve.
    OtherReady(String),
    /// The answer to [`Action::SetGate`].
    GateSet(Option<BootTime>),
    /// The answer to [`Action::SetAddress`].
    AddressSet(bool),
    /// The answer to [`Action::DestroyConnections`].
    ConnectionsDestroyed,
    /// The answer to [`Action::ProbeAddress`]: the hardware address that answered, if one did.
    Probed(Option<String>),
    /// An operator's word, or a node about to stop: let go of the address, to this master if it is named.
    Release {
        /// Who shall own it next.
        heir: Option<String>,
        /// Whether this node is not to own it again, until it is told otherwise.
        drain: bool,
    },
    /// The node goes on after all.
    Undrain,
}

impl From<Woken> for Event {
    fn from(_: Woken) -> Self {
        Self::Woken
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send [`Event::Woken`] then.
    WakeAt(BootTime),
    /// Write the key if its `mod_revision` is as expected, at once or never: this counts as the time of sending.
    Transact {
        /// Of this transaction; it is in the record, too.
        nonce: Nonce,
        /// The `mod_revision`; 0 for a key that is not there.
        expected: i64,
        /// The new value.
        record: Record,
        /// When it counts as unanswered.
        give_up: BootTime,
    },
    /// Read the key by the word of a majority, and answer in so long.
    Read(Duration),
    /// Have the kernel let the address through until then and no longer, on `CLOCK_BOOTTIME`; or close the gate now.
    /// The answer is the kernel's.
    SetGate(Option<BootTime>),
    /// Add the address to the interface, or remove it.
    SetAddress(bool),
    /// Tell the neighbours where the address is, at once and repeatedly, while the gate is open.
    Announce(bool),
    /// Reset the connections to the address, so that clients make new ones at once.
    DestroyConnections,
    /// Ask the network whether anybody else answers for the address.
    ProbeAddress,
    /// For the log and for people.
    Note(Note),
}

impl Wakes for Action {
    fn wake_at(&self) -> Option<BootTime> {
        match self {
            Self::WakeAt(at) => Some(*at),
            _ => None,
        }
    }
}

/// What people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// This node owns the address.
    Won {
        /// How often it has had another owner.
        epoch: u64,
    },
    /// No renewal was acknowledged in time: nobody answers for the address until one is.
    Expired,
    /// Somebody else has it.
    Lost,
    /// It was let go of.
    Released {
        /// To whom.
        heir: Option<String>,
    },
    /// The own apiserver cannot serve, and no other master's can.
    KeptUnready,
    /// A machine that is none of the cluster's answers for the address.
    Stranger {
        /// Its hardware address.
        hardware: String,
    },
    /// A later release keeps the key.
    UnknownFormat,
}
