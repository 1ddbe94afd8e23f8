//! The other masters' statuses, for whoever asks this one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use masthead_api::cluster::{ClusterStatus, NodeAnswer};
use masthead_api::{ApiError, ErrorCode, Status};
use masthead_machine::Scale;
use masthead_peer_protocol::{PORT, Route};
use tokio::task::JoinSet;

use crate::error_chain::with_sources;
use crate::peer;

/// How long a master has to answer, on a real machine. Shorter than whoever asks is patient: one that is dead must not
/// cost the word of the others.
const PATIENCE: Duration = Duration::from_secs(2);

/// This master's status, and what every other one that the seed lists says when all are asked at once.
pub(super) async fn status(
    own: Status,
    peers: Option<&peer::Handle>,
    scale: Scale,
) -> ClusterStatus {
    let mut asking = JoinSet::new();
    for peer in peers
        .iter()
        .flat_map(|peers| peers.watch().borrow().peers.clone())
    {
        let Some(handle) = peers.cloned() else { break };
        asking.spawn(async move {
            let to = SocketAddr::new(peer.address, PORT);
            let patience = scale * PATIENCE;
            let asked = tokio::time::timeout(patience, ask(&handle, to)).await;
            let late = |_| silent(format!("no answer from {to} within {patience:?}"));
            (peer.name, asked.unwrap_or_else(late))
        });
    }
    let mut nodes: BTreeMap<_, _> = asking.join_all().await.into_iter().collect();
    nodes.insert(own.node.name.clone(), NodeAnswer::Status(Box::new(own)));
    ClusterStatus {
        format: masthead_api::FORMAT,
        nodes,
    }
}

async fn ask(peers: &peer::Handle, to: SocketAddr) -> NodeAnswer {
    match peers.ask(to, Route::Status, Vec::new()).await {
        Err(error) => silent(with_sources(&error)),
        Ok(answer) => match serde_json::from_slice(&answer) {
            Ok(status) => NodeAnswer::Status(status),
            Err(error) => silent(format!("its answer cannot be read: {error}")),
        },
    }
}

fn silent(why: String) -> NodeAnswer {
    let remedy = "Ask the master itself, or see its console.";
    NodeAnswer::Error(ApiError::new(ErrorCode::NotReady, why, remedy))
}
