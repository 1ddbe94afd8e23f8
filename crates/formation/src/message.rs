//! What peers tell each other.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;

use crate::{ClusterId, InvalidPlan, MachineId, Plan, PlanHash, Sealed, SeedHash};

/// The format of messages that this release writes.
pub const MESSAGE_FORMAT: u32 = 1;

/// A message from peer to peer. The transport carries its bytes and says who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// What a node is. Holds no secret; everybody may know it.
    Report(Report),
    /// The plan, from its planner to one of its members.
    Plan(Arc<Plan>),
}

/// What a node is, as it tells its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its name in its seed.
    pub name: String,
    /// Its machine id.
    pub machine_id: MachineId,
    /// Drawn at each start of the machine.
    pub session: u64,
    /// Counts the reports of a session; an older one that comes late is not heeded.
    pub sequence: u64,
    /// The newest session of the receiver that the sender has heard of: so the receiver knows that this report is
    /// no older than its own start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<u64>,
    /// Whether the sender wants a report in return.
    #[serde(default)]
    pub question: bool,
    /// The seed that it holds.
    pub seed: SeedHash,
    /// What it is.
    pub standing: Standing,
}

/// What a node is, in one word, with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Standing {
    /// Disks that were read, and hold nothing.
    Fresh,
    /// It persisted a plan: thereby it acknowledges it.
    Founding {
        /// The newest plan, or the one of which it holds go.
        #[serde(flatten)]
        plan: PlanName,
        /// Whether it persisted go.
        go: bool,
    },
    /// Its etcd was started.
    Member {
        /// What it is a member of.
        #[serde(flatten)]
        plan: PlanName,
    },
    /// Its etcd was started once, and its data is gone or foreign.
    Amnesiac {
        /// The cluster that its disks speak of, if they do.
        #[serde(default)]
        cluster_id: Option<ClusterId>,
        /// The plan of which it holds go, if STATE is still there.
        #[serde(default)]
        holds_go: Option<PlanHash>,
    },
    /// A disk is absent or cannot be read, so that nobody knows what it is.
    Unknown {
        /// The plan of which it is known to hold go all the same.
        #[serde(default)]
        holds_go: Option<PlanHash>,
    },
    /// What a newer release says. Taken for something that may have started.
    #[serde(other)]
    Newer,
}

impl Standing {
    /// The plan of which it holds go.
    pub fn holds_go(&self) -> Option<PlanHash> {
        match self {
            Self::Founding { plan, go: true } | Self::Member { plan } => Some(plan.hash),
            Self::Amnesiac { holds_go, .. } | Self::Unknown { holds_go } => *holds_go,
            Self::Fresh | Self::Founding { go: false, .. } | Self::Newer => None,
        }
    }

    /// Whether a cluster may have begun with it: it holds go, was started once, or is something that this release
    /// does not know.
    pub fn has_begun(&self) -> bool {
        self.holds_go().is_some() || matches!(self, Self::Amnesiac { .. } | Self::Newer)
    }

    /// The plan that it speaks of.
    pub fn plan(&self) -> Option<PlanName> {
        match self {
            Self::Founding { plan, .. } | Self::Member { plan } => Some(*plan),
            _ => None,
        }
    }

    /// The cluster whose data it holds.
    pub fn started_cluster(&self) -> Option<ClusterId> {
        match self {
            Self::Member { plan } => Some(plan.cluster_id),
            Self::Amnesiac { cluster_id, .. } => *cluster_id,
            _ => None,
        }
    }

    /// Whether a plan may still be laid before it.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Fresh | Self::Founding { go: false, .. })
    }
}

/// A plan as peers speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanName {
    /// Its generation.
    pub generation: u64,
    /// Its hash.
    pub hash: PlanHash,
    /// Its cluster id.
    pub cluster_id: ClusterId,
}

/// Why bytes are no message.
#[derive(Debug, Error)]
pub enum InvalidMessage {
    /// No JSON of that shape.
    #[error("read a peer's message")]
    Syntax(#[from] serde_json::Error),
    /// Only newer releases can read it.
    #[error(
        "a peer's message can be read from format {oldest} on, and this release reads format {MESSAGE_FORMAT}; boot both with the same release"
    )]
    TooNew {
        /// The oldest format whose readers understand it.
        oldest: u32,
    },
    /// The plan in it is none.
    #[error("read the plan in a peer's message")]
    Plan(#[from] InvalidPlan),
}

/// A message with what the receiver needs to know to read it.
#[derive(Serialize, Deserialize)]
struct Envelope<B> {
    format: u32,
    oldest_format: u32,
    #[serde(flatten)]
    body: B,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Body {
    Report(Report),
    /// The plan's own bytes, which must arrive as they are.
    Plan {
        bytes: Sealed,
    },
}

impl Message {
    /// The bytes for the transport.
    pub fn encode(&self) -> Vec<u8> {
        let body = match self {
            Self::Report(report) => Body::Report(report.clone()),
            Self::Plan(plan) => Body::Plan {
                bytes: Sealed(plan.bytes().to_vec()),
            },
        };
        let envelope = Envelope {
            format: MESSAGE_FORMAT,
            oldest_format: MESSAGE_FORMAT,
            body,
        };
        serde_json::to_vec(&envelope).expect("these types are always JSON")
    }

    /// Reads what the transport brought.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidMessage> {
        // First what every format has, so that a newer one is refused as such.
        let envelope: Envelope<serde_json::Value> = serde_json::from_slice(bytes)?;
        if envelope.oldest_format > MESSAGE_FORMAT {
            return Err(InvalidMessage::TooNew {
                oldest: envelope.oldest_format,
            });
        }
        Ok(match serde_json::from_value(envelope.body)? {
            Body::Report(report) => Self::Report(report),
            Body::Plan { bytes } => Self::Plan(Arc::new(Plan::read(bytes.0)?)),
        })
    }
}
