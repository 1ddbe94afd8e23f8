//! The status of the node, made of what each task publishes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use masthead_api::cluster::{ClusterStatus, NodeAnswer};
use masthead_api::etcd::Etcd;
use masthead_api::status::{
    self, Certificate, Clock, Cluster, Disk, DiskState, FailedImage, Installation, Network,
    NodeKind as ApiKind, Status, VirtualAddress,
};
use masthead_api::{Fingerprint, Reason, ReasonCode, Timestamp};
use masthead_machine::Scale;
use tokio::sync::{Notify, watch};

use super::cluster;
use super::facts::Facts;
use super::trial::TrialReport;
use crate::disruption::under_way;
use crate::etcd::Members;
use crate::node::Facility;
use crate::operators::Enrolled;
use crate::slots::BootDisk;
use crate::{disk, formation, node, output, peer, services, vip};

/// How many lines of output stand beside a service that keeps dying.
const LAST_LINES: usize = 20;

/// The seed as the boot sequence sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct SeedReport {
    pub(super) seed: status::Seed,
    /// The master's name, once it is known.
    pub(super) name: String,
    pub(super) cluster: Option<Cluster>,
    pub(super) waiting: Option<Reason>,
}

/// The identity as the boot sequence sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct IdentityReport {
    pub(super) cluster_id: Option<String>,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) provisional: bool,
    pub(super) certificates: Vec<Certificate>,
    pub(super) waiting: Option<Reason>,
}

/// Where tasks publish.
#[derive(Clone)]
pub(super) struct Publishers {
    pub(super) seed: watch::Sender<SeedReport>,
    pub(super) network: watch::Sender<Network>,
    pub(super) clock: watch::Sender<Option<Clock>>,
    pub(super) disks: watch::Sender<disk::Report>,
    /// Whether the image that runs is on trial, and which one was not good.
    pub(super) trial: watch::Sender<TrialReport>,
    pub(super) formation: watch::Sender<formation::Report>,
    pub(super) identity: watch::Sender<IdentityReport>,
    pub(super) services: watch::Sender<Vec<status::Service>>,
    /// What this node's member of etcd says, while it answers.
    pub(super) etcd: watch::Sender<Option<Etcd>>,
    /// Has it asked at once.
    pub(super) ask_etcd: Arc<Notify>,
    /// The virtual addresses, as this node sees them.
    pub(super) addresses: watch::Sender<Vec<VirtualAddress>>,
    /// Operators who came in by tokens.
    pub(super) enrolled: watch::Sender<Enrolled>,
    /// What is wrong with the kernel's settings, mounts and control groups.
    pub(super) node: watch::Sender<Vec<Reason>>,
    /// Why the firewall is not up.
    pub(super) firewall: watch::Sender<Option<Reason>>,
    /// Why somebody should look after etcd's space.
    pub(super) space: watch::Sender<Option<Reason>>,
    pub(super) ending: watch::Sender<Option<Reason>>,
}

/// Everything that the status is made of.
pub(super) struct Board {
    facts: Facts,
    seed: watch::Receiver<SeedReport>,
    network: watch::Receiver<Network>,
    clock: watch::Receiver<Option<Clock>>,
    disks: watch::Receiver<disk::Report>,
    trial: watch::Receiver<TrialReport>,
    formation: watch::Receiver<formation::Report>,
    identity: watch::Receiver<IdentityReport>,
    services: watch::Receiver<Vec<status::Service>>,
    etcd: watch::Receiver<Option<Etcd>>,
    addresses: watch::Receiver<Vec<VirtualAddress>>,
    pub(super) enrolled: watch::Receiver<Enrolled>,
    node: watch::Receiver<Vec<Reason>>,
    firewall: watch::Receiver<Option<Reason>>,
    space: watch::Receiver<Option<Reason>>,
    ending: watch::Receiver<Option<Reason>>,
    /// Followers of output, by service.
    outputs: Mutex<BTreeMap<String, output::Handle>>,
    /// The way to the other masters, once there is one.
    peers: OnceLock<peer::Handle>,
    /// The way to etcd's members, once this node is one.
    members: OnceLock<Arc<Members>>,
    /// The way to the virtual addresses, once this node may own them.
    vip: OnceLock<vip::Handle>,
    /// The disk from which this boot came.
    pub(super) boot_disk: BootDisk,
}

