//! Whether a master is back in service.

use crate::Status;
use crate::etcd::EtcdRole;
use crate::status::ServiceState;

impl Status {
    /// Whether the node runs all that a master should, waits for nothing, and its member of etcd has a vote and a leader.
    pub fn serves(&self) -> bool {
        let mut services = self.services.iter();
        let is_voter = self
            .etcd
            .as_ref()
            .is_some_and(|etcd| etcd.role != EtcdRole::Learner && etcd.leader.is_some());
        is_voter
            && self.waiting.is_empty()
            && !self.services.is_empty()
            && services.all(|service| service.state == ServiceState::Ready)
    }

    /// Whether the node holds the disruption lock, as far as its own member of etcd knows.
    pub fn holds_disruption_lock(&self) -> bool {
        let etcd = self.etcd.as_ref();
        let held = etcd.and_then(|etcd| etcd.disruption.as_ref());
        held.is_some_and(|held| self.node.machine_id.as_ref() == Some(&held.machine_id))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_master_serves_when_it_waits_for_nothing_and_follows_a_leader() {
        let service = |state: &str| json!({ "name": "etcd", "state": state, "since": "2026-01-01T00:00:00Z", "restarts": 0 });
        let reason =
            json!({ "code": "shutting-down", "cause": "", "since": "2026-01-01T00:00:00Z" });
        let etcd = |role: &str, leader: Option<&str>, holder: &str| {
            json!({
                "member_id": "1", "role": role, "leader": leader, "raft_term": 3, "raft_index": 9,
                "raft_applied_index": 9, "db_size": 1, "db_in_use": 1,
                "disruption": {
                    "id": "d", "holder": "m1", "machine_id": holder, "purpose": "reboot", "by": "mk1-x",
                    "since": "2026-01-01T00:00:00Z",
                },
            })
        };
        let status = |services: &[_], waiting: &[_], etcd: &serde_json::Value| -> Status {
            let status = json!({
                "node": {
                    "machine_id": "a", "kind": "machine", "version": "0.1.0", "boot_time": "2026-01-01T00:00:00Z",
                    "uptime": 1, "boot_id": "b", "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
                },
                "services": services, "waiting": waiting, "etcd": etcd,
            });
            serde_json::from_value(status).unwrap()
        };
        let ready = [service("ready")];
        let well = etcd("voter", Some("2"), "a");
        assert!(status(&ready, &[], &well).serves());
        assert!(status(&ready, &[], &well).holds_disruption_lock());
        assert!(!status(&ready, &[], &etcd("voter", Some("2"), "b")).holds_disruption_lock());
        let not = [
            status(&ready, &[reason], &well),
            status(&[], &[], &well),
            status(&[service("unready")], &[], &well),
            status(&ready, &[], &etcd("voter", None, "a")),
            status(&ready, &[], &etcd("learner", Some("2"), "a")),
            status(&ready, &[], &json!(null)),
        ];
        for status in not {
            assert!(!status.serves(), "{status:?}");
        }
    }
}
