//! What people are told; derived from the machine's state.

use std::fmt;

use masthead_api::ReasonCode;
use thiserror::Error;

use crate::{ClusterId, Master, PlanHash, SeedHash, Standing, Volume};

/// What a node is, what it waits for, and who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub phase: Phase,
    /// The plan that it holds, if any: the newest, or the one of which it holds go.
    pub plan: Option<HeldPlan>,
    /// What it waits for, or what is wrong. Empty when there is nothing to say.
    pub reasons: Vec<Reason>,
    /// The other listed masters.
    pub peers: Vec<PeerStatus>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Disks that were read, and hold nothing.
    Fresh,
    /// It persisted a plan.
    Founding,
    /// etcd was started.
    Member,
    /// etcd was started once, and its data is gone or foreign: it stays off.
    Amnesiac,
    /// A disk is absent or cannot be read.
    Unknown,
}

/// A plan as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPlan {
    /// Its generation.
    pub generation: u64,
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Its hash.
    pub hash: PlanHash,
    /// Whether this node holds go.
    pub go: bool,
}

/// A peer as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub master: Master,
    /// Whether it answers now.
    pub answers: bool,
    /// What it said last, since this node's start.
    pub standing: Option<Standing>,
}

/// Why a node waits, or what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Listed masters do not answer.
    PeersMissing {
        /// Their names.
        names: Vec<String>,
    },
    /// Masters hold different seeds.
    SeedsDiffer {
        /// Each seed, with the names of those that hold it, this node among them.
        seeds: Vec<(SeedHash, Vec<String>)>,
    },
    /// Listed masters answer that a disk of theirs is absent or cannot be read.
    PeersNotReady {
        /// Their names.
        names: Vec<String>,
    },
    /// The plan is being made, or the planner is awaited.
    Planning {
        /// The planner's name.
        planner: String,
    },
    /// Members have not acknowledged the plan yet.
    Acknowledging {
        /// The names of those whose acknowledgement this node knows to be missing.
        missing: Vec<String>,
    },
    /// Too few members hold go yet.
    Spreading {
        /// The names of those that are not known to hold it.
        missing: Vec<String>,
    },
    /// There is a cluster already, or there once was: this node waits to be joined to it.
    ClusterExists {
        /// The names of those that started, or hold go.
        names: Vec<String>,
        /// Its id, where it is known.
        cluster_id: Option<ClusterId>,
    },
    /// Disks of different clusters meet.
    ForeignCluster {
        /// The clusters of others, and who holds them.
        clusters: Vec<(ClusterId, Vec<String>)>,
        /// Whether this node is the odd one out, so that its etcd stays off.
        refused: bool,
    },
    /// A list of several cannot be founded on a node that forgets.
    NoDisk,
    /// A volume is absent, unreadable or lost.
    VolumeUnknown {
        /// Which.
        volume: Volume,
        /// Why.
        error: String,
    },
    /// Records contradict each other or cannot be read.
    Damaged {
        /// What is wrong.
        detail: String,
    },
    /// etcd was started here once, and its data is gone or foreign.
    Amnesiac {
        /// What was found.
        detail: String,
    },
    /// A plan is refused, for an earlier one could still be started without this node.
    PlanRefused {
        /// The earlier plan's generation.
        generation: u64,
        /// The members that could start it.
        names: Vec<String>,
    },
    /// A record could not be written; it is tried again.
    WriteFailed {
        /// What the disk said.
        error: String,
    },
    /// Authorities or keys could not be made; it is tried again.
    PlanFailed {
        /// Why.
        error: String,
    },
    /// An even number of masters survives no more failures than one master less.
    EvenMasters {
        /// How many.
        masters: usize,
    },
}

impl Reason {
    /// The stable code.
    pub fn code(&self) -> ReasonCode {
        match self {
            Self::PeersMissing { .. } => ReasonCode::FormationPeersMissing,
            Self::SeedsDiffer { .. } => ReasonCode::FormationSeedsDiffer,
            Self::PeersNotReady { .. } => ReasonCode::FormationPeersNotReady,
            Self::Planning { .. } | Self::Acknowledging { .. } | Self::Spreading { .. } => {
                ReasonCode::FormationUnderWay
            }
            Self::ClusterExists { .. } => ReasonCode::FormationClusterExists,
            Self::PlanRefused { .. } => ReasonCode::FormationPlanRefused,
            Self::ForeignCluster { .. } => ReasonCode::FormationForeignCluster,
            Self::NoDisk => ReasonCode::FormationNoDisk,
            Self::VolumeUnknown { .. } => ReasonCode::FormationVolumeUnknown,
            Self::Damaged { .. } => ReasonCode::IdentityDamaged,
            Self::Amnesiac { .. } => ReasonCode::EtcdAmnesiac,
            Self::WriteFailed { .. } | Self::PlanFailed { .. } => ReasonCode::FormationRetrying,
            Self::EvenMasters { .. } => ReasonCode::FormationEvenMasters,
        }
    }