impl Board {
    pub(super) fn new(facts: Facts) -> (Publishers, Self) {
        let seed = watch::channel(SeedReport::default());
        let network = watch::channel(Network::default());
        let clock = watch::channel(None);
        let disks = watch::channel(disk::Report::default());
        let trial = watch::channel(TrialReport::default());
        let formation = watch::channel(formation::Report::default());
        let identity = watch::channel(IdentityReport::default());
        let services = watch::channel(Vec::new());
        let etcd = watch::channel(None);
        let addresses = watch::channel(Vec::new());
        let enrolled = watch::channel(Enrolled::default());
        let node = watch::channel(Vec::new());
        let firewall = watch::channel(None);
        let space = watch::channel(None);
        let ending = watch::channel(None);
        let publishers = Publishers {
            seed: seed.0,
            network: network.0,
            clock: clock.0,
            disks: disks.0,
            trial: trial.0,
            formation: formation.0,
            identity: identity.0,
            services: services.0,
            etcd: etcd.0,
            ask_etcd: Arc::default(),
            addresses: addresses.0,
            enrolled: enrolled.0,
            node: node.0,
            firewall: firewall.0,
            space: space.0,
            ending: ending.0,
        };
        let board = Self {
            facts,
            seed: seed.1,
            network: network.1,
            clock: clock.1,
            disks: disks.1,
            trial: trial.1,
            formation: formation.1,
            identity: identity.1,
            services: services.1,
            etcd: etcd.1,
            addresses: addresses.1,
            enrolled: enrolled.1,
            node: node.1,
            firewall: firewall.1,
            space: space.1,
            ending: ending.1,
            outputs: Mutex::default(),
            peers: OnceLock::new(),
            members: OnceLock::new(),
            vip: OnceLock::new(),
            boot_disk: BootDisk::default(),
        };
        (publishers, board)
    }

    /// Makes the output of a service known to `mastctl logs`.
    pub(super) fn add_output(&self, service: &str, handle: output::Handle) {
        self.outputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(service.to_owned(), handle);
    }

    /// Makes the other masters known to `mastctl status`.
    pub(super) fn set_peers(&self, peers: peer::Handle) {
        // There is one transport in a supervisor's life.
        let _ = self.peers.set(peers);
    }

    /// Makes etcd's members known to `mastctl etcd`.
    pub(super) fn set_members(&self, members: Arc<Members>) {
        // The control plane is started once in a supervisor's life.
        let _ = self.members.set(members);
    }

    /// Makes the virtual addresses known to their other owners and to `mastctl vip`.
    pub(super) fn set_vip(&self, vip: vip::Handle) {
        // As the members.
        let _ = self.vip.set(vip);
    }

    /// The way to the virtual addresses, once this node may own them.
    pub(super) fn vip(&self) -> Option<&vip::Handle> {
        self.vip.get()
    }

    /// The way to the other masters, once there is one.
    pub(super) fn peers(&self) -> Option<&peer::Handle> {
        self.peers.get()
    }

    /// The status of every listed master.
    pub(super) async fn cluster(&self) -> ClusterStatus {
        cluster::status(self.status(), self.peers.get(), self.facts.scale).await
    }

    /// The same, with what each member of etcd says when it is asked now: what a master knows of its own may be some
    /// seconds old.
    pub(super) async fn cluster_now(&self) -> ClusterStatus {
        let asked = async {
            match self.members() {
                Some(members) => members.ask_all().await,
                None => BTreeMap::new(),
            }
        };
        let (mut cluster, mut members) = tokio::join!(self.cluster(), asked);
        for (name, answer) in &mut cluster.nodes {
            if let NodeAnswer::Status(status) = answer {
                status.etcd = members.remove(name);
            }
        }
        cluster
    }

    /// The way to etcd's members, once this node is one.
    pub(super) fn members(&self) -> Option<Arc<Members>> {
        self.members.get().cloned()
    }

    /// Whether the image that runs still has to show that it is good, or that is not known yet.
    pub(super) fn may_be_on_trial(&self) -> bool {
        let trial = self.trial.borrow();
        !trial.is_known || trial.on_trial.is_some()
    }

    /// Whether the root of another image can be looked at here.
    pub(super) fn can_mount_a_root(&self) -> bool {
        self.facts.kind.has(Facility::SwitchOfRoot)
    }

    /// Multiplies the times.
    pub(super) fn scale(&self) -> Scale {
        self.facts.scale
    }

