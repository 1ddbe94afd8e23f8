//! Space in etcd's databases: what the master of the leader does before they are full, and afterwards.
//!
//! A database grows with every write. Compaction forgets what is older than a revision, which makes space free within the file; the file itself
//! shrinks by defragmentation, for whose time its member serves nobody. At the quota etcd raises an alarm for all members, and takes nothing but
//! deletions until somebody has disarmed it (<https://etcd.io/docs/v3.6/op-guide/maintenance/>).

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions, Error};
use masthead_api::cluster::{Availability, ClusterStatus};
use masthead_api::etcd::Etcd;
use masthead_api::{Reason, ReasonCode, Timestamp};

use super::{Members, in_time};

/// From this part of its quota on a database is too large, in percent.
const LARGE: u64 = 80;

/// A database is worth defragmenting when so much of its quota comes free, in percent.
const WORTH: u64 = 10;

/// How long a member may take to defragment its database, on a real machine: 8 GiB have to be written.
const TO_DEFRAGMENT: Duration = Duration::from_secs(10 * 60);

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Forget what is older than a while ago.
    Compact,
    /// Have the owner of the virtual addresses hand them to that master: its member is next.
    MoveAddresses(String),
    /// Have the member of that master write its database anew.
    Defragment(String),
    /// Have that master's member lead, so that the leader's own database is not written anew while it leads.
    HandOver(String),
    /// Have etcd take writes again.
    Disarm,
    /// Nothing, until the members of these masters are well again: while a member writes its database anew it is as good as dead, and that
    /// must not be the second one.
    WaitFor(Vec<String>),
}

/// Why a person should know of it.
pub fn reason(etcd: &Etcd) -> Option<Reason> {
    let now = Timestamp::now();
    let cause = || {
        let megabytes = |bytes: u64| bytes >> 20;
        format!(
            "The database of etcd takes {} MiB, of which {} MiB are in use, and its quota is {} MiB.",
            megabytes(etcd.db_size),
            megabytes(etcd.db_in_use),
            megabytes(etcd.db_quota)
        )
    };
    let code = if has_no_space(etcd) {
        ReasonCode::EtcdNoSpace
    } else if is_large(etcd) {
        ReasonCode::EtcdSpaceLow
    } else {
        return None;
    };
    Some(Reason::new(code, now).with_cause(cause()))
}

/// Whether etcd takes no writes.
pub fn has_no_space(etcd: &Etcd) -> bool {
    etcd.errors.iter().any(|error| error.contains("NOSPACE"))
}

/// Whether there is anything to look after.
pub fn is_needed(cluster: &ClusterStatus) -> bool {
    let mut members = cluster.members();
    members.any(|(_, etcd)| is_large(etcd) || has_no_space(etcd))
}

/// What the master whose member leads does next. `compactable`: whether there is anything older than a while ago. `tried`: whose databases were written
/// anew since the last compaction.
pub fn next(
    own: &str,
    cluster: &ClusterStatus,
    compactable: bool,
    tried: &BTreeSet<String>,
) -> Option<Step> {
    let members: Vec<(&str, &Etcd)> = cluster.members().collect();
    let owners: BTreeSet<&str> = cluster
        .statuses()
        .filter(|(_, status)| status.owns_an_address())
        .map(|(name, _)| name)
        .collect();
    let availability = Availability::of(members.iter().copied())?;
    if availability.leader.as_deref() != Some(own) {
        return None;
    }
    let alarm = members.iter().any(|(_, etcd)| has_no_space(etcd));
    let large = members.iter().any(|(_, etcd)| is_large(etcd));
    if !alarm && !large {
        return None;
    }
    if compactable {
        return Some(Step::Compact);
    }
    let (voters, healthy) = (&availability.voters, &availability.healthy);
    let mut unwell = voters
        .iter()
        .filter(|name| !healthy.contains(name))
        .peekable();
    if unwell.peek().is_some() {
        return Some(Step::WaitFor(unwell.cloned().collect()));
    }
    if alarm && !large {
        return Some(Step::Disarm);
    }
    // bbolt counts what a compaction has made free as in use until something else is written, and without space nothing is: so each large
    // database is tried once.
    let mut fragmented = members.iter().filter(|(name, etcd)| {
        is_fragmented(etcd) || alarm && is_large(etcd) && !tried.contains(*name)
    });
    if let Some((name, _)) = fragmented.clone().find(|(name, _)| *name != own) {
        // What is frozen moves slowly, and the database is soon written.
        return Some(if owners.contains(name) && !alarm {
            let to = members.iter().find(|(other, _)| other != name)?;
            Step::MoveAddresses(to.0.to_owned())
        } else {
            Step::Defragment((*name).to_owned())
        });
    }
    fragmented.next()?;
    let mut others = members.iter().filter(|(name, _)| *name != own);
    let others_free = others.clone().find(|(name, _)| !owners.contains(name));
    Some(match others_free.or_else(|| others.next()) {
        Some((name, _)) => Step::HandOver((*name).to_owned()),
        None => Step::Defragment(own.to_owned()),
    })
}

