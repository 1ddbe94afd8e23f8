//! What the owner of an address and the other masters tell each other, several times a second: the owner, who its clients are; each other
//! one, whether its apiserver can serve.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use masthead_machine::Scale;
use masthead_peer_protocol::{PORT, Route};
use masthead_seed::Endpoint;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::connections;
use crate::error_chain::with_sources;
use crate::peer;

/// Between two questions, on a real machine. A word that an apiserver can serve counts for a second.
const EVERY: Duration = Duration::from_millis(300);

/// Clients that are told of, over all addresses: in JSON they fit into a message of the peer protocol. Of more, the rest notices its owner's
/// death by its own keepalive.
const MOST_CLIENTS: usize = 4096;

/// What the owner says. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Who is connected to each address that it owns.
    #[serde(default)]
    pub clients: BTreeMap<IpAddr, Vec<SocketAddr>>,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether that master could own an address now, and its apiserver serve.
    pub ready: bool,
}

/// What the owners of the cluster's addresses have said last.
#[derive(Debug)]
pub(super) struct Heard(Mutex<BTreeMap<IpAddr, Vec<SocketAddr>>>);

impl Heard {
    /// Nothing yet, of these addresses. What is said of others is not kept.
    pub(super) fn of(addresses: &[IpAddr]) -> Self {
        let nothing = addresses.iter().map(|address| (*address, Vec::new()));
        Self(Mutex::new(nothing.collect()))
    }

    /// Says who is told of: the addresses.
    fn take(&self, question: Question) -> Vec<IpAddr> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = MOST_CLIENTS / heard.len().max(1);
        let mut owned = Vec::new();
        for (address, mut clients) in question.clients {
            if let Some(known) = heard.get_mut(&address) {
                clients.truncate(limit);
                *known = clients;
                owned.push(address);
            }
        }
        owned
    }

    /// The clients of whoever owned the address before, as far as it told of them. They are told once.
    pub(super) fn take_clients(&self, address: IpAddr) -> Vec<SocketAddr> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .get_mut(&address)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

/// What is said to every other master, numbered.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    number: u64,
    text: Bytes,
}

/// Has the other masters told of the clients at once.
#[derive(Clone, Debug)]
pub(super) struct Teller(mpsc::Sender<Ask>);

/// Where that is asked for.
pub(super) type Asked = mpsc::Receiver<Ask>;

/// Of an address, which this node may be letting go of already.
#[derive(Debug)]
pub(super) struct Ask {
    address: IpAddr,
    reply: oneshot::Sender<bool>,
}

impl Teller {
    /// And the end at which it is heard.
    pub(super) fn new() -> (Self, Asked) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Whether another master knows all clients of the address now.
    pub(super) async fn tell_now(&self, address: IpAddr) -> bool {
        let (reply, told) = oneshot::channel();
        let asked = self.0.send(Ask { address, reply }).await;
        asked.is_ok() && told.await.unwrap_or(false)
    }
}

/// How long it may take, on a real machine, to tell masters that are there.
const TO_TELL: Duration = Duration::from_millis(100);

/// Looks at the clients of the addresses that this node owns, for as long as anybody listens.
pub(super) async fn look_at_clients(
    mut owned: watch::Receiver<Vec<IpAddr>>,
    publisher: watch::Sender<Said>,
    mut asked: Asked,
    mut told: Vec<watch::Receiver<u64>>,
    scale: Scale,
) {
    let mut waits: Option<Ask> = None;
    for number in 1.. {
        let mut addresses = owned.borrow_and_update().clone();
        let also = waits.as_ref().map(|ask| ask.address);
        addresses.extend(also.filter(|also| !addresses.contains(also)));
        if addresses.is_empty() {
            tokio::select! {
                changed = owned.changed() => if changed.is_err() { return },
                Some(ask) = asked.recv() => waits = Some(ask),
                () = publisher.closed() => return,
            }
            continue;
        }
        let question = Question {
            clients: clients_of(&addresses),
        };
        let limit = MOST_CLIENTS / addresses.len().max(1);
        let all = question
            .clients
            .values()
            .all(|clients| clients.len() < limit);
        let text = serde_json::to_vec(&question).unwrap_or_default().into();
        publisher.send_replace(Said { number, text });
        if let Some(Ask { reply, .. }) = waits.take() {
            let known = all && one_was_told(&mut told, number, scale).await;
            // Who asked may have given up.
            let _ = reply.send(known);
        }
        tokio::select! {
            () = tokio::time::sleep(scale * EVERY) => {}
            Some(ask) = asked.recv() => waits = Some(ask),
            () = publisher.closed() => return,
        }
    }
}

