//! How masters talk to each other: HTTP over mutual TLS 1.3 on port 9442, a server and one client for each listed peer.
//!
//! - [`settings`]: who this node is and whom its seed lists;
//! - [`access`]: what it shows and whom it lets in, exchanged as a whole when it is founded;
//! - `trust`: what a shown certificate proves, or why it proves nothing;
//! - `tls`: the two identities, chosen by server name;
//! - `admission`: how many connections an address may hold; `server`, `conversation`: those who call;
//! - `dial`, `client`: those who are called;
//! - [`report`]: how it stands with each peer, with a reason code where it does not stand well.
//!
//! It carries bytes and takes no decision of the cluster's: those are the formation machine's. Everything is best effort; who
//! needs more says it again.

pub mod access;
pub mod report;
pub mod settings;

mod admission;
mod client;
mod conversation;
mod dial;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod trust;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use masthead_peer_protocol::{Route, Version};
use masthead_pki::{PeerFingerprint, PeerSubject, Trust};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use access::{Access, Membership};
pub use dial::{AskError, Line};
pub use report::{Connected, PeerReport, Report};
pub use settings::{Listed, Settings};
pub use tls::UnusableIdentity;

use report::Reports;
use tls::Identities;

/// How long a peer has for each step (a connection with its greeting, a message, an answer), on a real machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a peer that is not sent anything is greeted again, on a real machine: whether it is there, and what it is now.
const GREET_EVERY: Duration = Duration::from_secs(2);

/// Messages that wait for the receiver, over all peers. A caller beyond that waits its turn, one message for each of its
/// connections, so that one who floods delays nobody by more than that.
const INBOX: usize = 16;

/// Messages that wait for a peer; the oldest goes first.
const OUTBOX: usize = 16;

/// Who is at the other end, as TLS has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Machine id and name, by its certificate.
    pub subject: PeerSubject,
    /// Its key.
    pub key: PeerFingerprint,
    /// What its certificate proves.
    pub trust: Trust,
    /// Where it called from.
    pub address: SocketAddr,
    /// The version of the protocol that it is spoken to in.
    pub version: Version,
}

/// A message of a peer's formation machine.
#[derive(Debug)]
pub struct Received {
    /// Whose.
    pub from: Peer,
    /// The message.
    pub bytes: Bytes,
}

/// A peer's question.
#[derive(Debug)]
pub struct Question {
    /// Whose.
    pub from: Peer,
    /// For what.
    pub route: Route,
    /// Its body.
    pub bytes: Bytes,
    /// Takes the answer. When it is dropped, the peer is told to try again later.
    pub answer: oneshot::Sender<Bytes>,
}

/// What comes in.
#[derive(Debug)]
pub struct Inbox {
    /// Messages of formation machines.
    pub formation: mpsc::Receiver<Received>,
    /// Questions of members.
    pub questions: mpsc::Receiver<Question>,
}

/// Where what comes in is put.
#[derive(Clone, Debug)]
struct Sinks {
    formation: mpsc::Sender<Received>,
    questions: mpsc::Sender<Question>,
}

/// A message on its way out.
#[derive(Debug)]
struct Outgoing {
    /// The key of the only one who may have it.
    only: Option<PeerFingerprint>,
    bytes: Bytes,
}

/// What server, clients and handle share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    identities: watch::Sender<Arc<Identities>>,
    reports: Reports,
    /// Calls of listed peers, by address: one who calls can be called.
    calls: BTreeMap<IpAddr, Notify>,
}

/// The way to the peers; cheap to clone. The transport ends with the runtime.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    outboxes: Arc<BTreeMap<IpAddr, client::Outbox>>,
}

/// Starts the transport. Fails only when the node's own key cannot be used.
pub fn spawn(
    listener: TcpListener,
    settings: Settings,
    access: Access,
) -> Result<(Handle, Inbox), UnusableIdentity> {
    let identities = Arc::new(Identities::new(&settings, access)?);
    let (formation_sink, formation) = mpsc::channel(INBOX);
    let (question_sink, questions) = mpsc::channel(INBOX);
    let sinks = Sinks {
        formation: formation_sink,
        questions: question_sink,
    };
    let addresses = || settings.listed.iter().map(|listed| listed.address);
    let outboxes: BTreeMap<_, _> = addresses()
        .map(|address| (address, client::Outbox::default()))
        .collect();
    let shared = Arc::new(Shared {
        identities: watch::channel(identities).0,
        reports: Reports::new(&settings.listed),
        calls: addresses()
            .map(|address| (address, Notify::new()))
            .collect(),
        settings,
    });
    for listed in &shared.settings.listed {
        let outbox = outboxes[&listed.address].clone();
        tokio::spawn(client::run(Arc::clone(&shared), listed.clone(), outbox));
    }
    tokio::spawn(server::serve(Arc::clone(&shared), listener, sinks));
    let handle = Handle {
        shared,
        outboxes: Arc::new(outboxes),
    };
    Ok((
        handle,
        Inbox {
            formation,
            questions,
        },
    ))
}

impl Handle {
    /// Sends a message to the formation machine of the listed peer at that address, best effort: of those that wait, the
    /// oldest are dropped. With `only`, nobody gets it but the peer with that key.
    pub fn send(&self, to: IpAddr, only: Option<PeerFingerprint>, bytes: impl Into<Bytes>) {
        if let Some(outbox) = self.outboxes.get(&to) {
            outbox.push(Outgoing {
                only,
                bytes: bytes.into(),
            });
        }
    }

    /// Asks the member at that address, over a connection of its own.
    pub async fn ask(
        &self,
        to: SocketAddr,
        route: Route,
        question: impl Into<Bytes>,
    ) -> Result<Bytes, AskError> {
        self.line(to).ask(route, question.into()).await
    }

    /// A way to a member for many questions. It connects with the first one.
    pub fn line(&self, to: SocketAddr) -> Line {
        Line::new(Arc::clone(&self.shared), to)
    }

    /// What the node shows and whom it lets in from now on: also to connections that there are.
    pub fn set_access(&self, access: Access) -> Result<(), UnusableIdentity> {
        let identities = Identities::new(&self.shared.settings, access)?;
        self.shared.identities.send_replace(Arc::new(identities));
        Ok(())
    }

    /// How it stands with each listed peer, and who called in vain.
    pub fn watch(&self) -> watch::Receiver<Report> {
        self.shared.reports.watch()
    }

    /// The node's own key, as its peers know it.
    pub fn fingerprint(&self) -> PeerFingerprint {
        self.shared.settings.key.fingerprint()
    }
}
