//! What the machine hears and what it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use masthead_machine::{BootTime, Scale, Wakes, Woken};

use crate::{
    ClusterId, EtcdHoldings, InvalidOverride, KeyFingerprint, MachineId, Master, Member, Message,
    Plan, Record, Sealed, SeedHash, Sender, StateHoldings, Status, Volume,
};

/// Everything that a machine starts from. When a disk comes back or the seed changes, it is started anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// The cluster's name in the seed.
    pub cluster: String,
    /// The founding list, this node included.
    pub masters: Vec<Master>,
    /// This node's name in the list.
    pub name: String,
    /// The seed that this node holds.
    pub seed: SeedHash,
    /// From STATE.
    pub machine_id: MachineId,
    /// Of this node's own peer key, from STATE.
    pub key: KeyFingerprint,
    /// 64 random bits, drawn for this start.
    pub session: u64,
    /// Whether both volumes outlive a reboot. Only a list of one may be founded in memory.
    pub durable: bool,
    /// What STATE holds.
    pub state: StateHoldings,
    /// What ETCD holds.
    pub etcd: EtcdHoldings,
    /// `timing.scale`.
    pub scale: Scale,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time has passed.
    Woken,
    /// A peer said something.
    Received {
        /// Who, as the transport authenticated it.
        from: Sender,
        /// What.
        message: Message,
    },
    /// The answer to [`Action::Persist`]: written and synced.
    Persisted,
    /// The answer to [`Action::Persist`]: it may be on the disk or not.
    PersistFailed {
        /// What the disk said.
        error: String,
    },
    /// The answer to [`Action::MakePlan`].
    PlanMade {
        /// Drawn at random.
        cluster_id: ClusterId,
        /// Authorities and keys.
        sealed: Sealed,
    },
    /// The answer to [`Action::MakePlan`]: authorities or keys could not be made.
    PlanFailed {
        /// Why.
        error: String,
    },
    /// A volume cannot be used any more. The machine does nothing until it is started anew.
    VolumeLost {
        /// Which.
        volume: Volume,
        /// What the kernel said.
        error: String,
    },
    /// etcd has become ready.
    EtcdServed,
    /// An operator's `mastctl found --without NAMES --cluster NAME`.
    FoundWithout {
        /// The listed masters to leave out.
        names: BTreeSet<String>,
        /// The cluster's name, as the operator typed it.
        cluster: String,
    },
}

/// What is to be done. At most one [`Action::Persist`] is under way at a time, and at most one [`Action::MakePlan`].
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write a record, sync it and its directory, then say [`Event::Persisted`] or [`Event::PersistFailed`].
    Persist(Record),
    /// Send a message, if the peer can be reached; nobody waits for it.
    Send {
        /// To whom.
        to: Recipient,
        /// What.
        message: Message,
    },
    /// Draw a cluster id and make authorities and keys, then say [`Event::PlanMade`] or [`Event::PlanFailed`].
    MakePlan {
        /// The founding members.
        members: Vec<Member>,
    },
    /// Start etcd.
    StartEtcd {
        /// What it is a member of.
        plan: Arc<Plan>,
        /// Whether it founds its store, or must find it.
        start: EtcdStart,
    },
    /// What people are told; said when it changes.
    Publish(Status),
    /// The answer to [`Event::FoundWithout`].
    Answer(Result<(), InvalidOverride>),
    /// The next deadline.
    WakeAt(BootTime),
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The listed master.
    pub master: Master,
    /// The only key that the message may be given to; without it, whoever answers at the address with a certificate
    /// of the join CA.
    pub key: Option<KeyFingerprint>,
}

/// etcd's `--initial-cluster-state`, and what its data directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdStart {
    /// Without data: state `new`.
    New,
    /// With the data that is there.
    Existing,
}

impl From<Woken> for Event {
    fn from(_: Woken) -> Self {
        Self::Woken
    }
}

impl Wakes for Action {
    fn wake_at(&self) -> Option<BootTime> {
        match self {
            Self::WakeAt(at) => Some(*at),
            _ => None,
        }
    }
}
