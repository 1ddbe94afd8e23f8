//! What a supervisor leaves to its successor in the same boot, once etcd may start: the records, as they were read and
//! written, in memory.
//!
//! STATE may die or stall while the node runs, and the supervisor after it. Its successor then knows at once what the node
//! is a member of and how etcd starts. Before etcd starts nothing is left behind: until then the disks alone say what
//! was acknowledged, and a successor reads them.

use std::sync::Arc;

use masthead_control_plane::EtcdStart;
use masthead_formation::MachineId;
use masthead_pki::{PeerKey, Secret};
use serde::{Deserialize, Serialize};

use super::own::Own;
use super::records::{EtcdRecords, Holdings, StateRecords};
use crate::error_chain::with_sources;
use crate::identity::Handover;

/// The name under which it is handed over.
const NAME: &str = "formation.json";

/// What was handed over.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) own: Own,
    pub(super) holdings: Holdings,
    pub(super) start: EtcdStart,
}

#[derive(Serialize, Deserialize)]
struct Document {
    machine_id: MachineId,
    /// PEM.
    peer_key: String,
    state: StateRecords,
    etcd: EtcdRecords,
    /// Whether etcd founds its store.
    new: bool,
}

/// Keeps it. A failure is told only: the successor then needs the disks.
pub(super) fn keep(handover: &Handover, own: &Own, holdings: &Holdings, start: EtcdStart) {
    let (Ok(state), Ok(etcd)) = (&holdings.state, &holdings.etcd) else {
        return;
    };
    let document = Document {
        machine_id: own.machine_id,
        peer_key: String::from_utf8_lossy(own.key.pem().expose()).into_owned(),
        state: state.clone(),
        etcd: etcd.clone(),
        new: start == EtcdStart::New,
    };
    let text = serde_json::to_vec(&document).expect("these types are always JSON");
    if let Err(error) = handover.keep(NAME, &text) {
        let error = with_sources(&error);
        tracing::error!(%error, "a new supervisor will need the disks to know what this node is");
    }
}

/// What an earlier supervisor of this boot has handed over, if etcd was allowed to start. Does not touch the disks.
pub(super) fn recall(handover: &Handover) -> Option<Remembered> {
    let document: Document = serde_json::from_slice(&handover.read(NAME)?)
        .inspect_err(|error| tracing::error!(%error, "what was handed over is not used"))
        .ok()?;
    let key = PeerKey::parse(&Secret::new(document.peer_key)).ok()?;
    Some(Remembered {
        own: Own {
            machine_id: document.machine_id,
            key: Arc::new(key),
        },
        holdings: Holdings {
            state: Ok(document.state),
            etcd: Ok(document.etcd),
        },
        start: if document.new {
            EtcdStart::New
        } else {
            EtcdStart::Existing
        },
    })
}