    /// All followers of output.
    pub(super) fn outputs(&self) -> Vec<output::Handle> {
        self.outputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    pub(super) fn output(&self, service: &str) -> Option<output::Handle> {
        self.outputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(service)
            .cloned()
    }

    /// Keeps the services in the status true, for ever. One that is not well comes with its last lines.
    pub(super) async fn follow_services(
        self: Arc<Self>,
        handle: services::Handle,
        publishers: Publishers,
    ) {
        let mut stories = handle.watch();
        loop {
            let current = stories.borrow_and_update().clone();
            let mut told = Vec::with_capacity(current.len());
            for story in &current {
                let lines = match self.output(story.name.as_str()) {
                    Some(output) if story.crash_looping || story.start_error.is_some() => {
                        output.tail(LAST_LINES).await
                    }
                    _ => Vec::new(),
                };
                told.push(services::status(story, lines));
            }
            publishers.services.send_replace(told);
            if stories.changed().await.is_err() {
                return;
            }
        }
    }

    /// The node's status now.
    pub(super) fn status(&self) -> Status {
        let seed = self.seed.borrow().clone();
        let network = self.network.borrow().clone();
        let disks = self.disks.borrow().clone();
        let formation = self.formation.borrow().clone();
        let identity = self.identity.borrow().clone();
        let services = self.services.borrow().clone();
        let mut waiting: Vec<Reason> = Vec::new();
        waiting.extend(self.ending.borrow().clone());
        waiting.extend(seed.waiting);
        waiting.extend(disks.waiting);
        waiting.extend(formation.waiting);
        waiting.extend(identity.waiting);
        waiting.extend(
            services
                .iter()
                .filter_map(|service| service.waiting.clone()),
        );
        let mut degraded = self.node.borrow().clone();
        degraded.extend(self.firewall.borrow().clone());
        degraded.extend(self.space.borrow().clone());
        degraded.extend(formation.warnings);
        degraded.extend(network.waiting.clone());
        degraded.extend(
            disks
                .disks
                .iter()
                .filter(|disk| disk.role != "candidate")
                .filter_map(|disk| disk.reason.clone()),
        );
        degraded.extend(self.output_troubles(&disks.disks));
        let trial = self.trial.borrow().clone();
        degraded.extend(trial.on_trial.clone());
        degraded.extend(trial.failed.as_ref().map(not_good));
        // That there is no medium is no trouble by itself: a node may well boot by the network.
        let installation = disks.installation.as_ref();
        let trouble = installation.and_then(|installation| installation.reason.clone());
        degraded.extend(trouble.filter(|reason| reason.code == ReasonCode::InstallFailed));
        let etcd = self.etcd.borrow().clone();
        let disruption = etcd.as_ref().and_then(|etcd| etcd.disruption.as_ref());
        degraded.extend(disruption.map(under_way));
        let virtual_addresses = self.addresses.borrow().clone();
        let reasons = virtual_addresses
            .iter()
            .filter_map(|one| one.reason.clone());
        degraded.extend(reasons);
        let clock = self.clock.borrow().clone();
        degraded.extend(clock.as_ref().and_then(|clock| clock.reason.clone()));
        Status {
            format: masthead_api::FORMAT,
            node: self.node_facts(&seed.name, formation.machine_id),
            cluster: seed.cluster.map(|cluster| Cluster {
                id: identity.cluster_id,
                ..cluster
            }),
            formation: formation.formation,
            seed: seed.seed,
            disks: disks.disks,
            installation: disks.installation.map(|installation| Installation {
                on_trial: trial.on_trial.is_some(),
                failed: trial.failed,
                ..installation
            }),
            network,
            clock,
            services,
            etcd,
            virtual_addresses,
            api_fingerprint: identity.fingerprint,
            api_provisional: identity.provisional,
            certificates: identity.certificates,
            waiting,
            degraded,
        }
    }

    fn node_facts(&self, name: &str, machine_id: Option<String>) -> status::Node {
        let facts = &self.facts;
        let (resident, processor) = consumption();
        let since = Timestamp::from_unix_millis(facts.boot.since_unix_millis);
        status::Node {
            name: name.to_owned(),
            machine_id,
            kind: match facts.kind {
                node::NodeKind::Machine => ApiKind::Machine,
                node::NodeKind::Namespace => ApiKind::Namespace,
            },
            version: facts.release.version.clone(),
            image: facts.image.clone(),
            kernel: facts.kernel.clone(),
            kubernetes: facts.release.kubernetes.clone(),
            etcd: facts.release.etcd.clone(),
            boot_time: since,
            uptime: u64::try_from(since.seconds_until(Timestamp::now())).unwrap_or_default(),
            boot_id: facts.boot.id.clone(),
            timing_scale: facts.scale.factor(),
            supervisor: status::Supervisor {
                pid: std::process::id(),
                restarts: facts.supervisor_restarts,
                last_death: facts.previous_end.clone(),
                resident,
                processor,
            },
        }
    }

    /// One reason for all services whose output is not stored: it is nearly always one disk.
    fn output_troubles(&self, disks: &[Disk]) -> Option<Reason> {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let states = outputs.iter().map(|(service, handle)| {
            let state = handle.watch().borrow().clone();
            (service.as_str(), state)
        });
        output_not_stored(states, disks)
    }
}

fn output_not_stored<'a>(
    states: impl Iterator<Item = (&'a str, output::State)>,
    disks: &[Disk],
) -> Option<Reason> {
    let mut causes = Vec::new();
    let mut since: Option<SystemTime> = None;
    for (service, state) in states {
        let trouble = state.trouble;
        let Some(trouble) = trouble.filter(|trouble| !is_waited_for(trouble.cause, disks)) else {
            continue;
        };
        since = Some(since.map_or(trouble.since, |since| since.min(trouble.since)));
        let (detail, lost) = (trouble.detail, state.lost);
        causes.push(format!("{service} ({detail}; {lost} bytes were dropped)"));
    }
    let since = Timestamp::from(since?);
    let cause = format!("Output is not copied to disk: {}.", causes.join(", "));
    Some(Reason::new(ReasonCode::OutputNotStored, since).with_cause(cause))
}

/// Whether output is not stored only because DATA is not there yet. That the node waits for its seed or
/// its disk is told once, and what was written meanwhile is copied then.
fn not_good(failed: &FailedImage) -> Reason {
    let FailedImage {
        generation,
        version,
        why,
        at,
    } = failed;
    Reason::new(ReasonCode::ImageFailed, *at).with_cause(format!(
        "Version {version} was tried as generation {generation}, and was not good: {why}."
    ))
}

fn is_waited_for(cause: output::Cause, disks: &[Disk]) -> bool {
    let is_there = disks
        .iter()
        .any(|disk| disk.role == "DATA" && disk.state != DiskState::Waiting);
    cause == output::Cause::DiskAbsent && !is_there
}

/// Resident memory in bytes and processor time in milliseconds of this process.
fn consumption() -> (Option<u64>, Option<u64>) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let millis = u64::try_from(used.tv_sec)
        .ok()
        .and_then(|seconds| Some(seconds * 1000 + u64::try_from(used.tv_nsec).ok()? / 1_000_000));
    (
        pages.map(|pages| pages * rustix::param::page_size() as u64),
        millis,
    )
}

