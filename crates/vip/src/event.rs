//! What the machine hears and what it asks for.

use std::time::Duration;

use masthead_machine::{BootTime, Scale, Wakes, Woken};

use crate::{Identity, Nonce, Record, Seen, Version};

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

/// What a transaction changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record says this.
    Write {
        /// What it says.
        record: Record,
        /// The record is thawed, if it was frozen, and all rounds lie ahead again.
        stock: bool,
    },
    /// The record is frozen: nobody writes it until it is thawed.
    Freeze,
    /// One more round of the frozen record is over.
    Advance,
    /// Nothing: it is only to be as expected.
    Confirm,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is committed, or all was as expected, at this revision of the store.
    Done(i64),
    /// It was not as expected; this is how it was.
    Refused(Seen),
    /// etcd has no space for what is written. It may have written it all the same.
    NoSpace,
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
    /// Another master has just said that it owns the address.
    OwnerSaid(String),
    /// The answer to [`Action::SetGate`].
    GateSet(Option<BootTime>),
    /// The answer to [`Action::SetAddress`].
    AddressSet(bool),
    /// The answer to [`Action::LeaveClients`].
    ClientsLeft,
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
    /// Make that change if all is as expected, at once or never: this counts as the time of sending. One that changes nothing asks a majority.
    Transact {
        /// Of this transaction; it is in the record, too.
        nonce: Nonce,
        /// How it has to be.
        expected: Version,
        /// What shall be.
        change: Change,
        /// When it counts as unanswered.
        give_up: BootTime,
    },
    /// Read the record by the word of a majority, and answer in so long.
    Read(Duration),
    /// Have the kernel let the address through until then and no longer, on `CLOCK_BOOTTIME`; or close the gate now.
    /// The answer is the kernel's.
    SetGate(Option<BootTime>),
    /// Add the address to the interface, or remove it.
    SetAddress(bool),
    /// Tell the neighbours where the address is, at once and repeatedly, while the gate is open.
    Announce(bool),
    /// See to it that the clients make new connections at once: `followed` by another owner, which tells them if it knows them; otherwise this node
    /// resets their connections, while they can still hear it.
    LeaveClients {
        /// Whether another master is to take the address now.
        followed: bool,
    },
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
    /// A later release keeps the record.
    UnknownFormat,
    /// etcd has no space: the record is frozen.
    Frozen,
    /// etcd has space again.
    Thawed,
}
