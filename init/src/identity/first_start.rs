//! Whether etcd may start, and whether it founds its store or must find it.
//!
//! etcd without data, started with state `new`, founds an empty store under the old cluster id and answers healthy:
//! acknowledged writes are gone. So a first start leaves two witnesses before it happens: the marker on ETCD, which says
//! whose data will be there, then the record on STATE, which says on which file system. Once etcd has served, the
//! record is confirmed. Without a write-ahead log (WAL) etcd starts `new` only if it was never started, or if both
//! witnesses are there and no start was confirmed: then nothing can have been acknowledged, for etcd writes its WAL before
//! it serves. In every other case the node is amnesiac, and etcd stays off.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use masthead_api::ReasonCode;
use masthead_control_plane::EtcdStart;

use super::founding::Identity;
use super::handover::Handover;
use super::problem::Problem;
use super::record::{Document as _, StartedMarker, StartedRecord, parse, render};
use super::storage::{Durable, Storage, StorageError, read};

/// The file system that holds etcd's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdVolume {
    /// Where it is mounted: `/etcd`. The data is in `data` below it.
    pub mounted_at: PathBuf,
    /// Its UUID; any word that stays the same until the next boot where it is in memory.
    pub uuid: String,
}

/// What the two file systems say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Witnesses {
    pub(super) record: Option<StartedRecord>,
    pub(super) marker: Option<StartedMarker>,
    pub(super) has_wal: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Never started: leave the witnesses, then start `new`.
    First,
    /// Start that was cut before etcd served: start `new` again.
    Again,
    /// Start with the data that is there.
    Existing,
    /// Do not start.
    Amnesiac(String),
}

/// Judges the witnesses for this machine, this cluster and the file system of that UUID.
pub(super) fn judge(witnesses: &Witnesses, own: &StartedMarker, uuid: &str) -> Verdict {
    let amnesiac = |cause: String| Verdict::Amnesiac(cause);
    if let Some(marker) = &witnesses.marker
        && (marker.cluster_id != own.cluster_id || marker.machine_id != own.machine_id)
    {
        return amnesiac(format!(
            "ETCD holds data of machine {} in cluster {}; this is machine {} of cluster {}.",
            marker.machine_id, marker.cluster_id, own.machine_id, own.cluster_id
        ));
    }
    match (&witnesses.record, &witnesses.marker, witnesses.has_wal) {
        (None, _, false) => Verdict::First,
        (None, _, true) => {
            amnesiac("ETCD holds etcd's data, but STATE knows of no start of etcd.".to_owned())
        }
        (Some(record), _, _) if record.etcd_filesystem != uuid => amnesiac(format!(
            "etcd was started on the file system {}, and ETCD is {uuid}.",
            record.etcd_filesystem
        )),
        (Some(_), None, _) => {
            amnesiac("etcd was started here, but ETCD lacks the marker of that start.".to_owned())
        }
        (Some(_), Some(_), true) => Verdict::Existing,
        (Some(record), Some(_), false) if record.confirmed => {
            amnesiac("etcd served from here, but its write-ahead log is gone.".to_owned())
        }
        (Some(_), Some(_), false) => Verdict::Again,
    }
}

/// Decides how etcd starts, and before its first start leaves the witnesses. Call it right before starting etcd, with
/// STATE mounted at `state`.
pub fn first_start(
    state: &Path,
    volume: &EtcdVolume,
    identity: &Identity,
) -> Result<EtcdStart, Problem> {
    first_start_on(&Durable, state, volume, identity)
}

pub(super) fn first_start_on(
    storage: &impl Storage,
    state: &Path,
    volume: &EtcdVolume,
    identity: &Identity,
) -> Result<EtcdStart, Problem> {
    let (record_path, marker_path) = (state.join("started"), volume.mounted_at.join("started"));
    let own = StartedMarker {
        format: StartedMarker::FORMAT,
        cluster_id: identity.cluster_id.clone(),
        machine_id: identity.machine_id.clone(),
    };
    let witnesses = Witnesses {
        record: read(&record_path)?
            .map(|bytes| parse(&record_path, &bytes))
            .transpose()?,
        marker: read(&marker_path)?
            .map(|bytes| parse(&marker_path, &bytes))
            .transpose()?,
        has_wal: has_wal(&volume.mounted_at.join("data"))?,
    };
    match judge(&witnesses, &own, &volume.uuid) {
        Verdict::First => {
            storage.replace(&marker_path, &render(&own))?;
            let record = StartedRecord {
                format: StartedRecord::FORMAT,
                etcd_filesystem: volume.uuid.clone(),
                confirmed: false,
            };
            storage.replace(&record_path, &render(&record))?;
            Ok(EtcdStart::New)
        }
        Verdict::Again => Ok(EtcdStart::New),
        Verdict::Existing => Ok(EtcdStart::Existing),
        Verdict::Amnesiac(cause) => Err(Problem::new(ReasonCode::EtcdAmnesiac, cause)),
    }
}

/// Records that etcd has served: to be called whenever it becomes ready. From then on it is never started `new` again.
pub fn confirm_started(state: &Path) -> Result<(), Problem> {
    let path = state.join("started");
    let bytes = read(&path)?.ok_or_else(|| Problem::damaged(&path, "missing, while etcd runs."))?;
    let record: StartedRecord = parse(&path, &bytes)?;
    if record.confirmed {
        return Ok(());
    }
    let record = StartedRecord {
        confirmed: true,
        ..record
    };
    Ok(Durable.replace(&path, &render(&record))?)
}

/// The name under which a supervisor hands over how etcd starts.
const ETCD_START: &str = "etcd-start";
const NEW: &[u8] = b"new\n";
const EXISTING: &[u8] = b"existing\n";

/// Keeps how etcd starts in this boot for a supervisor that replaces this one.
pub fn keep_etcd_start(handover: &Handover, start: EtcdStart) -> Result<(), StorageError> {
    let word = match start {
        EtcdStart::New => NEW,
        EtcdStart::Existing => EXISTING,
    };
    handover.keep(ETCD_START, word)
}

/// How etcd starts, as an earlier supervisor of this boot has decided. It was right then, and nothing but etcd itself
/// has written to ETCD since: file systems are mounted once.
pub fn handed_over_etcd_start(handover: &Handover) -> Option<EtcdStart> {
    match handover.read(ETCD_START)?.as_slice() {
        NEW => Some(EtcdStart::New),
        EXISTING => Some(EtcdStart::Existing),
        _ => None,
    }
}

/// Whether there is a write-ahead log below etcd's data directory. One that cannot be looked for is an error, not
/// "none".
fn has_wal(data: &Path) -> Result<bool, StorageError> {
    let directory = data.join("member/wal");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(StorageError::new(
                "look for etcd's log in",
                &directory,
                error,
            ));
        }
    };
    for entry in entries {
        let entry = entry
            .map_err(|error| StorageError::new("look for etcd's log in", &directory, error))?;
        if Path::new(&entry.file_name())
            .extension()
            .is_some_and(|extension| extension == "wal")
        {
            return Ok(true);
        }
    }
    Ok(false)
}
