//! etcd's members as far as formation matters: logs, and a leader by quorum.

use std::collections::{BTreeMap, BTreeSet};

use masthead_formation::{ClusterId, MachineId};

use crate::host::Host;

/// A member's write-ahead log: each entry with its term.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) cluster: ClusterId,
    pub(crate) machine: MachineId,
    pub(crate) entries: Vec<(u64, u64)>,
}

impl Log {
    pub(crate) fn empty(cluster: ClusterId, machine: MachineId) -> Self {
        Self {
            cluster,
            machine,
            entries: Vec::new(),
        }
    }

    /// How up to date a log is, as Raft compares them.
    fn rank(&self) -> (u64, usize) {
        (
            self.entries.last().map_or(0, |(term, _)| *term),
            self.entries.len(),
        )
    }
}

/// What clients were promised.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    terms: u64,
    acknowledged: BTreeMap<ClusterId, BTreeSet<u64>>,
}

impl Promises {
    /// A write through the members that run and can talk to each other. Tells who took part; nobody without a quorum. A
    /// member of `unsynced` is too slow to acknowledge.
    pub(crate) fn write(
        &mut self,
        hosts: &mut [Host],
        group: &[usize],
        unsynced: &BTreeSet<usize>,
        quorum: usize,
    ) -> Result<bool, String> {
        if group.len() < quorum {
            return Ok(false);
        }
        let rank = |host: &usize| hosts[*host].etcd.log.as_ref().map(Log::rank);
        let leader = *group
            .iter()
            .max_by_key(|host| rank(host))
            .expect("a quorum");
        let mut log = hosts[leader].etcd.log.clone().expect("it runs");
        let promised = self.acknowledged.entry(log.cluster).or_default();
        if let Some(lost) = promised
            .iter()
            .find(|write| !log.entries.iter().any(|(_, entry)| entry == *write))
        {
            return Err(format!(
                "acknowledged write lost: {lost} of {}",
                log.cluster
            ));
        }
        self.terms += 1;
        let write = self.terms;
        log.entries.push((self.terms, write));
        let synced: Vec<&usize> = group
            .iter()
            .filter(|host| !unsynced.contains(host))
            .collect();
        for host in &synced {
            let machine = hosts[**host].state.machine_id;
            hosts[**host].etcd.log = Some(Log {
                machine,
                ..log.clone()
            });
        }
        let acknowledged = synced.len() >= quorum;
        if acknowledged {
            promised.insert(write);
        }
        Ok(acknowledged)
    }
}
