//! What a node is to its peers, whether it belongs to a cluster or not: machine id and peer key.

use std::path::Path;
use std::sync::Arc;

use masthead_pki::{PeerKey, Secret};

use super::founding::{Places, machine_id, read_machine_id};
use super::handover::Handover;
use super::problem::Problem;
use super::storage::{Durable, Storage, StorageError, read};
use crate::error_chain::with_sources;

/// What a node is to its peers.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// 32 random hexadecimal digits, made at the machine's first boot.
    pub machine_id: String,
    /// Made once, and again only when STATE was replaced.
    pub peer_key: Arc<PeerKey>,
}

/// Reads both from STATE, mounted at `state`; makes what is not there yet.
pub fn introduce(state: &Path) -> Result<Introduction, Problem> {
    introduce_on(&Durable, state)
}

pub(super) fn introduce_on(storage: &impl Storage, state: &Path) -> Result<Introduction, Problem> {
    let places = Places::below(state);
    let machine_id = machine_id(storage, &places)?;
    let path = &places.peer_key;
    let peer_key = if let Some(key) = read_peer_key(path)? {
        key
    } else {
        let key = PeerKey::generate()?;
        storage.replace(path, key.pem().expose())?;
        key
    };
    Ok(Introduction {
        machine_id,
        peer_key: Arc::new(peer_key),
    })
}

fn read_peer_key(path: &Path) -> Result<Option<PeerKey>, Problem> {
    let Some(pem) = read(path)? else {
        return Ok(None);
    };
    let parsed = PeerKey::parse(&Secret::new(pem));
    parsed
        .map(Some)
        .map_err(|error| Problem::damaged(path, format!("{}.", with_sources(&error))))
}

/// Keeps it for a supervisor that replaces this one.
pub fn hand_over_introduction(
    handover: &Handover,
    introduction: &Introduction,
) -> Result<(), StorageError> {
    let id = format!("{}\n", introduction.machine_id);
    handover.keep("machine-id", id.as_bytes())?;
    handover.keep("peer.key", introduction.peer_key.pem().expose())
}

/// What an earlier supervisor of this boot has handed over; `None` if none has. Does not touch STATE.
pub fn handed_over_introduction(handover: &Handover) -> Result<Option<Introduction>, Problem> {
    let places = Places::below(handover.directory());
    let both = read_machine_id(&places.machine_id)?.zip(read_peer_key(&places.peer_key)?);
    Ok(both.map(|(machine_id, peer_key)| Introduction {
        machine_id,
        peer_key: Arc::new(peer_key),
    }))
}
