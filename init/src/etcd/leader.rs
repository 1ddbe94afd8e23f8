//! Handing leadership over at an operator's word.

use std::time::Duration;

use etcd_client::Error;
use masthead_api::cluster::{Availability, ClusterStatus};
use masthead_api::etcd::{Etcd, LeaderAnswer, LeaderRequest};
use masthead_api::{ApiError, ErrorCode, FORMAT};

use super::{Members, in_time};

/// How long the leader may take to hand over, on a real machine: it first lets the other one catch up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A transfer that nothing speaks against.
#[derive(Debug, PartialEq, Eq)]
struct Transfer {
    from: String,
    /// The member's id.
    to: u64,
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
        let patience = self.scale * PATIENCE;
        let moved = async {
            let mut leader = self.client(&transfer.from, patience).await?;
            leader.move_leader(transfer.to).await.map(drop)
        };
        in_time(patience, moved).await
    }
}

/// What there is to do for that master's member to lead: nothing, a transfer, or a refusal.
fn plan(cluster: &ClusterStatus, to: &str) -> Result<Option<Transfer>, ApiError> {
    let members: Vec<(&str, &Etcd)> = cluster.members().collect();
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
    use masthead_api::cluster::NodeAnswer;
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
