//! A master's machine: what its disks hold, and what it does besides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use masthead_formation::{
    ClusterId, EtcdHoldings, KeyFingerprint, MachineId, Marker, Master, Plan, PlanHash, Record,
    SeedHash, Setup, Started, StateHoldings,
};
use masthead_machine::{Random, Scale};

use crate::etcd::Log;

/// A founding list with its seed's hash.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) hash: SeedHash,
    pub(crate) masters: Vec<Master>,
}

impl Seed {
    pub(crate) fn listing(number: u8, hosts: impl IntoIterator<Item = usize>) -> Self {
        Self {
            hash: SeedHash([number; 32]),
            masters: hosts.into_iter().map(master).collect(),
        }
    }

    pub(crate) fn lists(&self, host: usize) -> bool {
        self.masters.contains(&master(host))
    }
}

pub(crate) fn address(host: usize) -> IpAddr {
    // Not in the order of the names.
    let last = [4, 2, 6, 1, 7, 3, 5][host];
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

pub(crate) fn name(host: usize) -> String {
    format!("m{}", host + 1)
}

pub(crate) fn master(host: usize) -> Master {
    Master {
        address: address(host),
        name: name(host),
    }
}

pub(crate) fn host_named(name: &str) -> usize {
    let number: usize = name[1..].parse().expect("a number");
    number - 1
}

/// STATE.
#[derive(Clone, Debug)]
pub(crate) struct StateDisk {
    pub(crate) machine_id: MachineId,
    pub(crate) key: KeyFingerprint,
    pub(crate) plans: BTreeMap<u64, Arc<Plan>>,
    pub(crate) go: Option<PlanHash>,
    pub(crate) started: Option<Started>,
}

/// ETCD.
#[derive(Clone, Debug)]
pub(crate) struct EtcdDisk {
    pub(crate) uuid: String,
    pub(crate) marker: Option<Marker>,
    pub(crate) log: Option<Log>,
}

#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) seed: usize,
    pub(crate) state: StateDisk,
    pub(crate) etcd: EtcdDisk,
    pub(crate) state_unreadable: bool,
    pub(crate) etcd_unreadable: bool,
    /// What is on its way to a disk.
    pub(crate) writing: Option<Record>,
    /// Records that failed to be written since the start, and may be there all the same.
    pub(crate) limbo: Vec<Record>,
    /// The cluster whose member runs here.
    pub(crate) running: Option<Arc<Plan>>,
    pub(crate) served: bool,
    /// Hosts of the same side can talk.
    pub(crate) side: u64,
    pub(crate) off: bool,
    /// A script keeps it off.
    pub(crate) held_off: bool,
}

impl StateDisk {
    pub(crate) fn blank(random: &mut Random) -> Self {
        Self {
            machine_id: MachineId(random_bytes(random)),
            key: KeyFingerprint({
                let mut key = [0; 32];
                key[..16].copy_from_slice(&random_bytes(random));
                key
            }),
            plans: BTreeMap::new(),
            go: None,
            started: None,
        }
    }

    pub(crate) fn plan(&self, hash: PlanHash) -> Option<&Arc<Plan>> {
        self.plans.values().find(|plan| plan.hash() == hash)
    }
}

impl EtcdDisk {
    pub(crate) fn blank(random: &mut Random) -> Self {
        Self {
            uuid: format!("{:016x}", random.bits()),
            marker: None,
            log: None,
        }
    }
}

impl Host {
    pub(crate) fn blank(random: &mut Random, seed: usize) -> Self {
        Self {
            seed,
            state: StateDisk::blank(random),
            etcd: EtcdDisk::blank(random),
            state_unreadable: false,
            etcd_unreadable: false,
            writing: None,
            limbo: Vec::new(),
            running: None,
            served: false,
            side: 0,
            off: false,
            held_off: false,
        }
    }

    /// A record has reached its disk.
    pub(crate) fn store(&mut self, record: Record) {
        match record {
            Record::Plan(plan) => {
                self.state.plans.insert(plan.generation(), plan);
            }
            Record::Go(hash) => self.state.go = Some(hash),
            Record::Started(started) => self.state.started = Some(started),
            Record::Marker(marker) => self.etcd.marker = Some(marker),
        }
    }

    /// Everything that the shell reads at a start, as bytes.
    pub(crate) fn setup(&self, host: usize, seed: &Seed, session: u64) -> Setup {
        let state = if self.state_unreadable {
            StateHoldings::Unknown("input/output error".to_owned())
        } else {
            StateHoldings::Read {
                plans: self
                    .state
                    .plans
                    .values()
                    .map(|plan| Record::Plan(Arc::clone(plan)).bytes())
                    .collect(),
                go: self.state.go.map(|go| Record::Go(go).bytes()),
                started: self
                    .state
                    .started
                    .clone()
                    .map(|started| Record::Started(started).bytes()),
            }
        };
        let etcd = if self.etcd_unreadable {
            EtcdHoldings::Unknown("input/output error".to_owned())
        } else {
            EtcdHoldings::Read {
                uuid: self.etcd.uuid.clone(),
                marker: self
                    .etcd
                    .marker
                    .map(|marker| Record::Marker(marker).bytes()),
                has_wal: self.etcd.log.is_some(),
            }
        };
        Setup {
            cluster: "history".to_owned(),
            masters: seed.masters.clone(),
            name: name(host),
            seed: seed.hash,
            machine_id: self.state.machine_id,
            key: self.state.key,
            session,
            durable: true,
            state,
            etcd,
            scale: Scale::REAL,
        }
    }

    /// The plan of which STATE holds go.
    pub(crate) fn gone_plan(&self) -> Option<&Arc<Plan>> {
        self.state.go.and_then(|hash| self.state.plan(hash))
    }

    /// Whether its disks contradict each other, so that it must not start etcd.
    pub(crate) fn is_amnesiac(&self) -> bool {
        let own = self.gone_plan().map(|plan| Marker {
            cluster_id: plan.cluster_id(),
            machine_id: self.state.machine_id,
        });
        let marker = self.etcd.marker;
        if marker.is_some() && marker != own {
            return true;
        }
        match &self.state.started {
            None => self.etcd.log.is_some(),
            Some(started) => {
                started.etcd_filesystem != self.etcd.uuid
                    || marker.is_none()
                    || (started.confirmed && self.etcd.log.is_none())
            }
        }
    }
}

/// What of a host's disks is wiped or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wipe {
    Nothing,
    Etcd,
    State,
    Both,
}

pub(crate) fn random_bytes(random: &mut Random) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random.bits().to_le_bytes());
    bytes[8..].copy_from_slice(&random.bits().to_le_bytes());
    bytes
}

pub(crate) fn random_cluster(random: &mut Random) -> ClusterId {
    ClusterId(random_bytes(random))
}

/// Which hosts of all, by a random choice.
pub(crate) fn some_of(random: &mut Random, hosts: usize) -> BTreeSet<usize> {
    (0..hosts).filter(|_| random.below(2) == 0).collect()
}
