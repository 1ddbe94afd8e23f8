//! Handing leadership over at an operator's word.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error};
use masthead_api::cluster::{Availability, ClusterStatus, NodeAnswer};
use masthead_api::etcd::{Etcd, LeaderAnswer, LeaderRequest};
use masthead_api::{ApiError, ErrorCode, FORMAT};
use masthead_machine::Scale;
use tokio::task::JoinSet;

use super::{Credentials, observer};

/// How long the leader may take to hand over, on a real machine: it first lets the other one catch up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a member may take to say how it is, on a real machine: one that is dead must not cost the word of the others.
const TO_ANSWER: Duration = Duration::from_secs(2);

/// A transfer that nothing speaks against.
#[derive(Debug, PartialEq, Eq)]
struct Transfer {
    from: String,
    /// The member's id.
    to: u64,
}

/// The way to every member of etcd.
#[derive(Clone)]
pub struct Members {
    /// Where each master's member serves clients, by the master's name.
    pub addresses: BTreeMap<String, IpAddr>,
    /// The masters' names, by machine id, which is what etcd knows members by.
    pub names: BTreeMap<String, String>,
    /// The port.
    pub port: u16,
    /// How to connect.
    pub credentials: Credentials,
    /// Multiplies the times.
    pub scale: Scale,
}

impl Members {
    /// Has the leader hand over to the member of the master that `request` names. `cluster` is what all masters say now.
    pub async fn move_leader(
        &self,
        cluster: &ClusterStatus,
        request: LeaderRequest,
    ) -> Result<LeaderAnswer, ApiError> {
        let transfer = plan(cluster, &request.to)?;
        let from = transfer
            .as_ref()
            .map_or(&request.to, |transfer| &transfer.from)
            .clone();
        if let Some(transfer) = transfer.filter(|_| !request.plan) {
            self.carry_out(&transfer).await.map_err(|error| {
                ApiError::new(
                    ErrorCode::Internal,
                    format!("{from} does not hand over to {}: {error}", request.to),
                    "See `mastctl status` for who leads now; then try again.",
                )
            })?;
        }
        Ok(LeaderAnswer {
            format: FORMAT,
            from,
            to: request.to,
        })
    }

    /// Only the leader itself takes the word.
    async fn carry_out(&self, transfer: &Transfer) -> Result<(), Error> {
        let mut leader = self.client(&transfer.from, self.scale * PATIENCE).await?;
        leader.move_leader(transfer.to).await.map(drop)
    }

    /// A client of that master's member.
    pub async fn client(&self, master: &str, patience: Duration) -> Result<Client, Error> {
        let address = self
            .addresses
            .get(master)
            .ok_or_else(|| Error::InvalidArgs(format!("the seed has no address for {master}")))?;
        let address = SocketAddr::new(*address, self.port);
        self.credentials.connect(address, patience).await
    }

    /// What each master's member says of etcd now, when all are asked at once; those that say nothing in time are left out.
    pub async fn ask_all(self: Arc<Self>) -> BTreeMap<String, Etcd> {
        let mut asking = JoinSet::new();
        for name in self.addresses.keys().cloned() {
            let members = Arc::clone(&self);
            asking.spawn(async move {
                let patience = members.scale * TO_ANSWER;
                let asked = async {
                    let mut client = members.client(&name, patience).await?;
                    observer::ask(&mut client, &members.names).await
                };
                let etcd = tokio::time::timeout(patience, asked).await.ok()?.ok()?;
                Some((name, etcd))
            });
        }
        asking.join_all().await.into_iter().flatten().collect()
    }
}

/// What there is to do for that master's member to lead: nothing, a transfer, or a refusal.
fn plan(cluster: &ClusterStatus, to: &str) -> Result<Option<Transfer>, ApiError> {
    let members: Vec<(&str, &Etcd)> = cluster
        .nodes
        .iter()
        .filter_map(|(name, answer)| match answer {
            NodeAnswer::Status(status) => Some((&**name, status.etcd.as_ref()?)),
            NodeAnswer::Error(_) => None,
        })
        .collect();
    let refused = |why: String| {
        let next = "See `mastctl status`; nothing was changed.";
        ApiError::new(ErrorCode::Conflict, why, next)
    };
    let Some(availability) = Availability::of(members.iter().copied()) else {
        return Err(refused("no member of etcd answers".to_owned()));
    };
    let Availability {
        voters,
        healthy,
        leader,
        ..
    } = availability;
    if !voters.iter().any(|voter| voter == to) {
        let voters = voters.join(", ");
        return Err(refused(format!(
            "{to} has no vote; those who have: {voters}"
        )));
    }
    let Some(from) = leader else {
        return Err(refused("no member leads: there is no quorum".to_owned()));
    };
    if from == to {
        return Ok(None);
    }
    let id = members.iter().find(|(name, _)| *name == to);
    let id = id.and_then(|(_, etcd)| u64::from_str_radix(&etcd.member_id, 16).ok());
    match id.filter(|_| healthy.iter().any(|name| name == to)) {
        Some(id) => Ok(Some(Transfer { from, to: id })),
        None => Err(refused(format!(
            "{to} does not answer, or does not follow {from}, which leads"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(nodes: &[(&str, &str, Option<&str>)]) -> ClusterStatus {
        let members: Vec<_> = ["m1", "m2", "m3"]
            .iter()
            .map(|name| json!({ "id": format!("000000000000000{}", &name[1..]), "name": name }))
            .collect();
        let nodes = nodes.iter().map(|(name, id, leader)| {
            let status = json!({
                "node": {
                    "name": name, "kind": "machine", "version": "0.1.0", "boot_time": "2026-01-01T00:00:00Z",
                    "uptime": 1, "boot_id": "b", "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
                },
                "etcd": {
                    "member_id": id, "role": "voter", "leader": leader, "raft_term": 3, "raft_index": 9,
                    "raft_applied_index": 9, "db_size": 1, "db_in_use": 1, "members": members,
                },
            });
            let status = serde_json::from_value(status).unwrap();
            ((*name).to_owned(), NodeAnswer::Status(status))
        });
        ClusterStatus {
            format: FORMAT,
            nodes: nodes.collect(),
        }
    }

    const FIRST: &str = "0000000000000001";
    const SECOND: &str = "0000000000000002";

    #[test]
    fn only_a_voter_that_follows_the_leader_can_take_over() {
        let both = cluster(&[("m1", FIRST, Some(FIRST)), ("m2", SECOND, Some(FIRST))]);
        let transfer = Transfer {
            from: "m1".to_owned(),
            to: 2,
        };
        assert_eq!(plan(&both, "m2").unwrap(), Some(transfer));
        assert_eq!(plan(&both, "m1").unwrap(), None);
        let why = |cluster: &ClusterStatus, to| plan(cluster, to).unwrap_err().message;
        assert!(why(&both, "m3").starts_with("m3 does not answer"));
        assert_eq!(
            why(&both, "m9"),
            "m9 has no vote; those who have: m1, m2, m3"
        );
        let behind = cluster(&[("m1", FIRST, Some(FIRST)), ("m2", SECOND, None)]);
        assert!(why(&behind, "m2").contains("does not follow m1"));
        let lost = cluster(&[("m1", FIRST, None), ("m2", SECOND, None)]);
        assert!(why(&lost, "m2").contains("no quorum"));
        assert!(why(&cluster(&[]), "m2").contains("no member of etcd"));
    }
}