/// A board that many may read.
pub(super) type Shared = Arc<Board>;

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(role: &str, state: DiskState) -> Disk {
        Disk {
            role: role.to_owned(),
            device: None,
            serial: None,
            state,
            filesystem: None,
            used: None,
            size: None,
            reason: None,
        }
    }

    #[test]
    fn output_without_a_disk_is_trouble_only_once_there_was_one() {
        use output::Cause::{DiskAbsent, DiskFull};
        let candidate = disk("candidate", DiskState::Waiting);
        assert!(is_waited_for(DiskAbsent, &[]));
        assert!(is_waited_for(DiskAbsent, std::slice::from_ref(&candidate)));
        let lost = [candidate, disk("DATA", DiskState::Lost)];
        assert!(!is_waited_for(DiskAbsent, &lost));
        assert!(!is_waited_for(DiskFull, &[]));
    }

    #[test]
    fn services_that_share_a_trouble_share_a_reason() {
        let trouble = |since| output::State {
            lost: 7,
            trouble: Some(output::Trouble {
                cause: output::Cause::DiskStalled,
                detail: "a write has not come back".to_owned(),
                since: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(since),
            }),
            ..output::State::default()
        };
        let states = [
            ("etcd", trouble(90)),
            ("kube-apiserver", output::State::default()),
            ("kube-scheduler", trouble(60)),
        ];
        let reason = output_not_stored(states.into_iter(), &[]).expect("a reason");
        assert_eq!(reason.since, Timestamp::from_unix_millis(60_000));
        let cause = reason.cause;
        for part in ["etcd (", "kube-scheduler (", "7 bytes"] {
            assert!(cause.contains(part), "{cause}");
        }
        assert!(!cause.contains("kube-apiserver"), "{cause}");
        assert_eq!(output_not_stored([].into_iter(), &[]), None);
    }
}
