//! From an identity to running services, and keeping them configured: leaves are renewed while they run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use masthead_api::{ReasonCode, routes};
use masthead_control_plane::{APISERVER_PORT, Component, EtcdStart, subject_names};
use masthead_lifecycle::Phase;
use masthead_pki::{AuthorityKind, Leaves, Purpose};
use masthead_seed::{Endpoint, Master, Seed};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};

use super::board::{Publishers, Shared};
use super::boot::{STATE, TRY_AGAIN, wait_for};
use super::condition;
use super::deployment::Deployment;
use crate::error_chain::with_sources;
use crate::identity::{
    EtcdVolume, Handover, Identity, Keeper, Problem, confirm_started, first_start,
    handed_over_etcd_start, inventory, keep_bootstrap_applied, keep_etcd_start,
};
use crate::listeners::Listeners;
use crate::management::{self, Issuers, PowerCommand, Server};
use crate::node::NodeOptions;
use crate::services::{self, AdoptedExits};

/// Where ETCD is mounted.
const ETCD: &str = "/etcd";
/// Where the services' driver keeps what its successor must know.
const RECORDS: &str = "/run/masthead/services";

/// What it takes to run the control plane.
pub(super) struct ControlPlaneTask {
    pub(super) node: NodeOptions,
    pub(super) board: Shared,
    pub(super) publishers: Publishers,
    pub(super) power: mpsc::Sender<PowerCommand>,
    pub(super) seed: Arc<Seed>,
    pub(super) master: Arc<Master>,
    pub(super) identity: Arc<Identity>,
    pub(super) listeners: Listeners,
}

impl ControlPlaneTask {
    /// Serves the API, starts the services, and keeps both configured for ever.
    pub(super) async fn run(
        self,
        exits: AdoptedExits,
        groups: watch::Sender<Option<services::Handle>>,
    ) {
        let mut leaves = self.leaves().await;
        let (identity_sender, identity) = watch::channel(self.management_identity(&leaves).await);
        self.serve_management(identity);
        self.publish_certificates(&leaves);
        let (leaves_sender, mut renewed) = watch::channel(Arc::clone(&leaves));
        tokio::spawn(self.keeper().run(leaves_sender));

        let mut etcd_start = self.etcd_start().await;
        let deployment = Deployment {
            node: self.node.clone(),
            seed: Arc::clone(&self.seed),
            master: Arc::clone(&self.master),
            identity: Arc::clone(&self.identity),
        };
        let managed = loop {
            match deployment.prepare(&leaves, etcd_start).await {
                Ok((managed, without)) => {
                    let condition = condition::of_node(self.node.kind, &without);
                    self.publishers.node.send_replace(condition);
                    break managed;
                }
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
        tokio::spawn(self.apply_bootstrap_when_ready(handle.clone()));
        let mut etcd_has_served = false;
        loop {
            tokio::select! {
                changed = renewed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    leaves = Arc::clone(&renewed.borrow_and_update());
                    self.publish_certificates(&leaves);
                    identity_sender.send_replace(self.management_identity(&leaves).await);
                }
                () = wait_until_ready(&handle, Component::Etcd), if !etcd_has_served => {
                    // Should it start again, it is to find its data or not to start at all.
                    etcd_has_served = true;
                    etcd_start = EtcdStart::Existing;
                    confirm_start();
                }
            }
            if let Err(error) = deployment.renew(&leaves, etcd_start, &handle) {
                tracing::error!(
                    "a changed configuration cannot be handed to the services: {error:#}"
                );
            }
        }
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(
            Path::new(STATE),
            Handover::of_this_boot(),
            Arc::clone(&self.identity.roots),
            |purpose| subject_names(purpose, &self.seed, &self.master),
        )
    }

    async fn leaves(&self) -> Arc<Leaves> {
        loop {
            let keeper = self.keeper();
            // It waits for STATE where nothing was handed over.
            let looked = tokio::task::spawn_blocking(move || {
                let issued = keeper.look(OffsetDateTime::now_utc());
                (keeper, issued)
            });
            match looked.await {
                Ok((keeper, Ok(issued))) => {
                    keeper.tell_and_store(&issued);
                    return issued.leaves;
                }
                Ok((_, Err(problem))) => wait_for(&self.publishers, problem),
                Err(panicked) => tracing::error!(%panicked, "issuing certificates panicked"),
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
        let listeners = self.listeners.clone();
        tokio::spawn(async move {
            let address = SocketAddr::new(any, routes::PORT);
            server.serve(listeners.listen(address, scale).await).await;
        });
        let listeners = self.listeners.clone();
        tokio::spawn(async move {
            let address = SocketAddr::new(any, routes::METRICS_PORT);
            let listener = listeners.listen(address, scale).await;
            management::metrics::serve(listener, board).await;
        });
    }

    /// How etcd starts: as an earlier supervisor of this boot has decided, or by what the disks say. Waits for as long
    /// as it must not start.
    async fn etcd_start(&self) -> EtcdStart {
        let handover = Handover::of_this_boot();
        if let Some(start) = handed_over_etcd_start(&handover) {
            return start;
        }
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
                Ok(Ok(start)) => {
                    hand_over_etcd_start(&handover, start);
                    return start;
                }
                Ok(Err(problem)) => wait_for(&self.publishers, problem),
                Err(panicked) => tracing::error!(%panicked, "judging etcd's data panicked"),
            }
            tokio::time::sleep(self.node.scale * TRY_AGAIN).await;
        }
    }

    /// Applies the objects that every cluster has, when the apiserver is ready for the first time.
    fn apply_bootstrap_when_ready(
        &self,
        handle: services::Handle,
    ) -> impl Future<Output = ()> + use<> {
        let roots = Arc::clone(&self.identity.roots);
        let apiserver = SocketAddr::new(self.master.address, APISERVER_PORT);
        let scale = self.node.scale;
        async move {
            wait_until_ready(&handle, Component::KubeApiserver).await;
            keep_bootstrap_applied(roots, apiserver, scale).await;
        }
    }

    fn publish_certificates(&self, leaves: &Leaves) {
        let certificates = inventory(&self.identity.roots, leaves);
        self.publishers
            .identity
            .send_modify(|report| report.certificates = certificates);
    }
}

fn hand_over_etcd_start(handover: &Handover, start: EtcdStart) {
    if let Err(error) = keep_etcd_start(handover, start) {
        let error = with_sources(&error);
        tracing::error!(%error, "a new supervisor will need the disks to know how etcd starts");
    }
}

/// Records that etcd has served. Nobody waits for the disk: that it served is known in this boot anyway.
fn confirm_start() {
    hand_over_etcd_start(&Handover::of_this_boot(), EtcdStart::Existing);
    tokio::task::spawn_blocking(|| {
        if let Err(problem) = confirm_started(Path::new(STATE)) {
            tracing::error!(%problem, "STATE does not record that etcd has served");
        }
    });
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
