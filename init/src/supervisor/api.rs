//! The management API, from the moment on when the node knows its seed.
//!
//! Operators get in by their keys, which the seed names, so that a node can be asked why it has no cluster yet. But their
//! certificates, and the server's own, come from the cluster's authority for operators, which is made when the
//! cluster is founded. Until then a *provisional* one stands for it: made in memory, for this node and this boot. It
//! opens nothing but this API while the node is no member.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use masthead_api::routes;
use masthead_control_plane::subject_names;
use masthead_machine::Scale;
use masthead_pki::{Authority, AuthorityKind, Purpose, Secret, issue};
use masthead_seed::{Master, Seed};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::board::{IdentityReport, Shared};
use super::boot::any_address;
use crate::error_chain::with_sources;
use crate::identity::Handover;
use crate::listeners::Listeners;
use crate::management::{self, Commands, Identity, Issuers, Server};

/// How long a node may take to find out that it is a member, on a real machine: operators of a cluster see its
/// provisional authority only when there is something to ask.
const PROVISIONAL_AFTER: Duration = Duration::from_secs(2);

/// The name under which the provisional authority is handed over.
const PROVISIONAL: &str = "provisional-authority.json";

/// What the API follows from.
pub(super) struct Api {
    pub(super) seed: Arc<Seed>,
    pub(super) master: Arc<Master>,
    pub(super) board: Shared,
    pub(super) identity: watch::Sender<IdentityReport>,
    pub(super) commands: Commands,
    pub(super) listeners: Listeners,
    pub(super) scale: Scale,
}

/// The way to it.
#[derive(Clone)]
pub(super) struct Handle(watch::Sender<Option<Arc<Identity>>>);

impl Handle {
    /// From now on the API is the cluster's.
    pub(super) fn found(&self, identity: Arc<Identity>) {
        self.0.send_replace(Some(identity));
    }
}

impl Api {
    /// Starts it on the current runtime.
    pub(super) fn spawn(self) -> Handle {
        let (sender, founded) = watch::channel(None);
        tokio::spawn(self.run(founded));
        Handle(sender)
    }

    async fn run(self, mut founded: watch::Receiver<Option<Arc<Identity>>>) {
        let listeners = self.listeners.clone();
        let (address, board) = (self.address(routes::METRICS_PORT), self.board.clone());
        let scale = self.scale;
        tokio::spawn(async move {
            let listener = listeners.listen(address, scale).await;
            management::metrics::serve(listener, board, scale).await;
        });
        let first = match self.founded_soon(&mut founded).await {
            Some(identity) => identity,
            None => match self.provisional() {
                Ok(identity) => Arc::new(identity),
                Err(error) => {
                    tracing::error!("the API waits until this node is a member: {error:#}");
                    let found = founded.wait_for(Option::is_some).await;
                    match found.ok().and_then(|identity| identity.clone()) {
                        Some(identity) => identity,
                        None => return,
                    }
                }
            },
        };
        self.publish(&first);
        let (sender, identity) = watch::channel(first);
        let board = Arc::clone(&self.board);
        let server = Server::new(identity, board, self.commands.clone(), scale);
        let (listeners, address) = (self.listeners.clone(), self.address(routes::PORT));
        tokio::spawn(async move {
            server.serve(listeners.listen(address, scale).await).await;
        });
        loop {
            let current = founded.borrow_and_update().clone();
            if let Some(identity) = current {
                self.publish(&identity);
                sender.send_replace(identity);
            }
            if founded.changed().await.is_err() {
                return;
            }
        }
    }

    fn address(&self, port: u16) -> SocketAddr {
        any_address(&self.master, port)
    }

    async fn founded_soon(
        &self,
        founded: &mut watch::Receiver<Option<Arc<Identity>>>,
    ) -> Option<Arc<Identity>> {
        let soon = founded.wait_for(Option::is_some);
        let found = tokio::time::timeout(self.scale * PROVISIONAL_AFTER, soon).await;
        found.ok()?.ok()?.clone()
    }

    fn publish(&self, identity: &Identity) {
        let (fingerprint, provisional) = (identity.fingerprint(), identity.is_provisional());
        self.identity.send_modify(|report| {
            report.fingerprint = Some(fingerprint);
            report.provisional = provisional;
        });
    }

    /// That of a node which is no member, or does not know it.
    fn provisional(&self) -> anyhow::Result<Identity> {
        let operators = provisional_authority(&Handover::of_this_boot(), &self.master.name)?;
        let purpose = Purpose::ManagementServer;
        let names = subject_names(purpose, &self.seed, &self.master);
        let leaf = issue(purpose, &names, &operators, OffsetDateTime::now_utc())
            .context("issue a provisional certificate")?;
        let issuers = Issuers {
            operators,
            kubernetes: None,
            admins: self.seed.admins.clone(),
            image_keys: self.seed.image_keys.clone(),
            cluster: self.seed.cluster.clone(),
            node: self.master.name.clone(),
            kubernetes_server: kubernetes_server(&self.seed),
        };
        Identity::new(&leaf, issuers).context("serve with a provisional certificate")
    }
}

/// Where the apiserver is for kubectl.
pub(super) fn kubernetes_server(seed: &Seed) -> String {
    format!("https://{}", seed.endpoint)
}

/// PEM.
#[derive(Serialize, Deserialize)]
struct Kept {
    certificate: String,
    key: String,
}

/// The provisional authority of this boot: an earlier supervisor's, or a new one.
fn provisional_authority(handover: &Handover, node: &str) -> anyhow::Result<Authority> {
    let kind = AuthorityKind::Operators;
    let kept = handover.read(PROVISIONAL);
    let kept: Option<Kept> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(kept) = kept
        && let Ok(authority) = Authority::parse(kind, &kept.certificate, &Secret::new(kept.key))
    {
        return Ok(authority);
    }
    let name = format!("provisional {node}");
    let authority = Authority::generate(kind, &name, OffsetDateTime::now_utc())
        .context("make a provisional authority for operators")?;
    let kept = Kept {
        certificate: authority.certificate_pem().to_owned(),
        key: String::from_utf8_lossy(authority.key_pem().expose()).into_owned(),
    };
    let text = serde_json::to_vec(&kept)?;
    if let Err(error) = handover.keep(PROVISIONAL, &text) {
        let error = with_sources(&error);
        tracing::error!(%error, "a new supervisor will have another provisional authority");
    }
    Ok(authority)
}
