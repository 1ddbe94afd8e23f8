//! What people are told.

use std::net::IpAddr;

use masthead_api::status::{Formation, FormationState, Peer, Plan};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_formation::{Phase, Standing, Status};
use tokio::sync::watch;

use crate::identity::Problem;
use crate::peer;

/// What the node is to its cluster, and what it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// 32 hexadecimal digits; absent before STATE was read.
    pub machine_id: Option<String>,
    /// What it is, and who the others are; absent before STATE was read.
    pub formation: Option<Formation>,
    /// What keeps it from being a member that serves.
    pub waiting: Vec<Reason>,
    /// What keeps it from nothing.
    pub warnings: Vec<Reason>,
}

impl Report {
    /// Nothing is known but that.
    pub(super) fn fail(&mut self, problem: &Problem) {
        self.waiting = vec![problem.reason()];
    }

    /// From what the machine and the transport say.
    pub(super) fn of(status: &Status, transport: &peer::Report) -> Self {
        let is_member = status.phase == Phase::Member;
        let mut report = Self {
            formation: Some(formation(status, transport)),
            ..Self::default()
        };
        for reason in &status.reasons {
            let told = Reason::new(reason.code(), Timestamp::now()).with_cause(reason.to_string());
            let list = if reason.is_warning() {
                &mut report.warnings
            } else {
                &mut report.waiting
            };
            list.push(told);
        }
        for reason in transport
            .peers
            .iter()
            .filter_map(|peer| peer.reason.clone())
        {
            match reason.code {
                _ if is_member => report.warnings.push(reason),
                // Its name is among those that are missing, or that have begun.
                ReasonCode::PeerUnreachable | ReasonCode::PeerIsMember => {}
                _ => report.waiting.push(reason),
            }
        }
        let callers = transport.callers.iter();
        report
            .warnings
            .extend(callers.map(|caller| caller.reason.clone()));
        report
    }
}

/// Replaces the report; reasons that stay keep their beginning, and new ones are logged.
pub(super) fn publish(publisher: &watch::Sender<Report>, change: impl FnOnce(&mut Report)) {
    publisher.send_if_modified(|published| {
        let mut report = published.clone();
        change(&mut report);
        let continued = [
            (&mut report.waiting, &published.waiting),
            (&mut report.warnings, &published.warnings),
        ];
        for (reasons, before) in continued {
            for reason in reasons {
                match before.iter().find(|known| known.tells_the_same(reason)) {
                    Some(known) => reason.since = known.since,
                    None if reason.code == ReasonCode::FormationUnderWay => {
                        tracing::info!("{}", reason.cause);
                    }
                    None => tracing::warn!(code = %reason.code, "{}", reason.cause),
                }
            }
        }
        let changed = report != *published;
        *published = report;
        changed
    });
}

fn formation(status: &Status, transport: &peer::Report) -> Formation {
    let connection = |address: IpAddr| transport.peers.iter().find(|peer| peer.address == address);
    let peers = status.peers.iter().map(|peer| {
        let connection = connection(peer.master.address);
        Peer {
            name: peer.master.name.clone(),
            address: peer.master.address.to_string(),
            answers: peer.answers || connection.is_some_and(|it| it.connected.is_some()),
            state: state_of(peer.standing.as_ref(), connection),
            protocol: connection
                .and_then(|it| it.connected.as_ref())
                .map(|connected| connected.version.0),
            reason: connection.and_then(|connection| connection.reason.clone()),
        }
    });
    Formation {
        state: match status.phase {
            Phase::Fresh => FormationState::Fresh,
            Phase::Founding => FormationState::Founding,
            Phase::Member => FormationState::Member,
            Phase::Amnesiac => FormationState::Amnesiac,
            Phase::Unknown => FormationState::Unknown,
        },
        plan: status.plan.map(|plan| Plan {
            generation: plan.generation,
            cluster_id: plan.cluster_id.to_string(),
            go: plan.go,
        }),
        peers: peers.collect(),
    }
}

fn state_of(
    standing: Option<&Standing>,
    connection: Option<&peer::PeerReport>,
) -> Option<FormationState> {
    let connected = connection.and_then(|connection| connection.connected.as_ref());
    if let Some(connected) = connected
        && matches!(
            connected.standing,
            masthead_peer_protocol::Standing::Member { .. }
        )
    {
        return Some(FormationState::Member);
    }
    Some(match standing? {
        Standing::Fresh => FormationState::Fresh,
        Standing::Founding { .. } => FormationState::Founding,
        Standing::Member { .. } => FormationState::Member,
        Standing::Amnesiac { .. } => FormationState::Amnesiac,
        Standing::Unknown { .. } | Standing::Newer => FormationState::Unknown,
    })
}
