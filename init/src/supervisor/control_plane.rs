//! From an identity to running services, and keeping them configured: leaves are renewed while they run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use masthead_api::ReasonCode;
use masthead_control_plane::{
    APISERVER_PORT, Component, ETCD_CLIENT_PORT, EtcdStart, subject_names,
};
use masthead_lifecycle::Phase;
use masthead_pki::{AuthorityKind, Leaves, Purpose};
use masthead_seed::{Master, Seed};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::addresses;
use super::api;
use super::board::{Publishers, Shared};
use super::boot::{STATE, TRY_AGAIN, wait_for};
use super::condition;
use super::deployment::Deployment;
use super::space;
use crate::etcd::{Credentials, Members, Observer};
use crate::formation;
use crate::identity::{Handover, Identity, Keeper, Problem, inventory, keep_bootstrap_applied};
use crate::management::{self, Issuers};
use crate::node::NodeOptions;
use crate::operators;
use crate::services::{self, AdoptedExits, Managed};
use crate::vip;

/// Where the services' driver keeps what its successor must know.
const RECORDS: &str = "/run/masthead/services";

/// What it takes to run the control plane.
pub(super) struct ControlPlaneTask {
    pub(super) node: NodeOptions,
    pub(super) deciding: vip::Deciding,
    pub(super) board: Shared,
    pub(super) publishers: Publishers,
    pub(super) seed: Arc<Seed>,
    pub(super) master: Arc<Master>,
    pub(super) identity: Arc<Identity>,
    pub(super) api: api::Handle,
    pub(super) formation: formation::Handle,
}

impl ControlPlaneTask {
    /// Starts the services, etcd as `etcd_start` says, and keeps them and the API configured for ever.
    pub(super) async fn run(
        self,
        mut etcd_start: EtcdStart,
        exits: AdoptedExits,
        groups: watch::Sender<Option<services::Handle>>,
    ) {
        let mut leaves = self.leaves().await;
        self.api.found(self.management_identity(&leaves).await);
        self.publish_certificates(&leaves);
        let (leaves_sender, mut renewed) = watch::channel(Arc::clone(&leaves));
        let credentials = Credentials {
            roots: Arc::clone(&self.identity.roots),
            leaves: renewed.clone(),
        };
        let members = Arc::new(self.members(credentials.clone()));
        self.board.set_members(Arc::clone(&members));
        tokio::spawn(space::keep(
            Arc::clone(&self.board),
            self.publishers.space.clone(),
        ));
        tokio::spawn(operators::follow(members, self.publishers.enrolled.clone()));
        tokio::spawn(self.observer(credentials).run(self.publishers.etcd.clone()));
        tokio::spawn(self.keeper().run(leaves_sender));

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
        self.drive_addresses(&managed);
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
                    self.api.found(self.management_identity(&leaves).await);
                }
                () = wait_until_ready(&handle, Component::Etcd), if !etcd_has_served => {
                    // Should it start again, it is to find its data or not to start at all.
                    etcd_has_served = true;
                    etcd_start = EtcdStart::Existing;
                    self.formation.etcd_served().await;
                }
            }
            if let Err(error) = deployment.renew(&leaves, etcd_start, &handle) {
                tracing::error!(
                    "a changed configuration cannot be handed to the services: {error:#}"
                );
            }
        }
    }

    /// From now on, for as long as the supervisor runs.
    fn drive_addresses(&self, services: &[Managed]) {
        let Self {
            seed,
            node,
            board,
            publishers,
            ..
        } = self;
        addresses::spawn(seed, node, self.deciding, board, publishers, services);
    }

    fn members(&self, credentials: Credentials) -> Members {
        let masters = self.seed.masters.iter();
        let addresses = masters.map(|master| (master.name.clone(), master.address));
        Members {
            own: self.master.name.clone(),
            addresses: addresses.collect(),
            names: self.identity.names.clone(),
            port: ETCD_CLIENT_PORT,
            credentials,
            scale: self.node.scale,
        }
    }

    fn observer(&self, credentials: Credentials) -> Observer {
        Observer {
            address: SocketAddr::new(self.master.address, ETCD_CLIENT_PORT),
            credentials,
            names: self.identity.names.clone(),
            scale: self.node.scale,
            ask: Arc::clone(&self.publishers.ask_etcd),
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
        let endpoint = api::kubernetes_server(&self.seed);
        loop {
            let issuers = Issuers {
                operators: self
                    .identity
                    .roots
                    .authority(AuthorityKind::Operators)
                    .clone(),
                kubernetes: Some(
                    self.identity
                        .roots
                        .authority(AuthorityKind::Kubernetes)
                        .clone(),
                ),
                admins: self.seed.admins.clone(),
                image_keys: self.seed.image_keys.clone(),
                cluster: self.seed.cluster.clone(),
                node: self.master.name.clone(),
                kubernetes_server: endpoint.clone(),
            };
            match management::Identity::new(leaves.get(Purpose::ManagementServer), issuers) {
                Ok(identity) => return Arc::new(identity),
                Err(error) => wait_for(&self.publishers, unexpected(&anyhow::Error::new(error))),
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

/// A fault that the node cannot explain better than by its words.
fn unexpected(error: &anyhow::Error) -> Problem {
    Problem {
        code: ReasonCode::ServiceStartFailed,
        cause: format!("The control plane cannot be started: {error:#}."),
        remedy: "The node tries again. If it stays so, reboot it; if it comes back, report it with this message."
            .to_owned(),
    }
}