fn is_large(etcd: &Etcd) -> bool {
    etcd.db_quota > 0 && etcd.db_size >= etcd.db_quota / 100 * LARGE
}

fn is_fragmented(etcd: &Etcd) -> bool {
    let free = etcd.db_size.saturating_sub(etcd.db_in_use);
    is_large(etcd) && free >= etcd.db_quota / 100 * WORTH
}

impl Members {
    /// The revision of the store now, by the word of this master's own member.
    pub async fn revision(&self) -> Result<i64, Error> {
        let asked = async {
            let status = self.own_client().await?.status().await?;
            Ok(status
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision))
        };
        in_time(self.patience(), asked).await
    }

    /// Has all members forget what is older than that revision, and waits until this master's own one has.
    pub async fn compact(&self, revision: i64) -> Result<(), Error> {
        let patience = self.scale * TO_DEFRAGMENT;
        let compacted = async {
            let mut client = self.client(&self.own, patience).await?;
            let options = CompactionOptions::new().with_physical();
            client.compact(revision, Some(options)).await.map(drop)
        };
        in_time(patience, compacted).await
    }

    /// Has that master's member write its database anew.
    pub async fn defragment(&self, master: &str) -> Result<(), Error> {
        let patience = self.scale * TO_DEFRAGMENT;
        let defragmented = async {
            let mut client = self.client(master, patience).await?;
            client.defragment().await.map(drop)
        };
        in_time(patience, defragmented).await
    }

    /// Has etcd take writes again.
    pub async fn disarm(&self) -> Result<(), Error> {
        let disarmed = async {
            let mut client = self.own_client().await?;
            let raised = client
                .alarm(AlarmAction::Get, AlarmType::Nospace, None)
                .await?;
            for alarm in raised.alarms() {
                let mut options = AlarmOptions::new();
                options.with_member(alarm.member_id());
                client
                    .alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options))
                    .await?;
            }
            Ok(())
        };
        in_time(self.patience(), disarmed).await
    }
}

#[cfg(test)]
mod tests {
    use masthead_api::cluster::NodeAnswer;
    use masthead_api::{ApiError, ErrorCode, FORMAT};
    use serde_json::json;

    use super::*;

