//! What STATE and ETCD hold: reading it without ever taking "unknown" for "empty", and writing records.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use masthead_formation::{
    EtcdHoldings, GO_FILE, MARKER_FILE, PLAN_FILE_PREFIX, Plan, Record, STARTED_FILE,
    StateHoldings, Volume,
};
use serde::{Deserialize, Serialize};

use crate::error_chain::with_sources;
use crate::identity::storage::{Storage, StorageError, read};

/// Where the two volumes are mounted.
#[derive(Clone, Debug)]
pub struct Places {
    /// STATE.
    pub state: PathBuf,
    /// ETCD.
    pub etcd: PathBuf,
}

impl Places {
    /// Those of a node.
    pub fn of_node() -> Self {
        Self {
            state: "/state".into(),
            etcd: "/etcd".into(),
        }
    }

    /// The directory of a volume's records.
    fn records(&self, volume: Volume) -> PathBuf {
        match volume {
            Volume::State => self.state.join("formation"),
            Volume::Etcd => self.etcd.clone(),
        }
    }
}

/// The records of STATE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateRecords {
    pub(super) plans: Vec<Vec<u8>>,
    pub(super) go: Option<Vec<u8>>,
    pub(super) started: Option<Vec<u8>>,
}

/// What is on ETCD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EtcdRecords {
    pub(super) uuid: String,
    pub(super) marker: Option<Vec<u8>>,
    pub(super) has_wal: bool,
}

impl StateRecords {
    pub(super) fn read(places: &Places) -> Result<Self, StorageError> {
        let directory = places.records(Volume::State);
        let mut plans = Vec::new();
        for name in names(&directory, "list")? {
            let generation = name.strip_prefix(PLAN_FILE_PREFIX);
            // Others are rests of a write that was cut.
            if generation.is_some_and(|generation| generation.parse::<u64>().is_ok()) {
                plans.extend(read(&directory.join(name))?);
            }
        }
        Ok(Self {
            plans,
            go: read(&directory.join(GO_FILE))?,
            started: read(&directory.join(STARTED_FILE))?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The plan of the go record, or else the newest.
    fn plan(&self) -> Option<Plan> {
        let plans = self.plans.iter();
        let mut plans: Vec<Plan> = plans
            .filter_map(|bytes| Plan::from_record(bytes).ok())
            .collect();
        plans.sort_by_key(Plan::generation);
        let started = |plan: &Plan| self.go.as_ref() == Some(&Record::Go(plan.hash()).bytes());
        match plans.iter().position(started) {
            Some(place) => Some(plans.swap_remove(place)),
            None => plans.pop(),
        }
    }
}

impl EtcdRecords {
    pub(super) fn read(places: &Places) -> Result<Self, StorageError> {
        Ok(Self {
            uuid: file_system_id(&places.etcd)?,
            marker: read(&places.records(Volume::Etcd).join(MARKER_FILE))?,
            has_wal: has_wal(&places.etcd.join("data"))?,
        })
    }
}

/// What both volumes hold, as far as they can be read.
#[derive(Debug)]
pub(super) struct Holdings {
    pub(super) state: Result<StateRecords, String>,
    pub(super) etcd: Result<EtcdRecords, String>,
}

impl Holdings {
    pub(super) fn state(&self) -> StateHoldings {
        match &self.state {
            Ok(records) => StateHoldings::Read {
                plans: records.plans.clone(),
                go: records.go.clone(),
                started: records.started.clone(),
            },
            Err(error) => StateHoldings::Unknown(error.clone()),
        }
    }

    pub(super) fn etcd(&self) -> EtcdHoldings {
        match &self.etcd {
            Ok(records) => EtcdHoldings::Read {
                uuid: records.uuid.clone(),
                marker: records.marker.clone(),
                has_wal: records.has_wal,
            },
            Err(error) => EtcdHoldings::Unknown(error.clone()),
        }
    }

    /// The plan that the node goes by.
    pub(super) fn plan(&self) -> Option<Plan> {
        self.state.as_ref().ok()?.plan()
    }

    /// Whether the node knows that this plan may be started.
    pub(super) fn holds_go(&self) -> bool {
        self.state.as_ref().is_ok_and(|state| state.go.is_some())
    }

    /// Remembers a record that is on the disk now.
    pub(super) fn take(&mut self, record: &Record) {
        let bytes = record.bytes();
        match (record, &mut self.state, &mut self.etcd) {
            (Record::Plan(_), Ok(state), _) => state.plans.push(bytes),
            (Record::Go(_), Ok(state), _) => state.go = Some(bytes),
            (Record::Started(_), Ok(state), _) => state.started = Some(bytes),
            (Record::Marker(_), _, Ok(etcd)) => etcd.marker = Some(bytes),
            // Nothing is written to a volume that could not be read.
            _ => {}
        }
    }
}

/// Reads both volumes. One that cannot be read is known to be so, and nothing else is known of it.
pub(super) fn read_volumes(places: &Places) -> Holdings {
    let text = |error: StorageError| with_sources(&error);
    Holdings {
        state: StateRecords::read(places).map_err(text),
        etcd: EtcdRecords::read(places).map_err(text),
    }
}

/// Writes a record, durably.
pub(super) fn write(
    storage: &dyn Storage,
    places: &Places,
    record: &Record,
) -> Result<(), StorageError> {
    let directory = places.records(record.volume());
    if record.volume() == Volume::State {
        storage.make_directory(&directory)?;
    }
    storage.replace(&directory.join(record.file_name()), &record.bytes())
}

/// Whether there is a write-ahead log below etcd's data directory. One that cannot be looked for is an error, not
/// "none".
fn has_wal(data: &Path) -> Result<bool, StorageError> {
    let directory = data.join("member/wal");
    let names = names(&directory, "look for etcd's log in")?;
    Ok(names
        .iter()
        .any(|name| Path::new(name).extension().is_some_and(|it| it == "wal")))
}

/// The names in a directory, which may be absent.
fn names(directory: &Path, action: &'static str) -> Result<Vec<String>, StorageError> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|error| StorageError::new(action, directory, error)),
    }
}

/// What stays the same for as long as a file system lives, and differs between two: `f_fsid` of statfs(2), which ext4
/// and tmpfs derive from the UUID.
fn file_system_id(path: &Path) -> Result<String, StorageError> {
    let stat = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| StorageError::new("identify the file system at", path, errno.into()))?;
    Ok(format!("{:016x}", stat.filesystem_id()))
}
