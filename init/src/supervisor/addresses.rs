//! Virtual addresses among the supervisor's tasks: what drives them, and operators' words about them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use masthead_api::cluster::{ClusterStatus, NodeAnswer};
use masthead_api::status::{ServiceState, VirtualAddress, VirtualState};
use masthead_api::vip::{Move, MoveAnswer, MoveRequest};
use masthead_api::{ApiError, ErrorCode, FORMAT};
use masthead_control_plane::Component;
use masthead_peer_protocol::{PORT, Route};
use masthead_seed::Seed;
use serde::{Deserialize, Serialize};

use super::board::{Board, Publishers, Shared};
use super::leadership;
use crate::error_chain::with_sources;
use crate::etcd::space::has_no_space;
use crate::node::NodeOptions;
use crate::services::Managed;
use crate::vip::{self, Config, Deciding};

/// How long another master may take to take over, on a real machine.
const TO_TAKE_OVER: Duration = Duration::from_secs(5);

/// An operator's word, as it is passed on to the owner of an address.
#[derive(Debug, Serialize, Deserialize)]
struct Passed {
    address: IpAddr,
    to: String,
}

/// What became of it: how long nobody owned the address, in milliseconds, or why it did not move.
type Moved = Result<u64, ApiError>;

/// Drives the seed's virtual addresses, if it has any, for as long as the supervisor runs.
pub(super) fn spawn(
    seed: &Seed,
    node: &NodeOptions,
    deciding: Deciding,
    board: &Shared,
    publishers: &Publishers,
    services: &[Managed],
) {
    let addresses = seed.endpoint.virtual_addresses();
    let apiserver = Component::KubeApiserver.name();
    let mut services = services.iter();
    let readiness = services
        .find(|service| service.name.as_str() == apiserver)
        .and_then(|service| service.readiness.clone());
    let (Some(members), Some(peers), Some(readiness)) =
        (board.members(), board.peers().cloned(), readiness)
    else {
        return;
    };
    if addresses.is_empty() {
        return;
    }
    let vip = vip::spawn(Config {
        addresses,
        instance: board.status().node.boot_id,
        members,
        peers,
        readiness,
        network: publishers.network.subscribe(),
        deciding,
        scale: node.scale,
    });
    board.set_vip(vip.clone());
    tokio::spawn(leadership::keep_apart(Arc::clone(board)));
    let (mut told, publisher) = (vip.watch(), publishers.addresses.clone());
    tokio::spawn(async move {
        loop {
            let now = told.borrow_and_update().clone();
            publisher.send_replace(now);
            if told.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Has each of the addresses that the request names let go of by its owner, wherever that is.
pub(super) async fn move_to(board: &Board, request: MoveRequest) -> Result<MoveAnswer, ApiError> {
    let cluster = board.cluster().await;
    let own = board.status();
    let addresses = wanted(&own.virtual_addresses, request.address.as_deref())?;
    let peers = own
        .formation
        .map_or_else(Vec::new, |formation| formation.peers);
    let listed = peers
        .iter()
        .map(|peer| (&peer.name, peer.address.parse().ok()));
    let listed: Vec<(&String, Option<IpAddr>)> = listed.collect();
    let is_master =
        request.to == own.node.name || listed.iter().any(|(name, _)| **name == request.to);
    if !is_master {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            format!("the seed lists no master {}", request.to),
            "See `mastctl status` for the masters' names.",
        ));
    }
    let mut moves = Vec::new();
    for one in addresses {
        let address = &one.address;
        let Some(from) = one.owner.clone() else {
            return Err(conflict(
                format!("nobody owns {address} now, so that nobody can hand it over"),
                "See `mastctl status` for why; it is taken by itself.",
            ));
        };
        moves.push(Move {
            address: address.clone(),
            to: request.to.clone(),
            took: None,
            from,
        });
    }
    let is_move = moves.iter().any(|one| one.from != one.to);
    if is_move && own.etcd.as_ref().is_some_and(has_no_space) {
        return Err(conflict(
            "etcd has no space, so that nobody can be named who shall own the address".to_owned(),
            "Delete objects first: see `mastctl why`. If the owner fails, another master takes the address all the same.",
        ));
    }
    if is_move && !could_own(&cluster, &request.to, &moves) {
        return Err(conflict(
            format!(
                "{} could not take the address: its member of etcd knows no leader, or its kernel has no gate for the address",
                request.to
            ),
            "See `mastctl status` for what it waits for; then try again.",
        ));
    }
    if is_move && !can_serve(&cluster, &request.to) {
        return Err(conflict(
            format!("the kube-apiserver of {} is not ready", request.to),
            "See `mastctl status` for what it waits for; then try again.",
        ));
    }
    for one in moves
        .iter_mut()
        .filter(|one| one.from != one.to && !request.plan)
    {
        let passed = Passed {
            address: one.address.parse().map_err(|_| unreadable(&one.from))?,
            to: one.to.clone(),
        };
        let owner = listed.iter().find(|(name, _)| **name == one.from);
        one.took = Some(if one.from == own.node.name {
            release(board, &passed).await?
        } else {
            let at = owner.and_then(|(_, address)| *address);
            pass_on(board, at, &one.from, &passed).await?
        });
    }
    Ok(MoveAnswer {
        format: FORMAT,
        moves,
    })
}

/// Whether that master's member has a leader, and the master stands by for each of the addresses, or owns it.
fn could_own(cluster: &ClusterStatus, master: &str, moves: &[Move]) -> bool {
    let Some(NodeAnswer::Status(status)) = cluster.nodes.get(master) else {
        // It does not answer: what is refused next says so.
        return true;
    };
    let has_leader = status
        .etcd
        .as_ref()
        .is_some_and(|etcd| etcd.leader.is_some());
    let stands = |address: &String| {
        let mut its = status.virtual_addresses.iter();
        let its = its.find(|one| one.address == *address);
        its.is_some_and(|one| matches!(one.state, VirtualState::Standby | VirtualState::Owner))
    };
    has_leader && moves.iter().all(|one| stands(&one.address))
}

fn can_serve(cluster: &ClusterStatus, master: &str) -> bool {
    let Some(NodeAnswer::Status(status)) = cluster.nodes.get(master) else {
        return false;
    };
    let mut services = status.services.iter();
    services.any(|service| {
        service.name == Component::KubeApiserver.name() && service.state == ServiceState::Ready
    })
}

fn wanted<'a>(
    all: &'a [VirtualAddress],
    named: Option<&str>,
) -> Result<Vec<&'a VirtualAddress>, ApiError> {
    let is_wanted = |one: &&VirtualAddress| named.is_none_or(|named| one.address == named);
    let wanted: Vec<_> = all.iter().filter(is_wanted).collect();
    if !wanted.is_empty() {
        return Ok(wanted);
    }
    let known: Vec<_> = all.iter().map(|one| &*one.address).collect();
    let (message, remedy) = match named {
        Some(named) if !all.is_empty() => (
            format!("{named} is no virtual address of this cluster"),
            format!("Its virtual addresses: {}.", known.join(", ")),
        ),
        _ => (
            "this node has no virtual address".to_owned(),
            "The seed's endpoint is a load balancer, or the node is no member of etcd yet: see `mastctl status`.".to_owned(),
        ),
    };
    Err(ApiError::new(ErrorCode::NotFound, message, remedy))
}

