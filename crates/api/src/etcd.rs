//! etcd, as a node's own member sees it, and what operators may ask of it.

use serde::{Deserialize, Serialize};

use crate::disruption::Disruption;
use crate::open_enum::open_enum;

open_enum! {
    /// What a member is to its cluster.
    pub enum EtcdRole {
        /// It votes, and leads.
        Leader = "leader",
        /// It votes.
        Voter = "voter",
        /// It has no vote yet: it catches up.
        Learner = "learner",
    }
}

/// What a member of etcd says about itself and the others. Asked for every few seconds; there is none while it does not
/// answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Etcd {
    /// The member's id, 16 hexadecimal digits as etcdctl shows them.
    pub member_id: String,
    /// What it is.
    pub role: EtcdRole,
    /// The leader's id, while there is one.
    #[serde(default)]
    pub leader: Option<String>,
    /// Raft's term: one more with each election.
    pub raft_term: u64,
    /// How far the log is known to be committed here.
    pub raft_index: u64,
    /// How far it is applied here.
    pub raft_applied_index: u64,
    /// The database file, in bytes.
    pub db_size: u64,
    /// What of it is in use, in bytes; the rest is free for new entries.
    pub db_in_use: u64,
    /// What the file may take, in bytes; at this size etcd takes no more writes. 0 when the member does not say.
    #[serde(default)]
    pub db_quota: u64,
    /// Alarms and other faults, in etcd's words.
    #[serde(default)]
    pub errors: Vec<String>,
    /// All members that this one knows.
    #[serde(default)]
    pub members: Vec<EtcdMember>,
    /// Who holds the disruption lock, as far as this member knows.
    #[serde(default)]
    pub disruption: Option<Disruption>,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdMember {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// The name of the master that runs it; for one that is no founding member what etcd calls it.
    pub name: String,
    /// Whether it has no vote yet.
    #[serde(default)]
    pub learner: bool,
}

/// Asks for another leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The name of the master whose member shall lead.
    pub to: String,
    /// Only say what would be done, and whether it would be refused.
    #[serde(default)]
    pub plan: bool,
}

/// Who led, and who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The name of the master whose member led when this was asked.
    pub from: String,
    /// The name of the one that was asked for. It is the same when there was nothing to do.
    pub to: String,
}
