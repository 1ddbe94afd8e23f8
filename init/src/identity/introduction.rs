//! What a node is to its peers, whether it belongs to a cluster or not: machine id and peer key.

use std::path::Path;
use std::sync::Arc;

use masthead_pki::{PeerKey, Secret};

use super::founding::{Places, machine_id};
use super::problem::Problem;
use super::storage::{Durable, Storage, read};
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
    let peer_key = if let Some(pem) = read(path)? {
        PeerKey::parse(&Secret::new(pem))
            .map_err(|error| Problem::damaged(path, format!("{}.", with_sources(&error))))?
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
