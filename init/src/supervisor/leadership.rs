//! Where etcd's leader lives: not with the owner of a virtual address, if another master can lead.
//!
//! A master that is both takes an election and a move with it when it dies, one after the other; docs/decisions/etcd-leads-elsewhere.md has the
//! figures of both ways.

use std::time::Duration;

use masthead_api::FORMAT;
use masthead_api::cluster::{Availability, ClusterStatus};
use masthead_api::etcd::{EtcdRole, LeaderRequest};
use masthead_api::status::Status;

use super::board::Shared;

/// Between two looks, on a real machine.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// So many looks in a row have to show it: an operator's hand-over, or a master on its way down, is not interfered with.
const LOOKS: u32 = 2;

/// Has etcd's leader leave this master whenever that owns an address, for ever.
pub(super) async fn keep_apart(board: Shared) {
    let pause = board.scale() * LOOK_EVERY;
    let mut seen = 0;
    loop {
        tokio::time::sleep(pause).await;
        if !leads_and_owns(&board.status()) {
            seen = 0;
            continue;
        }
        seen += 1;
        if seen < LOOKS {
            continue;
        }
        seen = 0;
        let cluster = board.cluster_now().await;
        let Some((members, to)) = board.members().zip(another(&cluster)) else {
            continue;
        };
        let request = LeaderRequest {
            format: FORMAT,
            to,
            plan: false,
        };
        match members.move_leader(&cluster, request).await {
            Ok(moved) => {
                tracing::info!(
                    to = moved.to,
                    "etcd's leader leaves the owner of the virtual address"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "etcd's leader stays with the owner of the virtual address");
            }
        }
    }
}

fn leads_and_owns(status: &Status) -> bool {
    let leads = status
        .etcd
        .as_ref()
        .is_some_and(|etcd| etcd.role == EtcdRole::Leader);
    leads && status.owns_an_address()
}

/// A master that leads and owns nothing, and whose member follows the leader.
fn another(cluster: &ClusterStatus) -> Option<String> {
    let healthy = Availability::of(cluster.members())?.healthy;
    let mut free = cluster.statuses().filter(|(name, status)| {
        healthy.iter().any(|healthy| healthy == name) && !status.owns_an_address()
    });
    free.next().map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use masthead_api::cluster::NodeAnswer;
    use serde_json::json;

    use super::*;

    fn status(name: &str, role: &str, owns: bool) -> Status {
        let state = if owns { "owner" } else { "standby" };
        let member = |name: &str| json!({ "id": name, "name": name });
        let status = json!({
            "node": {
                "name": name, "kind": "machine", "version": "0.1.0", "boot_time": "2026-01-01T00:00:00Z", "uptime": 1,
                "boot_id": "b", "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
            },
            "etcd": {
                "member_id": name, "role": role, "leader": "m1", "raft_term": 3, "raft_index": 9, "raft_applied_index": 9,
                "db_size": 1, "db_in_use": 1, "members": [member("m1"), member("m2"), member("m3")],
            },
            "virtual_addresses": [{ "address": "10.20.0.10", "state": state }],
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn who_leads_and_owns_hands_over_to_a_healthy_one_that_does_not_own() {
        assert!(leads_and_owns(&status("m1", "leader", true)));
        assert!(!leads_and_owns(&status("m1", "leader", false)));
        assert!(!leads_and_owns(&status("m1", "voter", true)));
        let cluster = |statuses: &[Status]| ClusterStatus {
            format: FORMAT,
            nodes: statuses
                .iter()
                .map(|status| {
                    let answer = NodeAnswer::Status(Box::new(status.clone()));
                    (status.node.name.clone(), answer)
                })
                .collect(),
        };
        let owner = status("m1", "leader", true);
        let alone = cluster(std::slice::from_ref(&owner));
        assert_eq!(another(&alone), None, "nobody else answers");
        let both = cluster(&[owner, status("m3", "voter", false)]);
        assert_eq!(another(&both).as_deref(), Some("m3"));
    }
}
