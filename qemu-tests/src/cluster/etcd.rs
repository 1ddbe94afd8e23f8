//! What etcd says of itself, asked with the apiserver's certificate by etcdctl.
//!
//! Only in namespace nodes: there the lab, which is root outside, can read what the services read.

use std::{fs, path::PathBuf, process::Command};

use masthead_pki::{AuthorityKind, Purpose};
use serde::{Deserialize, de::DeserializeOwned};

use super::Cluster;
use crate::{
    error::{Attempt, Error, Result},
    patience::Look,
    plan::ETCD_PORT,
    provider::Node,
    tools::{program, run},
};

/// What a member says of itself and of its leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdStatus {
    /// etcd's own id of the cluster.
    pub cluster: u64,
    /// etcd's own id of this member.
    pub member: u64,
    /// That of the leader; `None` without one.
    pub leader: Option<u64>,
    /// Of raft: each election begins a new one.
    pub term: u64,
    /// How far its log is.
    pub raft_index: u64,
    /// It has no vote yet.
    pub learner: bool,
}

/// A member as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EtcdMember {
    /// etcd's own id of it.
    #[serde(rename = "ID")]
    pub id: u64,
    /// The machine's id; empty before it has started.
    #[serde(default)]
    pub name: String,
    /// It has no vote yet.
    #[serde(default, rename = "isLearner")]
    pub learner: bool,
}

impl Cluster {
    /// Asks the member on a node for its status.
    pub fn etcd_status(&self, node: &str) -> Result<EtcdStatus> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "Status")]
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            header: Header,
            #[serde(default)]
            leader: u64,
            #[serde(rename = "raftTerm")]
            raft_term: u64,
            #[serde(rename = "raftIndex")]
            raft_index: u64,
            #[serde(default, rename = "isLearner")]
            is_learner: bool,
        }
        #[derive(Deserialize)]
        struct Header {
            cluster_id: u64,
            member_id: u64,
        }
        let answers: Vec<Answer> = self.ask_etcd(node, &["endpoint", "status"])?;
        let [Answer { status }] = <[Answer; 1]>::try_from(answers)
            .map_err(|answers| Error::Refused(format!("etcd answered {} times", answers.len())))?;
        Ok(EtcdStatus {
            cluster: status.header.cluster_id,
            member: status.header.member_id,
            // etcd's word for none.
            leader: Some(status.leader).filter(|leader| *leader != 0),
            term: status.raft_term,
            raft_index: status.raft_index,
            learner: status.is_learner,
        })
    }

    /// Asks the member on a node for all members; needs a quorum.
    pub fn etcd_members(&self, node: &str) -> Result<Vec<EtcdMember>> {
        #[derive(Deserialize)]
        struct Answer {
            members: Vec<EtcdMember>,
        }
        let answer: Answer = self.ask_etcd(node, &["member", "list"])?;
        Ok(answer.members)
    }

    /// The node whose member leads, by the word of those of `nodes` that answer.
    pub fn etcd_leader(&self, nodes: &[&str]) -> Result<String> {
        let answers: Vec<(&str, EtcdStatus)> = nodes
            .iter()
            .filter_map(|node| Some((*node, self.etcd_status(node).ok()?)))
            .collect();
        let leads = answers
            .iter()
            .find(|(_, status)| status.leader == Some(status.member));
        leads
            .map(|(node, _)| (*node).to_owned())
            .ok_or_else(|| Error::Refused(format!("no leader among {}", nodes.join(", "))))
    }

    /// One look at whether each of these nodes knows a leader, the same one, and so many voters.
    pub fn look_at_voters(&self, nodes: &[&str], voters: usize) -> Look<()> {
        let see = |node: &&str| -> Result<(Option<u64>, usize)> {
            let status = self.etcd_status(node)?;
            let members = self.etcd_members(node)?;
            let voting = members.iter().filter(|member| !member.learner);
            Ok((status.leader, voting.count()))
        };
        let seen: Result<Vec<(Option<u64>, usize)>> = nodes.iter().map(see).collect();
        match seen {
            Ok(seen) => {
                let leader = seen.first().and_then(|(leader, _)| *leader);
                let agreed = leader.is_some() && seen.iter().all(|one| *one == (leader, voters));
                Look::at(agreed, || format!("leaders and voters {seen:?}"))
            }
            Err(error) => Look::NotYet(crate::error::chain(&error)),
        }
    }

    fn ask_etcd<T: DeserializeOwned>(&self, node: &str, words: &[&str]) -> Result<T> {
        let node = self.node(node)?;
        let through = node.forward_inside(ETCD_PORT)?;
        let mut etcdctl = self.etcdctl(node)?;
        etcdctl
            .arg(format!("--endpoints=https://{}", through.local))
            .args(["--write-out=json", "--command-timeout=2s"])
            .args(words);
        let answer = run(&mut etcdctl)?;
        serde_json::from_str(&answer).map_err(|error| {
            Error::Refused(format!("etcdctl printed no answer: {error}: {answer}"))
        })
    }

    /// etcdctl with the certificate of a node's apiserver, as the kernel lets root see it.
    fn etcdctl(&self, node: &dyn Node) -> Result<Command> {
        let init = node.init_process()?;
        let served = PathBuf::from(format!(
            "/proc/{init}/root/run/masthead/config/kube-apiserver"
        ));
        let mut command = program(&self.plan().image.join("components/etcdctl"));
        let leaf = Purpose::EtcdClient.name();
        for (flag, name) in [
            ("cacert", format!("{}-ca.crt", AuthorityKind::Etcd.name())),
            ("cert", format!("{leaf}.crt")),
            ("key", format!("{leaf}.key")),
        ] {
            let file = served.join(name);
            fs::metadata(&file).attempt(|| format!("read {}", file.display()))?;
            command.arg(format!("--{flag}={}", file.display()));
        }
        Ok(command)
    }
}
