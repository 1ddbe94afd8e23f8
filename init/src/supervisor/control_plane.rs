//! From an identity to running services, and keeping them configured: leaves are renewed while they run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use masthead_api::ReasonCode;
use masthead_api::Timestamp;
use masthead_api::status::Certificate;
use masthead_control_plane::{
    APISERVER_PORT, AuditStore, Component, ControlPlane, EtcdStart, Inputs, Paths, Service, plan,
    subject_names,
};
use masthead_lifecycle::Phase;
use masthead_pki::{AuthorityKind, Description, Leaves, Purpose};
use masthead_policy::Services as ServicesTable;
use masthead_seed::{DiskSelector, Endpoint, Master, Seed};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};

use super::board::{Publishers, Shared};
use super::boot::{STATE, TRY_AGAIN, wait_for};
use super::{condition, log};
use crate::error_chain::with_sources;
use crate::identity::{
    EtcdVolume, Identity, Keeper, Owners, Problem, confirm_started, first_start,
    keep_bootstrap_applied, make_service_directories, write_plan,
};
use crate::management::{self, Issuers, PowerCommand, Server};
use crate::node::NodeOptions;
use crate::process::{self, Launch, Rights};
use crate::services::{self, AdoptedExits, Managed};
use crate::serving::listen;

/// The port of the management API.
const MANAGEMENT_PORT: u16 = 9440;
/// The port of `/metrics`.
const METRICS_PORT: u16 = 9441;
/// Where ETCD is mounted.
const ETCD: &str = "/etcd";
/// Where the services' driver keeps what its successor must know.
const RECORDS: &str = "/run/masthead/services";
/// Where control groups are.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// What it takes to run the control plane.
pub(super) struct ControlPlaneTask {
    pub(super) node: NodeOptions,
    pub(super) board: Shared,
    pub(super) publishers: Publishers,
    pub(super) power: mpsc::Sender<PowerCommand>,
    pub(super) seed: Arc<Seed>,
    pub(super) master: Arc<Master>,
    pub(super) identity: Arc<Identity>,
}

impl ControlPlaneTask {
    /// Serves the API, starts the services, and keeps both configured for ever.
    pub(super) async fn run(
        self,
        exits: AdoptedExits,
        groups: watch::Sender<Option<services::Handle>>,
    ) {
        let leaves = self.leaves().await;
        let (identity_sender, identity) = watch::channel(self.management_identity(&leaves).await);
        self.serve_management(identity);
        self.publish_certificates(&leaves);
        let (leaves_sender, mut renewed) = watch::channel(Arc::clone(&leaves));
        tokio::spawn(self.keeper().run(leaves_sender));

        let etcd_start = self.etcd_start().await;
        let managed = loop {
            match self.prepare(&leaves, etcd_start) {
                Ok(prepared) => break prepared,
                Err(error) => wait_for(&self.publishers, unexpected(&error)),
            }
            tokio::time::sleep(self.node.scale * TRY_AGAIN).await;
        };
        let handle = match services::spawn(managed, exits, PathBuf::from(RECORDS), self.node.scale)
        {
            Ok(handle) => handle,
            Err(error) => {
                return wait_for(&self.publishers, unexpected(&anyhow::Error::new(error)));
            }
        };
        self.publishers
            .identity
            .send_modify(|report| report.waiting = None);
        groups.send_replace(Some(handle.clone()));
        tokio::spawn(
            self.board
                .clone()
                .follow_services(handle.clone(), self.publishers.clone()),
        );
        tokio::spawn(self.after_readiness(handle.clone()));
        drop(leaves);
        while renewed.changed().await.is_ok() {
            let leaves = Arc::clone(&renewed.borrow_and_update());
            self.publish_certificates(&leaves);
            identity_sender.send_replace(self.management_identity(&leaves).await);
            if let Err(error) = self.redeploy(&leaves, etcd_start, &handle) {
                tracing::error!("renewed certificates cannot be handed to the services: {error:#}");
            }
        }
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(
            Path::new(STATE),
            Arc::clone(&self.identity.roots),
            |purpose| subject_names(purpose, &self.seed, &self.master),
        )
    }

    async fn leaves(&self) -> Arc<Leaves> {
        loop {
            match self.keeper().look(OffsetDateTime::now_utc()) {
                Ok(issued) => {
                    for (purpose, reason) in &issued.renewed {
                        tracing::info!(leaf = purpose.name(), %reason, "issued a certificate");
                    }
                    if let Some(error) = issued.not_kept {
                        tracing::warn!(%error, "new certificates are in use but not on STATE");
                    }
                    return issued.leaves;
                }
                Err(problem) => wait_for(&self.publishers, problem),
            }
            tokio::time::sleep(self.node.scale * TRY_AGAIN).await;
        }
    }

