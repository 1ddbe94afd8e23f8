//! The order in which a node comes up: output, seed, network, API, disks, formation, identity, services.
//!
//! Each step publishes what it waits for. No step is left before it is done, and none is done twice: a
//! supervisor that replaces a dead one goes through the same steps, finds each done, and adopts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use masthead_api::status::{Cluster, SeedAttempt};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_control_plane::Component;
use masthead_machine::Scale;
use masthead_seed::{Hash, Master, Report, Seed};
use tokio::sync::{mpsc, watch};

use super::api::Api;
use super::board::{Publishers, Shared};
use super::control_plane::ControlPlaneTask;
use super::{founding, log};
use crate::error_chain::with_sources;
use crate::firewall::{self, Admitted};
use crate::identity::storage::{Durable, Storage as _, StorageError};
use crate::identity::{Identity, Problem};
use crate::listeners::Listeners;
use crate::management::{Commands, FoundCommand};
use crate::node::{Facility, NodeOptions};
use crate::role::Release;
use crate::seed_source::{self, Attempt, Roots, SourceKind};
use crate::services::{self, AdoptedExits};
use crate::{disk, network, network_time, output};

/// How long to wait before trying again what a person or a disk must put right.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Where STATE is mounted.
pub(super) const STATE: &str = "/state";
/// Where DATA is mounted.
const DATA: &str = "/data";
/// The seed in use, for a supervisor that replaces this one when the source is gone.
pub(super) const SEED_IN_USE: &str = "/run/masthead/seed.toml";
/// Two lines: which master of it this machine is, and where it was found.
const MASTER_IN_USE: &str = "/run/masthead/master";

/// The boot sequence with what it needs and where it publishes.
pub(super) struct Boot {
    pub(super) node: NodeOptions,
    pub(super) release: Release,
    pub(super) board: Shared,
    pub(super) publishers: Publishers,
    pub(super) exits: AdoptedExits,
    pub(super) commands: Commands,
    pub(super) founding: mpsc::Receiver<FoundCommand>,
    pub(super) groups: watch::Sender<Option<services::Handle>>,
    pub(super) listeners: Listeners,
}

impl Boot {
    /// Runs for as long as the supervisor does: when everything is started, it keeps it configured.
    pub(super) async fn run(self) {
        let scale = self.node.scale;
        for service in std::iter::once(log::NAME).chain(Component::ALL.map(Component::name)) {
            self.board
                .add_output(service, follow_output(service, scale));
        }
        let (seed, master) = self.seed().await;
        if let Err(error) = rustix::system::sethostname(master.name.as_bytes()) {
            tracing::warn!(%error, "the host name cannot be set");
        }
        self.put_firewall_up(&seed);
        tokio::spawn(network::keep(
            master.clone(),
            scale,
            self.publishers.network.clone(),
        ));
        if self.node.kind.has(Facility::Clock) && !master.network.ntp.is_empty() {
            tokio::spawn(network_time::keep(
                master.network.ntp.clone(),
                scale,
                self.publishers.clock.clone(),
            ));
        }
        let (seed, master) = (Arc::new(seed), Arc::new(master));
        let api = Api {
            seed: Arc::clone(&seed),
            master: Arc::clone(&master),
            board: self.board.clone(),
            identity: self.publishers.identity.clone(),
            commands: self.commands,
            listeners: self.listeners.clone(),
            scale,
        };
        let api = api.spawn();
        let disks = &self.publishers.disks;
        let mounted = disk::bring_up(self.node.kind, &master, scale, disks).await;
        tokio::spawn(disk::health::watch(mounted, scale, disks.clone()));
        let founding = founding::Founding {
            seed: Arc::clone(&seed),
            master: Arc::clone(&master),
            versions: self.release.versions,
            scale,
            board: self.board.clone(),
            publishers: self.publishers.clone(),
            listeners: self.listeners,
        };
        let formation = founding.spawn(self.founding);
        let start = formation.started().await;
        // Not before: a wrong seed that was corrected must not come back. Nothing stands on it in this boot, so that nobody
        // waits for it.
        tokio::task::spawn_blocking(|| {
            if let Err(error) = seed_source::install(Path::new(STATE), Path::new(SEED_IN_USE)) {
                let error = with_sources(&error);
                tracing::warn!(%error, "the seed cannot be kept on STATE");
            }
        });
        let identity = match Identity::of_plan(&start.plan, start.machine_id, &seed, &master) {
            Ok(identity) => identity,
            Err(problem) => {
                // Only another seed or another disk changes that, and both need a reboot.
                wait_for(&self.publishers, problem);
                return std::future::pending().await;
            }
        };
        self.publishers
            .identity
            .send_modify(|report| report.cluster_id = Some(identity.cluster_id.clone()));
        // etcd and the apiserver bind to the node's address, and die where there is none.
        let mut network = self.publishers.network.subscribe();
        // The sender is here: waiting cannot fail.
        let _ = network
            .wait_for(|network| !network.addresses.is_empty())
            .await;
        drop(network);
        let task = ControlPlaneTask {
            node: self.node,
            deciding: self.release.deciding,
            board: self.board,
            publishers: self.publishers,
            seed,
            master,
            identity: Arc::new(identity),
            api,
            formation,
        };
        task.run(start.start, self.exits, self.groups).await;
    }

