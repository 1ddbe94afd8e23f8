//! The node among its peers: starts the transport, says what the node is, and answers members.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use masthead_machine::Scale;
use masthead_pki::{AuthorityKind, PeerAuthority};
use masthead_seed::{Master, Seed};
use tokio::sync::mpsc;

use super::board::{Publishers, Shared};
use crate::identity::{Identity, Introduction};
use crate::listeners::Listeners;
use crate::peer::{self, Access, Handle, Membership, Question, Settings};

/// Starts talking to the peers, as a node that has not read yet what it is.
pub(super) async fn start(
    seed: &Seed,
    master: &Master,
    introduction: &Introduction,
    scale: Scale,
    listeners: &Listeners,
    board: &Shared,
    publishers: &Publishers,
) -> anyhow::Result<Handle> {
    let settings = Settings::of_seed(
        seed,
        master,
        &introduction.machine_id,
        Arc::clone(&introduction.peer_key),
        scale,
    )
    .context("derive the join authority from the seed's secret")?;
    let any: IpAddr = match master.address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let listener = listeners
        .listen(SocketAddr::new(any, settings.port), scale)
        .await;
    let (handle, inbox) = peer::spawn(listener, settings, Access::Undecided)?;
    tokio::spawn(answer(inbox.questions, Arc::clone(board)));
    let (mut reports, publisher) = (handle.watch(), publishers.peers.clone());
    tokio::spawn(async move {
        loop {
            publisher.send_replace(reports.borrow_and_update().clone());
            if reports.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(handle)
}

/// What a member shows to its peers, and whom it lets in.
pub(super) fn membership(identity: &Identity) -> Access {
    let authority = identity.roots.authority(AuthorityKind::Peers);
    Access::Member(Membership {
        cluster_id: identity.cluster_id.clone(),
        authority: PeerAuthority::member(authority),
        members: identity
            .members
            .iter()
            .map(|member| (member.machine_id.clone(), None))
            .collect(),
    })
}

/// Answers members' questions. The only one is for the node's status.
async fn answer(mut questions: mpsc::Receiver<Question>, board: Shared) {
    while let Some(question) = questions.recv().await {
        match serde_json::to_vec(&board.status()) {
            Ok(status) => {
                // A member that is gone needs no answer.
                let _ = question.answer.send(status.into());
            }
            Err(error) => tracing::error!(%error, "the status cannot be written as JSON"),
        }
    }
}