async fn pass_on(
    board: &Board,
    at: Option<IpAddr>,
    owner: &str,
    passed: &Passed,
) -> Result<u64, ApiError> {
    let silent = |why: String| {
        ApiError::new(
            ErrorCode::NotReady,
            format!(
                "{owner}, which owns {}, does not answer: {why}",
                passed.address
            ),
            "See `mastctl status`: if it is down, the address moves by itself.",
        )
    };
    let (Some(peers), Some(at)) = (board.peers(), at) else {
        return Err(silent("its address is not known".to_owned()));
    };
    let question = serde_json::to_vec(passed).map_err(|_| unreadable(owner))?;
    let asked = peers.ask(SocketAddr::new(at, PORT), Route::Move, question);
    let answer = asked.await.map_err(|error| silent(with_sources(&error)))?;
    let moved: Moved = serde_json::from_slice(&answer).map_err(|_| unreadable(owner))?;
    moved
}

/// What another master passes on to this one.
pub(super) async fn carry_out(board: &Board, passed: &[u8]) -> Moved {
    let passed: Passed =
        serde_json::from_slice(passed).map_err(|_| unreadable(&board.status().node.name))?;
    release(board, &passed).await
}

/// Lets go of an address of this node's, and waits until the other master has it.
async fn release(board: &Board, passed: &Passed) -> Moved {
    let Passed { address, to } = passed;
    let gone = || {
        conflict(
            format!("{address} moved meanwhile"),
            "See `mastctl status` for who owns it now; then try again.",
        )
    };
    let vip = board.vip().ok_or_else(gone)?;
    let mut reports = vip.watch();
    let text = address.to_string();
    let owner = |told: &[VirtualAddress]| {
        let one = told.iter().find(|one| one.address == text);
        one.and_then(|one| one.owner.clone())
    };
    if owner(&reports.borrow_and_update()).as_ref() != Some(&board.status().node.name) {
        return Err(gone());
    }
    let mut let_go = None;
    vip.release(*address, to);
    let moved = reports.wait_for(|told| {
        let now = owner(told);
        if now.as_ref() != Some(&board.status().node.name) {
            let_go.get_or_insert_with(Instant::now);
        }
        now.as_ref() == Some(to)
    });
    let patience = board.scale() * TO_TAKE_OVER;
    let moved = tokio::time::timeout(patience, moved).await.is_ok();
    match let_go {
        Some(let_go) if moved => {
            Ok(u64::try_from(let_go.elapsed().as_millis()).unwrap_or(u64::MAX))
        }
        _ => Err(ApiError::new(
            ErrorCode::Internal,
            format!("{address} was let go of, and {to} does not have it after {patience:?}"),
            "See `mastctl status` for who owns it now.",
        )),
    }
}

fn conflict(message: String, remedy: &str) -> ApiError {
    ApiError::new(ErrorCode::Conflict, message, remedy)
}

fn unreadable(owner: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("what {owner} says of the move cannot be read"),
        "Use masters of one release, or of two that follow each other.",
    )
}
