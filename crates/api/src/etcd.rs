//! etcd, as a node's own member sees it.

use serde::{Deserialize, Serialize};

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
    /// Alarms and other faults, in etcd's words.
    #[serde(default)]
    pub errors: Vec<String>,
    /// All members that this one knows.
    #[serde(default)]
    pub members: Vec<EtcdMember>,
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