    /// Before the interface has an address. Without a firewall the node goes on, and says so: what listens asks for certificates.
    fn put_firewall_up(&self, seed: &Seed) {
        let admitted = Admitted {
            masters: seed.masters.iter().map(|master| master.address).collect(),
            operators: seed.operators.clone(),
        };
        if let Err(error) = firewall::install(&admitted) {
            let error = with_sources(&error);
            tracing::error!(error, "the firewall is not up");
            let reason = Reason::new(ReasonCode::FirewallMissing, Timestamp::now());
            let reason = reason.with_cause(format!("The firewall is not up: {error}."));
            self.publishers.firewall.send_replace(Some(reason));
        }
    }

    /// Waits for a seed that names this machine. A supervisor that replaces another takes the seed in use, whatever
    /// has become of its source and of the network card by which the machine was found.
    async fn seed(&self) -> (Seed, Master) {
        if let Some(in_use) = SeedInUse::read() {
            self.publish_seed(&in_use);
            return (in_use.seed, in_use.master);
        }
        let kind = if self.node.kind.has(Facility::Firmware) {
            SourceKind::Machine(Roots::default())
        } else {
            SourceKind::Namespace {
                seed: self.node.seed.clone(),
                roots: Roots::default(),
            }
        };
        let (attempts, mut looks) = watch::channel(Vec::new());
        let publisher = self.publishers.seed.clone();
        let reporting = tokio::spawn(async move {
            while looks.changed().await.is_ok() {
                publish_attempts(&publisher, &looks.borrow_and_update());
            }
        });
        let found = seed_source::wait_for_seed(&kind, self.node.scale, &attempts).await;
        reporting.abort();
        publish_attempts(&self.publishers.seed, &attempts.borrow());
        let in_use = SeedInUse {
            seed: found.seed,
            master: found.master,
            source: found.source,
            hash: found.bytes_hash,
            warnings: found.warnings,
        };
        if let Err(error) = in_use.keep(&found.bytes.0) {
            let error = with_sources(&error);
            tracing::error!(%error, "{SEED_IN_USE} cannot be written; a new supervisor looks for the seed again");
        }
        self.publish_seed(&in_use);
        (in_use.seed, in_use.master)
    }

    fn publish_seed(&self, found: &SeedInUse) {
        tracing::info!(source = %found.source, hash = %found.hash, master = %found.master.name, "the seed is there");
        let endpoint = found.seed.endpoint.to_string();
        self.publishers.seed.send_modify(|report| {
            report.seed.source = Some(found.source.clone());
            report.seed.hash = Some(found.hash.to_string());
            report.seed.warnings = found
                .warnings
                .diagnostics()
                .iter()
                .map(|warning| warning.message.clone())
                .collect();
            report.name.clone_from(&found.master.name);
            report.cluster = Some(Cluster {
                name: found.seed.cluster.clone(),
                id: None,
                endpoint: Some(endpoint),
            });
            report.waiting = None;
        });
    }
}

/// A port on all addresses of the master's family.
pub(super) fn any_address(master: &Master, port: u16) -> SocketAddr {
    let any: IpAddr = match master.address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, port)
}

/// The seed that the node runs by, and which master of it this machine is.
struct SeedInUse {
    seed: Seed,
    master: Master,
    source: String,
    hash: Hash,
    warnings: Report,
}

impl SeedInUse {
    /// What an earlier supervisor of this boot has kept.
    fn read() -> Option<Self> {
        let kept = std::fs::read_to_string(MASTER_IN_USE).ok()?;
        let (name, source) = kept.trim_end().split_once('\n')?;
        let bytes = std::fs::read(SEED_IN_USE).ok()?;
        let (seed, warnings) = Seed::check(SEED_IN_USE, &bytes);
        let seed = seed?;
        let master = seed
            .masters
            .iter()
            .find(|master| master.name == name)?
            .clone();
        Some(Self {
            seed,
            master,
            source: source.to_owned(),
            hash: Hash::of(&bytes),
            warnings,
        })
    }

    /// Keeps it for a supervisor that replaces this one. The second file is written last: with it, both are whole.
    fn keep(&self, bytes: &[u8]) -> Result<(), StorageError> {
        Durable.replace(Path::new(SEED_IN_USE), bytes)?;
        let kept = format!("{}\n{}\n", self.master.name, self.source);
        Durable.replace(Path::new(MASTER_IN_USE), kept.as_bytes())
    }
}

/// Publishes that the identity, or what stands on it, waits for somebody.
pub(super) fn wait_for(publishers: &Publishers, problem: Problem) {
    let reason = problem.reason();
    publishers.identity.send_if_modified(|report| {
        let before = report.waiting.as_ref();
        let known = before.is_some_and(|before| before.tells_the_same(&reason));
        if !known {
            tracing::warn!(%problem, "the node waits");
            report.waiting = Some(reason);
        }
        !known
    });
}

fn publish_attempts(publisher: &watch::Sender<super::board::SeedReport>, attempts: &[Attempt]) {
    publisher.send_modify(|report| {
        report.seed.attempts = attempts.iter().map(SeedAttempt::from).collect();
        let since = report
            .waiting
            .as_ref()
            .map_or_else(Timestamp::now, |reason| reason.since);
        report.waiting = seed_source::waiting_for(attempts, since);
    });
}

fn follow_output(service: &str, scale: Scale) -> output::Handle {
    output::spawn(output::Config {
        service: service.to_owned(),
        source: Path::new(log::OUTPUT).join(service),
        segments: Path::new(DATA).join("log").join(service),
        boot_number: PathBuf::from("/run/masthead/boot-number"),
        bounds: output::Bounds::new(scale),
    })
}