    /// Certificate and authorities for the management API.
    async fn management_identity(&self, leaves: &Leaves) -> Arc<management::Identity> {
        let endpoint = match &self.seed.endpoint {
            // Until masters own a virtual address together, the node's own is where its apiserver is.
            Endpoint::Virtual(_) => {
                SocketAddr::new(self.master.address, APISERVER_PORT).to_string()
            }
            Endpoint::LoadBalancer { .. } => {
                format!(
                    "{}:{}",
                    self.seed.endpoint.host(),
                    self.seed.endpoint.port()
                )
            }
        };
        loop {
            let issuers = Issuers {
                operators: self
                    .identity
                    .roots
                    .authority(AuthorityKind::Operators)
                    .clone(),
                kubernetes: self
                    .identity
                    .roots
                    .authority(AuthorityKind::Kubernetes)
                    .clone(),
                admins: self.seed.admins.clone(),
                cluster: self.seed.cluster.clone(),
                node: self.master.name.clone(),
                kubernetes_server: format!("https://{endpoint}"),
            };
            match management::Identity::new(leaves.get(Purpose::ManagementServer), issuers) {
                Ok(identity) => {
                    let fingerprint = identity.fingerprint();
                    self.publishers
                        .identity
                        .send_modify(|report| report.fingerprint = Some(fingerprint));
                    return Arc::new(identity);
                }
                Err(error) => wait_for(&self.publishers, unexpected(&anyhow::Error::new(error))),
            }
            tokio::time::sleep(self.node.scale * TRY_AGAIN).await;
        }
    }

    /// Serves the management API and the metrics on all addresses of the node's family.
    fn serve_management(&self, identity: watch::Receiver<Arc<management::Identity>>) {
        let any: IpAddr = match self.master.address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let scale = self.node.scale;
        let board: Arc<dyn management::Node> = self.board.clone();
        let server = Server::new(identity, Arc::clone(&board), self.power.clone(), scale);
        tokio::spawn(async move {
            let listener = listen(SocketAddr::new(any, MANAGEMENT_PORT), scale).await;
            server.serve(listener).await;
        });
        tokio::spawn(async move {
            let listener = listen(SocketAddr::new(any, METRICS_PORT), scale).await;
            management::metrics::serve(listener, board).await;
        });
    }

    /// Decides how etcd starts; waits for as long as it must not.
    async fn etcd_start(&self) -> EtcdStart {
        loop {
            let identity = Arc::clone(&self.identity);
            let decided = tokio::task::spawn_blocking(move || {
                let volume = EtcdVolume {
                    mounted_at: PathBuf::from(ETCD),
                    uuid: file_system_id(Path::new(ETCD))?,
                };
                first_start(Path::new(STATE), &volume, &identity)
            });
            match decided.await {
                Ok(Ok(start)) => return start,
                Ok(Err(problem)) => wait_for(&self.publishers, problem),
                Err(panicked) => tracing::error!(%panicked, "judging etcd's data panicked"),
            }
            tokio::time::sleep(self.node.scale * TRY_AGAIN).await;
        }
    }

    fn plan(&self, leaves: &Leaves, etcd_start: EtcdStart) -> ControlPlane {
        // In memory, /data is a tmpfs: the same place, with less room.
        let audit = match self.master.disk {
            DiskSelector::Match(_) => AuditStore::Disk,
            DiskSelector::Memory => AuditStore::Memory,
        };
        plan(&Inputs {
            seed: &self.seed,
            master: &self.master,
            cluster_id: &self.identity.cluster_id,
            machine_id: &self.identity.machine_id,
            members: &self.identity.members,
            etcd_start,
            roots: &self.identity.roots,
            leaves,
            audit,
            scale: self.node.scale,
            paths: Paths::default(),
        })
    }

    /// Writes what the services read, and says how each is run.
    fn prepare(&self, leaves: &Leaves, etcd_start: EtcdStart) -> anyhow::Result<Vec<Managed>> {
        let plan = self.plan(leaves, etcd_start);
        let table = ServicesTable::embedded().context("read configs/node/services.toml")?;
        write_plan(&plan, &Owners::of(&table)).context("write the services' configuration")?;
        let groups = process::Services::prepare(Path::new(CONTROL_GROUPS))
            .context("prepare the services' control groups")?;
        let mut without = Vec::new();
        let mut managed = Vec::new();
        for service in &plan.services {
            managed.push(self.manage(service, &table, &groups, &mut without)?);
        }
        self.publishers
            .node
            .send_replace(condition::of_node(self.node.kind, &without));
        Ok(managed)
    }

