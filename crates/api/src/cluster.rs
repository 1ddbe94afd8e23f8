//! The whole cluster, as one of its masters sees it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::etcd::{Etcd, EtcdMember};
use crate::{ApiError, Status};

/// What `GET /v1/cluster` answers: every master that the seed lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The masters, by name.
    pub nodes: BTreeMap<String, NodeAnswer>,
}

impl ClusterStatus {
    /// The masters that have answered, by name.
    pub fn statuses(&self) -> impl Iterator<Item = (&str, &Status)> + Clone {
        self.nodes.iter().filter_map(|(name, answer)| match answer {
            NodeAnswer::Status(status) => Some((&**name, &**status)),
            NodeAnswer::Error(_) => None,
        })
    }

    /// Those whose member of etcd has answered, too.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Etcd)> + Clone {
        self.statuses()
            .filter_map(|(name, status)| Some((name, status.etcd.as_ref()?)))
    }
}

/// What a master said when it was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeAnswer {
    /// Its status.
    Status(Box<Status>),
    /// Why it has said nothing.
    Error(ApiError),
}

/// How much more a cluster's etcd survives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// The members with a vote, by the names of their masters.
    pub voters: Vec<String>,
    /// Those of them that serve and follow the leader.
    pub healthy: Vec<String>,
    /// The master whose member leads, if one is agreed upon.
    pub leader: Option<String>,
    /// How many more voters may fail before writes stop; negative when too few are healthy already.
    pub spare: i64,
}

impl Availability {
    /// From what the members say, by the names of their masters. None when nobody knows of any member.
    pub fn of<'a>(answers: impl IntoIterator<Item = (&'a str, &'a Etcd)>) -> Option<Self> {
        let answers: BTreeMap<&str, &Etcd> = answers.into_iter().collect();
        // The newest term is right about who leads, and about who belongs to the cluster.
        let newest = answers
            .values()
            .max_by_key(|etcd| (etcd.raft_term, etcd.leader.is_some(), etcd.raft_index))?;
        let members = &newest.members;
        let mut voters: Vec<&EtcdMember> =
            members.iter().filter(|member| !member.learner).collect();
        voters.sort_by(|one, other| one.name.cmp(&other.name));
        let leader = voters
            .iter()
            .find(|member| newest.leader.as_ref() == Some(&member.id));
        let is_healthy = |member: &EtcdMember| {
            answers.get(&*member.name).is_some_and(|etcd| {
                etcd.member_id == member.id && etcd.leader.is_some() && etcd.leader == newest.leader
            })
        };
        let name = |member: &&EtcdMember| member.name.clone();
        let healthy: Vec<String> = voters
            .iter()
            .filter(|member| is_healthy(member))
            .map(name)
            .collect();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        Some(Self {
            spare: count(healthy.len()) - count(voters.len() / 2 + 1),
            leader: leader.map(name),
            voters: voters.iter().map(name).collect(),
            healthy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::EtcdRole;

    fn etcd(own: u64, leader: Option<u64>, term: u64) -> Etcd {
        let id = |number: u64| format!("{number:016x}");
        let member = |number: u64| EtcdMember {
            id: id(number),
            name: format!("m{number}"),
            learner: number > 3,
        };
        Etcd {
            member_id: id(own),
            role: EtcdRole::Voter,
            leader: leader.map(id),
            raft_term: term,
            raft_index: 7,
            raft_applied_index: 7,
            db_size: 1,
            db_in_use: 1,
            db_quota: 0,
            errors: Vec::new(),
            members: (1..=4).rev().map(member).collect(),
            disruption: None,
        }
    }

    #[test]
    fn what_more_may_fail_is_counted_by_voters_that_follow_the_leader() {
        let all = [
            etcd(1, Some(2), 3),
            etcd(2, Some(2), 3),
            etcd(3, Some(2), 3),
            etcd(4, Some(2), 3),
        ];
        let named = |etcds: &[Etcd]| {
            let pairs: Vec<(String, Etcd)> = etcds
                .iter()
                .map(|etcd| (format!("m{}", &etcd.member_id[15..]), etcd.clone()))
                .collect();
            Availability::of(pairs.iter().map(|(name, etcd)| (&**name, etcd)))
        };
        let whole = named(&all).unwrap();
        assert_eq!(whole.voters, ["m1", "m2", "m3"]);
        assert_eq!(whole.healthy, ["m1", "m2", "m3"]);
        assert_eq!((whole.leader.as_deref(), whole.spare), (Some("m2"), 1));

        // The learner counts for nothing.
        let two = named(&all[1..]).unwrap();
        assert_eq!((two.healthy.len(), two.spare, two.voters.len()), (2, 0, 3));
        assert_eq!(named(&all[2..]).unwrap().spare, -1);

        // One that still believes in an earlier leader is not counted, and is not believed.
        let behind = [
            etcd(1, Some(1), 2),
            etcd(2, Some(2), 3),
            etcd(3, Some(2), 3),
        ];
        let behind = named(&behind).unwrap();
        assert_eq!(behind.healthy, ["m2", "m3"]);
        assert_eq!(behind.leader.as_deref(), Some("m2"));

        // One that has lost the leader does not speak for those that have not.
        let cut_off = [etcd(1, Some(1), 3), etcd(2, Some(1), 3), etcd(3, None, 3)];
        let cut_off = named(&cut_off).unwrap();
        assert_eq!((cut_off.leader.as_deref(), cut_off.spare), (Some("m1"), 0));

        // Without a leader nobody is healthy.
        let lost = named(&[etcd(1, None, 4), etcd(2, None, 4)]).unwrap();
        assert_eq!((lost.leader, lost.spare), (None, -2));
        assert_eq!(named(&[]), None);
    }
}
