//! The records on STATE and ETCD.

use std::sync::Arc;

use crate::{ClusterId, MachineId, Plan, PlanHash, Volume};

/// Something to be kept. Each replaces an earlier one of the same name, whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A plan that this node acknowledges, on STATE. Earlier generations are kept beside it.
    Plan(Arc<Plan>),
    /// The plan that may be started, on STATE.
    Go(PlanHash),
    /// etcd's first start, on STATE.
    Started(Started),
    /// Whose data ETCD holds, on ETCD.
    Marker(Marker),
}

/// etcd was, or is about to be, started for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Of what.
    pub cluster_id: ClusterId,
    /// The UUID of the file system that etcd's data is on.
    pub etcd_filesystem: String,
    /// Whether etcd was seen serving: from then on its data must be there.
    pub confirmed: bool,
}

/// Whose data ETCD holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The machine.
    pub machine_id: MachineId,
}

impl Record {
    /// Which file system it belongs on.
    pub fn volume(&self) -> Volume {
        match self {
            Self::Plan(_) | Self::Go(_) | Self::Started(_) => Volume::State,
            Self::Marker(_) => Volume::Etcd,
        }
    }

    /// The name of its file there.
    pub fn file_name(&self) -> String {
        match self {
            Self::Plan(plan) => plan_file_name(plan.generation()),
            Self::Go(_) => GO_FILE.to_owned(),
            Self::Started(_) => STARTED_FILE.to_owned(),
            Self::Marker(_) => MARKER_FILE.to_owned(),
        }
    }
}

/// `plan-GENERATION` on STATE.
pub fn plan_file_name(generation: u64) -> String {
    format!("{PLAN_FILE_PREFIX}{generation}")
}

/// What the names of plan files on STATE begin with.
pub const PLAN_FILE_PREFIX: &str = "plan-";
/// The go record on STATE.
pub const GO_FILE: &str = "go";
/// The record of etcd's first start, on STATE.
pub const STARTED_FILE: &str = "started";
/// The marker on ETCD.
pub const MARKER_FILE: &str = "started";