    /// Whether it only advises, and nothing waits for it.
    pub fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::EvenMasters { .. } | Self::ForeignCluster { refused: false, .. }
        )
    }
}

/// The cause, as one sentence.
impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeersMissing { names } => {
                write!(formatter, "No answer from {}.", listed(names))
            }
            Self::SeedsDiffer { seeds } => {
                formatter.write_str("Masters hold different seeds:")?;
                for (index, (seed, names)) in seeds.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ";" };
                    write!(formatter, "{separator} {} has {seed:.12}", listed(names))?;
                }
                formatter.write_str(".")
            }
            Self::PeersNotReady { names } => {
                write!(formatter, "A disk is not usable on {}.", listed(names))
            }
            Self::Planning { planner } => write!(formatter, "{planner} draws up the plan."),
            Self::Acknowledging { missing } if missing.is_empty() => formatter.write_str(
                "All have acknowledged the plan; its planner's word to start is awaited.",
            ),
            Self::Acknowledging { missing } => write!(
                formatter,
                "The plan is not yet acknowledged by {}.",
                listed(missing)
            ),
            Self::Spreading { missing } => {
                write!(
                    formatter,
                    "{} did not yet confirm that the cluster may start.",
                    listed(missing)
                )
            }
            Self::ClusterExists { names, cluster_id } => {
                write!(formatter, "A cluster")?;
                if let Some(id) = cluster_id {
                    write!(formatter, " ({id})")?;
                }
                write!(formatter, " has begun on {}.", listed(names))
            }
            Self::ForeignCluster { clusters, refused } => {
                formatter.write_str("Disks of different clusters meet:")?;
                for (index, (id, names)) in clusters.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ";" };
                    write!(formatter, "{separator} {} holds {id}", listed(names))?;
                }
                formatter.write_str(if *refused {
                    ". This node's etcd stays off."
                } else {
                    "."
                })
            }
            Self::PlanRefused { generation, names } => write!(
                formatter,
                "A new plan is refused: {} could still start generation {generation}.",
                listed(names)
            ),
            Self::NoDisk => {
                formatter.write_str("The seed lists several masters, and this one has no disk.")
            }
            Self::VolumeUnknown { volume, error } => {
                write!(formatter, "{volume} cannot be read: {error}.")
            }
            Self::Damaged { detail } | Self::Amnesiac { detail } => {
                write!(formatter, "{detail}.")
            }
            Self::WriteFailed { error } => {
                write!(formatter, "A record cannot be written: {error}.")
            }
            Self::PlanFailed { error } => {
                write!(formatter, "Authorities and keys cannot be made: {error}.")
            }
            Self::EvenMasters { masters } => write!(
                formatter,
                "{masters} masters survive no more failures than {}.",
                masters - 1
            ),
        }
    }
}

fn listed(names: &[String]) -> String {
    names.join(", ")
}

/// Why `mastctl found --without` was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidOverride {
    /// The cluster's name does not match the seed's.
    #[error(
        "the seed's cluster is `{seed}`, not `{given}`; check which cluster this node belongs to"
    )]
    OtherCluster {
        /// As the seed has it.
        seed: String,
        /// As it was typed.
        given: String,
    },
    /// Names that the seed does not list.
    #[error("the seed does not list {}", listed(.0))]
    NotListed(Vec<String>),
    /// Nobody is left out.
    #[error("name at least one master to found without")]
    NobodyLeftOut,
    /// The lowest address among the rest plans.
    #[error("only {planner} can do this; run the command against it")]
    NotThePlanner {
        /// Its name.
        planner: String,
    },
    /// What is left is no majority of the list.
    #[error("{left} of {listed} masters are no majority; a cluster may exist among the others")]
    NoMajority {
        /// How many are left.
        left: usize,
        /// How many are listed.
        listed: usize,
    },
    /// Some of the rest do not answer.
    #[error("{} must answer first", listed(.0))]
    Silent(Vec<String>),
    /// Some of the rest cannot take part: another seed, or a disk that is not usable.
    #[error("{} cannot take part; see the reasons in their status", listed(.0))]
    Unfit(Vec<String>),
    /// A cluster has begun.
    #[error("a cluster has begun on {}: start those masters, and replace the others", listed(.0))]
    ClusterExists(Vec<String>),
    /// An earlier plan could still be started by those that would be left out.
    #[error("{} could still start the plan of generation {generation}: switch them on", listed(.names))]
    MayHaveBegun {
        /// The earlier plan's generation.
        generation: u64,
        /// The members that could start it.
        names: Vec<String>,
    },
    /// Nothing can be founded on this node: it is no longer Fresh, or its disks are unknown.
    #[error("this node cannot found; see the reasons in its status")]
    NotFresh,
    /// A record is being written or a plan made.
    #[error("this node is in the middle of a step; try again")]
    Busy,
}