    /// Of m1, which leads, m2 and m3: how much of 100 MiB each database takes, and how much is in use.
    struct Three {
        databases: [(u64, u64); 3],
        alarm: bool,
        owner: &'static str,
        silent: &'static str,
        tried: &'static [&'static str],
    }

    const CALM: Three = Three {
        databases: [(10, 5); 3],
        alarm: false,
        owner: "m2",
        silent: "",
        tried: &[],
    };

    impl Three {
        fn next(&self, own: &str, compactable: bool) -> Option<Step> {
            let names = ["m1", "m2", "m3"];
            let member = |name: &str| json!({ "id": name, "name": name });
            let errors: &[&str] = if self.alarm {
                &["memberID:1 alarm:NOSPACE "]
            } else {
                &[]
            };
            let nodes = names.iter().zip(self.databases).map(|(name, (size, used))| {
                let state = if *name == self.owner { "owner" } else { "standby" };
                let status = json!({
                    "node": {
                        "name": name, "kind": "machine", "version": "0.1.0", "boot_time": "2026-01-01T00:00:00Z", "uptime": 1,
                        "boot_id": "b", "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
                    },
                    "etcd": {
                        "member_id": name, "role": if *name == "m1" { "leader" } else { "voter" }, "leader": "m1", "raft_term": 3,
                        "raft_index": 9, "raft_applied_index": 9, "db_size": size << 20, "db_in_use": used << 20, "db_quota": 100 << 20,
                        "errors": errors, "members": names.map(member),
                    },
                    "virtual_addresses": [{ "address": "10.20.0.10", "state": state }],
                });
                let answer = if *name == self.silent {
                    NodeAnswer::Error(ApiError::new(ErrorCode::Internal, "silent", "Wait."))
                } else {
                    NodeAnswer::Status(serde_json::from_value(status).unwrap())
                };
                ((*name).to_owned(), answer)
            });
            let cluster = ClusterStatus {
                format: FORMAT,
                nodes: nodes.collect(),
            };
            let tried = self.tried.iter().map(|name| (*name).to_owned());
            next(own, &cluster, compactable, &tried.collect())
        }
    }

    #[test]
    fn nothing_is_done_while_there_is_space_or_by_another_master_than_the_leaders() {
        assert_eq!(CALM.next("m1", true), None);
        let full = Three {
            databases: [(90, 50); 3],
            ..CALM
        };
        assert_eq!(full.next("m2", true), None);
        assert_eq!(full.next("m1", true), Some(Step::Compact));
    }

    #[test]
    fn followers_are_defragmented_first_and_never_the_owner_of_the_address_nor_the_leader() {
        let all = Three {
            databases: [(90, 50); 3],
            ..CALM
        };
        assert_eq!(
            all.next("m1", false),
            Some(Step::MoveAddresses("m1".to_owned()))
        );
        let moved = Three { owner: "m1", ..all };
        assert_eq!(
            moved.next("m1", false),
            Some(Step::Defragment("m2".to_owned()))
        );
        let one_left = Three {
            databases: [(90, 50), (50, 50), (90, 50)],
            owner: "m1",
            ..CALM
        };
        assert_eq!(
            one_left.next("m1", false),
            Some(Step::Defragment("m3".to_owned()))
        );
        let own_left = Three {
            databases: [(90, 50), (50, 50), (50, 50)],
            ..CALM
        };
        assert_eq!(
            own_left.next("m1", false),
            Some(Step::HandOver("m3".to_owned()))
        );
        let one_silent = Three {
            databases: [(90, 50); 3],
            silent: "m3",
            ..CALM
        };
        assert_eq!(
            one_silent.next("m1", false),
            Some(Step::WaitFor(vec!["m3".to_owned()])),
            "that would be the second one"
        );
        let in_use = Three {
            databases: [(90, 85); 3],
            ..CALM
        };
        assert_eq!(in_use.next("m1", false), None, "it would stay as large");
    }

    #[test]
    fn the_alarm_is_disarmed_when_there_is_space_again() {
        let alarm = Three {
            databases: [(100, 60); 3],
            alarm: true,
            ..CALM
        };
        assert_eq!(alarm.next("m1", true), Some(Step::Compact));
        assert_eq!(
            alarm.next("m1", false),
            Some(Step::Defragment("m2".to_owned()))
        );
        // What is free may not be counted yet.
        let mut hidden = Three {
            databases: [(100, 100), (100, 100), (5, 5)],
            ..alarm
        };
        let second = Some(Step::Defragment("m2".to_owned()));
        assert_eq!(hidden.next("m1", false), second);
        hidden.tried = &["m2"];
        let over = Some(Step::HandOver("m3".to_owned()));
        assert_eq!(hidden.next("m1", false), over);
        hidden.tried = &["m1", "m2"];
        assert_eq!(hidden.next("m1", false), None);
        let small = Three {
            databases: [(60, 60); 3],
            ..alarm
        };
        assert_eq!(small.next("m1", false), Some(Step::Disarm));
    }
}
