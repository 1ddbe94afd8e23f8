//! One task for each listed peer: keeps a connection to it, sends it what waits, and says how it stands.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_peer_protocol::{RefusalCode, Route, Standing};
use masthead_pki::Trust;
use tokio::sync::{Notify, watch};

use super::dial::{DialError, Session};
use super::report::Connected;
use super::settings::Listed;
use super::tls::Identities;
use super::trust::{Certified, Distrust};
use super::{GREET_EVERY, OUTBOX, Outgoing, Shared};
use crate::error_chain::with_sources;

/// The first and the longest pause between two calls of a peer that does not answer, on a real machine.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Messages that wait for a peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<(Mutex<VecDeque<Outgoing>>, Notify)>);

impl Outbox {
    /// Adds a message; beyond the bound, the oldest goes.
    pub(super) fn push(&self, message: Outgoing) {
        let (waiting, filled) = &*self.0;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == OUTBOX {
            waiting.pop_front();
        }
        waiting.push_back(message);
        drop(waiting);
        filled.notify_one();
    }

    fn pop(&self) -> Option<Outgoing> {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    /// Waits for a message.
    async fn next(&self) -> Outgoing {
        loop {
            if let Some(message) = self.pop() {
                return message;
            }
            self.0.1.notified().await;
        }
    }
}

/// Keeps a connection to a listed peer for ever.
pub(super) async fn run(shared: Arc<Shared>, listed: Listed, outbox: Outbox) {
    let scale = shared.settings.scale;
    let to = SocketAddr::new(listed.address, shared.settings.port);
    let mut changes = shared.identities.subscribe();
    let mut pause = scale * PAUSES.0;
    loop {
        let identities = changes.borrow_and_update().clone();
        let client = Client {
            shared: &shared,
            listed: &listed,
            outbox: &outbox,
            identities: &identities,
        };
        match client.connect(to).await {
            Ok(session) => {
                pause = scale * PAUSES.0;
                if let Some(error) = client.converse(session, &mut changes).await {
                    client.report(None, Some(client.trouble(&error)));
                }
            }
            Err(error) => client.report(None, Some(client.trouble(&error))),
        }
        let called = async {
            match shared.calls.get(&listed.address) {
                Some(called) => called.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = changes.changed() => {}
            () = called => {}
        }
        pause = (pause * 2).min(scale * PAUSES.1);
    }
}

/// A client while what the node is does not change.
struct Client<'a> {
    shared: &'a Shared,
    listed: &'a Listed,
    outbox: &'a Outbox,
    identities: &'a Identities,
}

impl Client<'_> {
    /// Calls the peer as a member if this node is one, or is about to be; when the peer is none of the same cluster, as one
    /// who has the seed, which is enough to learn what the peer is, and to found another cluster with it.
    async fn connect(&self, to: SocketAddr) -> Result<Session, DialError> {
        if self.identities.member.is_some() {
            match Session::open(self.shared, self.identities, to, Trust::Member).await {
                Err(DialError::Distrusted(Distrust::NotMember)) => {}
                // Two that hold different plans, of which a newer one may yet replace the other.
                Err(DialError::Distrusted(Distrust::OtherMember { .. }))
                    if !self.identities.access.is_member() => {}
                opened => return opened,
            }
        }
        Session::open(self.shared, self.identities, to, Trust::Join).await
    }

    /// Sends what waits and greets now and then, until the connection ends (why is returned) or should be another one.
    async fn converse(
        &self,
        mut session: Session,
        changes: &mut watch::Receiver<Arc<Identities>>,
    ) -> Option<DialError> {
        let every = self.shared.settings.scale * GREET_EVERY;
        let begun = Timestamp::now();
        loop {
            let known = self.introduce(&session, begun);
            let standing = session.greeting.standing.clone();
            let said = tokio::select! {
                message = self.outbox.next(), if known => {
                    if message.only.is_some_and(|key| key != session.certified.key) {
                        continue;
                    }
                    session.post(self.shared, Route::Formation, message.bytes).await.map(drop)
                }
                () = tokio::time::sleep(every) => session.greet(self.shared, self.identities).await,
                _ = changes.changed() => {
                    changes.mark_changed();
                    return None;
                }
            };
            match said {
                Ok(()) => {}
                // The peer is there and does not take it now, or takes it from nobody any more: ask what it is.
                Err(DialError::Refused(_)) => {
                    if let Err(error) = session.greet(self.shared, self.identities).await {
                        return Some(error);
                    }
                }
                Err(error) => return Some(error),
            }
            // It may have another certificate now.
            if session.greeting.standing != standing {
                return None;
            }
        }
    }

    /// Reports a peer that answers, and returns whether it is one to send messages to.
    fn introduce(&self, session: &Session, begun: Timestamp) -> bool {
        let Certified {
            trust,
            subject,
            key,
        } = &session.certified;
        let connected = Connected {
            subject: subject.clone(),
            key: *key,
            trust: *trust,
            version: session.version,
            standing: session.greeting.standing.clone(),
            since: begun,
        };
        let access = &self.identities.access;
        let known = access.knows(*trust, subject, *key);
        let (name, address) = (&self.listed.name, self.listed.address);
        let reason = |code, cause| Reason::new(code, Timestamp::now()).with_cause(cause);
        let reason = match (&connected.standing, known) {
            // One of both is still reading what it is.
            (Standing::Unknown, _) | (_, Err(RefusalCode::Busy)) => None,
            (_, Err(RefusalCode::NotPinned)) => Some(reason(
                ReasonCode::PeerOtherKey,
                format!(
                    "{name} at {address} has another key than the one that this node knows it by."
                ),
            )),
            (Standing::Member { cluster }, _) if !access.is_member() => Some(reason(
                ReasonCode::PeerIsMember,
                format!(
                    "{name} at {address} is a member of the founded cluster \"{}\" ({cluster}); this node belongs to none.",
                    self.shared.settings.cluster
                ),
            )),
            (_, Err(_)) => Some(reason(
                ReasonCode::PeerNotMember,
                format!("{name} at {address} does not belong to this cluster."),
            )),
            _ => None,
        };
        // A founded cluster takes no message of formation from one who has only the seed.
        let takes_messages = known.is_ok()
            && (*trust == Trust::Member || !matches!(connected.standing, Standing::Member { .. }));
        self.report(Some(connected), reason);
        takes_messages
    }

    fn report(&self, connected: Option<Connected>, reason: Option<Reason>) {
        self.shared
            .reports
            .peer(self.listed.address, connected, reason);
    }

    /// What keeps this node from talking to the peer.
    fn trouble(&self, error: &DialError) -> Reason {
        let (name, address) = (&self.listed.name, self.listed.address);
        let (code, cause) = match error {
            DialError::Distrusted(distrust) => {
                (distrust.code(), format!("{name} at {address} {distrust}."))
            }
            DialError::Version(versions) => (
                ReasonCode::PeerNoCommonVersion,
                format!("{name} at {address}: {versions}."),
            ),
            DialError::Refused(_) | DialError::Malformed => (
                ReasonCode::PeerUntrusted,
                format!("{name} at {address}: {error}."),
            ),
            DialError::Connect(_)
            | DialError::Tls(_)
            | DialError::Exchange(_)
            | DialError::Late(_)
            | DialError::NoMember => (
                ReasonCode::PeerUnreachable,
                format!(
                    "{name} does not answer at {address}: {}.",
                    with_sources(error)
                ),
            ),
        };
        Reason::new(code, Timestamp::now()).with_cause(cause)
    }
}