    fn manage(
        &self,
        service: &Service,
        table: &ServicesTable,
        groups: &process::Services,
        without: &mut Vec<process::Without>,
    ) -> anyhow::Result<Managed> {
        let name = service.component.name();
        let policy = table
            .get(name)
            .with_context(|| format!("configs/node/services.toml has no service `{name}`"))?;
        // A disk that refuses them is that service's trouble: it will say so in its own output, and the others,
        // and whatever runs already, are none the worse for it.
        if let Err(error) = make_service_directories(policy) {
            tracing::error!(service = name, error = %with_sources(&error), "a directory cannot be made");
        }
        let leaf = groups.leaf(name, &policy.into())?;
        without.extend(leaf.without().iter().cloned());
        let mut rights = Rights::try_from(policy)?;
        without.extend(
            rights
                .fit(self.node.kind)
                .context("read the supervisor's own limits")?,
        );
        let words = |words: &[String]| words.iter().map(Into::into).collect();
        Ok(Managed {
            name: service.name(),
            leaf,
            launch: Launch {
                program: service.program.clone(),
                arguments: words(&service.arguments),
                environment: service
                    .environment
                    .iter()
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
                directory: PathBuf::from("/"),
                output: Path::new(log::OUTPUT).join(name),
                rights,
            },
            policy: service.policy.clone(),
            readiness: Some(service.readiness.clone()),
            liveness: Some(service.liveness.clone()),
        })
    }

    /// Hands renewed leaves to the services, and restarts those that read them only at their start.
    fn redeploy(
        &self,
        leaves: &Leaves,
        etcd_start: EtcdStart,
        handle: &services::Handle,
    ) -> anyhow::Result<()> {
        let table = ServicesTable::embedded()?;
        let changes = write_plan(&self.plan(leaves, etcd_start), &Owners::of(&table))?;
        for component in changes.restart {
            tracing::info!(
                service = component.name(),
                "restarts to read what was renewed"
            );
            handle.restart(component.name())?;
        }
        Ok(())
    }

    /// What is done when etcd and the apiserver are ready for the first time.
    fn after_readiness(&self, handle: services::Handle) -> impl Future<Output = ()> + use<> {
        let roots = Arc::clone(&self.identity.roots);
        let apiserver = SocketAddr::new(self.master.address, APISERVER_PORT);
        let scale = self.node.scale;
        async move {
            wait_until_ready(&handle, Component::Etcd).await;
            let confirmed = tokio::task::spawn_blocking(|| confirm_started(Path::new(STATE))).await;
            if let Ok(Err(problem)) = confirmed {
                tracing::error!(%problem, "STATE does not record that etcd has served");
            }
            wait_until_ready(&handle, Component::KubeApiserver).await;
            keep_bootstrap_applied(roots, apiserver, scale).await;
        }
    }

    fn publish_certificates(&self, leaves: &Leaves) {
        let certificates = Purpose::ALL.into_iter().filter_map(|purpose| {
            let description = Description::of_pem(&leaves.get(purpose).certificate_pem).ok()?;
            let expires = description.not_after.unix_timestamp();
            Some(Certificate {
                name: purpose.name().to_owned(),
                expires_at: Timestamp::from_unix_millis(expires * 1000),
            })
        });
        let certificates = certificates.collect();
        self.publishers
            .identity
            .send_modify(|report| report.certificates = certificates);
    }
}

async fn wait_until_ready(handle: &services::Handle, component: Component) {
    let mut stories = handle.watch();
    // The driver outlives its handles: waiting ends only by readiness.
    let _ = stories
        .wait_for(|stories| {
            stories
                .iter()
                .any(|story| story.name.as_str() == component.name() && story.phase == Phase::Ready)
        })
        .await;
}

/// What stays the same for as long as a file system lives, and differs between two: `f_fsid` of statfs(2),
/// which ext4 and tmpfs derive from the UUID.
fn file_system_id(path: &Path) -> Result<String, Problem> {
    let stat = nix::sys::statvfs::statvfs(path).map_err(|errno| Problem {
        code: ReasonCode::DiskLost,
        cause: format!(
            "{} cannot be asked for its identity: {errno}.",
            path.display()
        ),
        remedy: ReasonCode::DiskLost.remedy().to_owned(),
    })?;
    Ok(format!("{:016x}", stat.filesystem_id()))
}

/// A fault that the node cannot explain better than by its words.
fn unexpected(error: &anyhow::Error) -> Problem {
    Problem {
        code: ReasonCode::ServiceStartFailed,
        cause: format!("The control plane cannot be started: {error:#}."),
        remedy: "The node tries again. If it stays so, reboot it; if it comes back, report it with this message."
            .to_owned(),
    }
}
