//! etcd's members over all masters, and what the cluster survives.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use masthead_api::Status;
use masthead_api::cluster::Availability;
use masthead_api::etcd::Etcd;

use crate::table::Table;
use crate::text::{cell, size};

/// What the masters' statuses say together, by name. None while no member of etcd answers.
pub(super) struct Cluster<'a> {
    name: &'a str,
    pub(super) availability: Availability,
    members: Vec<(&'a str, &'a Etcd)>,
}

impl<'a> Cluster<'a> {
    pub(super) fn of(statuses: &'a BTreeMap<String, Status>) -> Option<Self> {
        let members: Vec<(&str, &Etcd)> = statuses
            .iter()
            .filter_map(|(name, status)| Some((&**name, status.etcd.as_ref()?)))
            .collect();
        let availability = Availability::of(members.iter().copied())?;
        let mut clusters = statuses
            .values()
            .filter_map(|status| status.cluster.as_ref());
        Some(Self {
            name: clusters.next().map_or("", |cluster| &cluster.name),
            availability,
            members,
        })
    }

    /// One sentence, and a table of the members.
    pub(super) fn render(&self) -> String {
        let Availability {
            voters,
            healthy,
            leader,
            ..
        } = &self.availability;
        let leader = leader.as_deref().map_or_else(
            || "no leader".to_owned(),
            |leader| format!("{} leads", cell(leader)),
        );
        let mut text = format!(
            "{}: {} of {} voters healthy, {leader}; {}\n\n",
            cell(self.name),
            healthy.len(),
            voters.len(),
            outlook(&self.availability)
        );
        let _ = write!(text, "{}", self.table());
        let newest = self
            .members
            .iter()
            .max_by_key(|(_, etcd)| etcd.raft_applied_index);
        if let Some(held) = newest.and_then(|(_, etcd)| etcd.disruption.as_ref()) {
            let (holder, purpose) = (cell(&held.holder), cell(held.purpose.as_str()));
            let _ = writeln!(
                text,
                "{holder} holds the disruption lock since {}, for: {purpose}",
                held.since
            );
        }
        for (name, etcd) in &self.members {
            for error in &etcd.errors {
                let _ = writeln!(text, "{}: {}", cell(name), cell(error));
            }
        }
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "MEMBER", "ID", "ROLE", "TERM", "INDEX", "BEHIND", "DB", "IN USE",
        ]);
        let newest = self.members.iter().map(|(_, etcd)| etcd.raft_index).max();
        for (name, etcd) in &self.members {
            let behind = newest.unwrap_or_default() - etcd.raft_index;
            table.row(vec![
                cell(name),
                cell(&etcd.member_id),
                cell(etcd.role.as_str()),
                etcd.raft_term.to_string(),
                etcd.raft_index.to_string(),
                behind.to_string(),
                size(etcd.db_size),
                size(etcd.db_in_use),
            ]);
        }
        let silent = self.availability.voters.iter();
        for name in silent.filter(|name| !self.members.iter().any(|(known, _)| known == name)) {
            table.row(vec![cell(name), "-".to_owned(), "silent".to_owned()]);
        }
        table
    }
}

fn no_quorum(missing: &str) -> String {
    format!("NO QUORUM: nothing can be written before {missing} healthy")
}

fn outlook(availability: &Availability) -> String {
    match (availability.spare, availability.voters.len()) {
        (-1, _) => no_quorum("one more voter is"),
        (spare, _) if spare < 0 => no_quorum(&format!("{} more voters are", -spare)),
        (0, 1) => "a single voter survives no failure".to_owned(),
        (0, _) => "survives no more failure".to_owned(),
        (1, _) => "survives 1 more failure".to_owned(),
        (spare, _) => format!("survives {spare} more failures"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(name: &str, etcd: Option<serde_json::Value>) -> (String, Status) {
        let status = json!({
            "node": {
                "name": name, "kind": "machine", "version": "0.1.0", "boot_time": "2026-01-01T00:00:00Z", "uptime": 1,
                "boot_id": "b", "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
            },
            "cluster": { "name": "ams-prod" },
            "etcd": etcd,
        });
        (name.to_owned(), serde_json::from_value(status).unwrap())
    }

    fn etcd(id: &str, role: &str, leader: Option<&str>, index: u64) -> serde_json::Value {
        let member = |name: &str| json!({ "id": name, "name": name });
        json!({
            "member_id": id, "role": role, "leader": leader, "raft_term": 3, "raft_index": index,
            "raft_applied_index": index, "db_size": 20u64 << 20, "db_in_use": 3u64 << 20,
            "members": [member("m1"), member("m2"), member("m3")],
        })
    }

    fn rendered(statuses: [(String, Status); 3]) -> String {
        let statuses = BTreeMap::from(statuses);
        Cluster::of(&statuses).unwrap().render()
    }

    #[test]
    fn members_are_shown_with_what_the_cluster_survives() {
        let text = rendered([
            status("m1", Some(etcd("m1", "voter", Some("m2"), 100))),
            status("m2", Some(etcd("m2", "leader", Some("m2"), 120))),
            status("m3", None),
        ]);
        assert_eq!(
            text,
            "\
ams-prod: 2 of 3 voters healthy, m2 leads; survives no more failure

MEMBER  ID  ROLE    TERM  INDEX  BEHIND  DB     IN USE
m1      m1  voter   3     100    20      20MiB  3MiB
m2      m2  leader  3     120    0       20MiB  3MiB
m3      -   silent
"
        );
    }

    #[test]
    fn a_lost_quorum_is_told_with_what_is_missing() {
        let mut alone = etcd("m1", "voter", None, 100);
        alone["errors"] = json!(["etcdserver: no leader"]);
        alone["disruption"] = json!({
            "id": "d", "holder": "m2", "machine_id": "b", "purpose": "reboot", "by": "mk1-x",
            "since": "2026-01-01T00:00:00Z",
        });
        let text = rendered([
            status("m1", Some(alone)),
            status("m2", None),
            status("m3", None),
        ]);
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "ams-prod: 0 of 3 voters healthy, no leader; NO QUORUM: nothing can be written before 2 more voters are healthy"
        );
        let end = "m2 holds the disruption lock since 2026-01-01T00:00:00Z, for: reboot\nm1: etcdserver: no leader\n";
        assert!(text.ends_with(end), "{text}");
        let one = Availability {
            voters: vec!["m1".to_owned(), "m2".to_owned()],
            healthy: vec!["m1".to_owned()],
            leader: None,
            spare: -1,
        };
        assert!(outlook(&one).ends_with("before one more voter is healthy"));
    }
}