/// Waits until all others were told, or for as long as that takes with those that answer. Whether there is one at least.
async fn one_was_told(told: &mut [watch::Receiver<u64>], number: u64, scale: Scale) -> bool {
    let deadline = tokio::time::Instant::now() + scale * TO_TELL;
    let mut one = false;
    for other in told {
        let heard = other.wait_for(|heard| *heard >= number);
        let heard = tokio::time::timeout_at(deadline, heard).await;
        one |= matches!(heard, Ok(Ok(_)));
    }
    one
}

fn clients_of(addresses: &[IpAddr]) -> BTreeMap<IpAddr, Vec<SocketAddr>> {
    let limit = MOST_CLIENTS / addresses.len().max(1);
    let each = addresses.iter().map(|address| {
        let local = SocketAddr::new(*address, Endpoint::VIRTUAL_PORT);
        let clients = connections::clients(local, limit).unwrap_or_else(|error| {
            tracing::warn!(%address, %error, "the clients of a virtual address are not known");
            Vec::new()
        });
        let remotes = clients.into_iter().map(|client| client.remote);
        (*address, remotes.collect())
    });
    each.collect()
}

/// Tells another master of the clients, and tells `ready` whenever that one says that it can serve: for as long as there are clients to be
/// told of, which is while this node owns an address.
pub(super) async fn talk_to(
    peers: peer::Handle,
    master: IpAddr,
    mut said: watch::Receiver<Said>,
    told: watch::Sender<u64>,
    ready: impl Fn(),
) {
    let mut line = peers.line(SocketAddr::new(master, PORT));
    while said.changed().await.is_ok() {
        let Said { number, text } = said.borrow_and_update().clone();
        match line.ask(Route::Address, text).await {
            Ok(answer) => {
                told.send_replace(number);
                let answer: Option<Answer> = serde_json::from_slice(&answer).ok();
                if answer.is_some_and(|answer| answer.ready) {
                    ready();
                }
            }
            Err(error) => {
                let error = with_sources(&error);
                tracing::debug!(%master, error, "a master is not told of the clients");
            }
        }
    }
}

/// Answers the owner, and says of which addresses it is that.
pub(super) fn answer(heard: &Arc<Heard>, ready: bool, question: &[u8]) -> (Answer, Vec<IpAddr>) {
    let owned = match serde_json::from_slice(question) {
        Ok(question) => heard.take(question),
        Err(error) => {
            tracing::debug!(%error, "what the owner of an address says is not understood");
            Vec::new()
        }
    };
    (Answer { ready }, owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_with_all_clients_fits_into_a_message() {
        let client: SocketAddr = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535"
            .parse()
            .unwrap();
        let address = "2001:db8::1".parse().unwrap();
        let question = Question {
            clients: [(address, vec![client; MOST_CLIENTS])].into(),
        };
        let length = serde_json::to_vec(&question).unwrap().len();
        assert!(length < masthead_peer_protocol::MAX_MESSAGE, "{length}");
    }

    #[test]
    fn clients_are_told_once_and_the_newest_word_counts() {
        let address: IpAddr = "10.0.0.9".parse().unwrap();
        let heard = Arc::new(Heard::of(&[address]));
        for port in [1, 2] {
            let said = format!(r#"{{"clients":{{"10.0.0.9":["10.0.0.1:{port}"]}},"new":3}}"#);
            let ready = port == 2;
            let said = answer(&heard, ready, said.as_bytes());
            assert_eq!(said, (Answer { ready }, vec![address]));
        }
        assert!(answer(&heard, true, b"nothing").1.is_empty());
        assert_eq!(heard.take_clients(address), ["10.0.0.1:2".parse().unwrap()]);
        assert_eq!(heard.take_clients(address), []);
    }

    #[test]
    fn of_a_lying_master_no_more_is_kept_than_of_an_honest_one() {
        let addresses: [IpAddr; 2] = ["10.0.0.8", "10.0.0.9"].map(|text| text.parse().unwrap());
        let heard = Arc::new(Heard::of(&addresses));
        let client: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let other: IpAddr = "10.0.0.7".parse().unwrap();
        let question = Question {
            clients: [(addresses[0], vec![client; 9999]), (other, vec![client])].into(),
        };
        let said = serde_json::to_vec(&question).unwrap();
        assert_eq!(answer(&heard, true, &said).1, [addresses[0]]);
        assert_eq!(heard.take_clients(addresses[0]).len(), MOST_CLIENTS / 2);
        assert_eq!(heard.take_clients(other), []);
    }
}
