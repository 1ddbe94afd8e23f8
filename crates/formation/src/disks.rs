//! What the records at the start mean.

use std::sync::Arc;

use crate::record::{InvalidRecord, read, read_go};
use crate::{
    EtcdHoldings, Marker, Plan, PlanHash, Reason, Setup, Standing, Started, StateHoldings, Volume,
};

/// What both volumes are known to hold: what was read, and what was synced since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks {
    /// Every plan that this node acknowledges, by generation. Earlier ones are kept: one of them may turn out to be
    /// the one that others hold go of.
    pub(crate) plans: Vec<Arc<Plan>>,
    /// The plan of the go record.
    pub(crate) go: Option<Arc<Plan>>,
    pub(crate) started: Option<Started>,
    pub(crate) marker: Option<Marker>,
    pub(crate) etcd_filesystem: String,
    pub(crate) has_wal: bool,
}

/// Whether a node can take part.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// Fresh, Founding or Member.
    Able(Disks),
    /// etcd was started once, and its data is gone or foreign.
    Amnesiac { standing: Standing, detail: String },
    /// Nobody knows.
    Unknown {
        holds_go: Option<PlanHash>,
        reason: Reason,
    },
}

impl Disks {
    /// What the node is.
    pub(crate) fn standing(&self) -> Standing {
        match (&self.started, &self.go, self.plans.last()) {
            (Some(_), Some(plan), _) => Standing::Member { plan: plan.name() },
            (_, Some(plan), _) => Standing::Founding {
                plan: plan.name(),
                go: true,
            },
            (_, None, Some(plan)) => Standing::Founding {
                plan: plan.name(),
                go: false,
            },
            (_, None, None) => Standing::Fresh,
        }
    }
}

impl Condition {
    pub(crate) fn standing(&self) -> Standing {
        match self {
            Self::Able(disks) => disks.standing(),
            Self::Amnesiac { standing, .. } => standing.clone(),
            Self::Unknown { holds_go, .. } => Standing::Unknown {
                holds_go: *holds_go,
            },
        }
    }

    /// Judges what was found.
    pub(crate) fn judge(setup: &Setup) -> Self {
        let unknown = |holds_go, reason| Self::Unknown { holds_go, reason };
        let mut disks = match read_state(setup) {
            Ok(disks) => disks,
            Err(reason) => return unknown(None, reason),
        };
        let holds_go = disks.go.as_ref().map(|plan| plan.hash());
        let (uuid, marker, has_wal) = match &setup.etcd {
            EtcdHoldings::Unknown(error) => {
                let reason = Reason::VolumeUnknown {
                    volume: Volume::Etcd,
                    error: error.clone(),
                };
                return unknown(holds_go, reason);
            }
            EtcdHoldings::Read {
                uuid,
                marker,
                has_wal,
            } => (uuid, marker, *has_wal),
        };
        let marker = match marker.as_deref().map(read::<Marker>).transpose() {
            Ok(marker) => marker,
            Err(error) => return unknown(holds_go, damaged("ETCD's marker", &error)),
        };
        if !setup.durable && setup.masters.len() > 1 && disks.plans.is_empty() {
            return unknown(None, Reason::NoDisk);
        }
        disks.marker = marker;
        disks.has_wal = has_wal;
        disks.etcd_filesystem.clone_from(uuid);
        match amnesia(setup, &disks) {
            Some(detail) => {
                let cluster_id = disks.marker.map(|marker| marker.cluster_id);
                let standing = Standing::Amnesiac {
                    cluster_id: cluster_id
                        .or_else(|| disks.started.as_ref().map(|started| started.cluster_id)),
                    holds_go,
                };
                Self::Amnesiac { standing, detail }
            }
            None => Self::Able(disks),
        }
    }
}

fn damaged(what: &str, error: &InvalidRecord) -> Reason {
    use std::error::Error as _;
    let mut detail = format!("{what} is damaged: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    Reason::Damaged { detail }
}

/// Reads STATE's records and holds them against each other.
fn read_state(setup: &Setup) -> Result<Disks, Reason> {
    let contradiction = |detail: &str| {
        Err(Reason::Damaged {
            detail: detail.to_owned(),
        })
    };
    let (plans, go, started) = match &setup.state {
        StateHoldings::Unknown(error) => {
            return Err(Reason::VolumeUnknown {
                volume: Volume::State,
                error: error.clone(),
            });
        }
        StateHoldings::Read { plans, go, started } => (plans, go, started),
    };
    let mut disks = Disks::default();
    for bytes in plans {
        let plan = Plan::from_record(bytes).map_err(|error| damaged("A plan", &error))?;
        if plan.machine(setup.machine_id).is_none() {
            return contradiction("STATE holds a plan that does not name this machine");
        }
        disks.plans.push(Arc::new(plan));
    }
    disks.plans.sort_by_key(|plan| plan.generation());
    if let Some(bytes) = go {
        let hash = read_go(bytes).map_err(|error| damaged("The go record", &error))?;
        disks.go = disks.plans.iter().find(|plan| plan.hash() == hash).cloned();
        if disks.go.is_none() {
            return contradiction("STATE holds go of a plan that it does not hold");
        }
    }
    if let Some(bytes) = started {
        let started: Started =
            read(bytes).map_err(|error| damaged("The record of etcd's start", &error))?;
        let cluster_id = disks.go.as_ref().map(|plan| plan.cluster_id());
        if cluster_id != Some(started.cluster_id) {
            return contradiction("STATE records a start of etcd without go for it");
        }
        disks.started = Some(started);
    }
    Ok(disks)
}

/// Why etcd must not start, if so. Without a write-ahead log it starts `new` only if nothing was ever started here, or if
/// both witnesses are there, match, and etcd was never seen serving.
fn amnesia(setup: &Setup, disks: &Disks) -> Option<String> {
    if let Some(marker) = &disks.marker {
        let own = disks.go.as_ref().map(|plan| Marker {
            cluster_id: plan.cluster_id(),
            machine_id: setup.machine_id,
        });
        if own != Some(*marker) {
            return Some(format!(
                "ETCD holds data of machine {} in cluster {}, and STATE does not",
                marker.machine_id, marker.cluster_id
            ));
        }
    }
    let Some(started) = &disks.started else {
        return disks
            .has_wal
            .then(|| "ETCD holds etcd's data, but STATE knows of no start of etcd".to_owned());
    };
    if started.etcd_filesystem != disks.etcd_filesystem {
        return Some(format!(
            "etcd was started on the file system {}, and ETCD is {}",
            started.etcd_filesystem, disks.etcd_filesystem
        ));
    }
    if disks.marker.is_none() {
        return Some("etcd was started here, but ETCD lacks the marker of that start".to_owned());
    }
    (started.confirmed && !disks.has_wal)
        .then(|| "etcd served from here, but its write-ahead log is gone".to_owned())
}
