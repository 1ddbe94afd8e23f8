//! The keys of an address in etcd: transactions, reads and a watch, all by this node's own member.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Error, Event, EventType, GetOptions, GetResponse, ResponseHeader, TxnOpResponse,
    WatchOptions,
};
use masthead_vip::{Change, Decision, Seen, Version};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::keys::Keys;
use super::record;
use crate::etcd::Members;

/// How long the member is left alone after a watch has ended, on a real machine.
const PAUSE: Duration = Duration::from_millis(100);

/// How long it may take for a look at its own state, on a real machine.
const TO_LOOK: Duration = Duration::from_secs(1);

/// The keys of one address.
pub struct Store {
    members: Arc<Members>,
    keys: Keys,
    /// A connection that works: one that failed is not used again.
    client: Mutex<Option<Client>>,
}

impl Store {
    /// Of that address.
    pub fn new(members: Arc<Members>, address: IpAddr) -> Self {
        Self {
            members,
            keys: Keys::of(address),
            client: Mutex::default(),
        }
    }

    /// Makes the change if all is as expected, and says what became of it, in that time.
    pub async fn transact(
        &self,
        expected: Version,
        change: &Change,
        patience: Duration,
    ) -> Decision {
        let Some(question) = self.keys.transaction(expected, change) else {
            return Decision::Unanswered;
        };
        let decided = async {
            let mut client = self.client().await?;
            let answer = client.txn(question).await?;
            self.keep(client).await;
            Ok::<_, Error>(answer)
        };
        let answer = match timeout(patience, decided).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if is_no_space(&error) => return Decision::NoSpace,
            Ok(Err(_)) | Err(_) => return Decision::Unanswered,
        };
        let as_of = answer.header().map_or(0, ResponseHeader::revision);
        if answer.succeeded() {
            return Decision::Done(as_of);
        }
        match answer.op_responses().first() {
            Some(TxnOpResponse::Get(found)) => Decision::Refused(self.keys.seen(found, as_of)),
            _ => Decision::Unanswered,
        }
    }

    /// Reads the keys by the word of a majority, in that time.
    pub async fn read(&self, patience: Duration) -> Option<Seen> {
        let options = GetOptions::new().with_range(self.keys.end());
        let read = async {
            let mut client = self.client().await?;
            let answer = client.get(self.keys.record(), Some(options)).await?;
            self.keep(client).await;
            Ok::<_, Error>(answer)
        };
        let answer = timeout(patience, read).await.ok()?.ok()?;
        Some(self.keys.seen(&answer, revision(&answer)))
    }

    /// Tells every change that the member shows, until nobody listens.
    pub async fn follow(&self, changes: mpsc::Sender<Seen>) {
        while !changes.is_closed() {
            // On the heap: it is large.
            if let Err(error) = Box::pin(self.follow_member(&changes)).await {
                tracing::debug!(%error, key = self.keys.record(), "etcd does not show the address's key");
            }
            tokio::time::sleep(self.members.scale * PAUSE).await;
        }
    }

    async fn follow_member(&self, changes: &mpsc::Sender<Seen>) -> Result<(), Error> {
        let mut client = self.members.own_client().await?;
        let options = WatchOptions::new().with_range(self.keys.end());
        let mut stream = client.watch(self.keys.record(), Some(options)).await?;
        while let Some(message) = stream.message().await? {
            let mut others = false;
            for event in message.events() {
                let is_record = event
                    .kv()
                    .is_some_and(|entry| entry.key() == self.keys.record().as_bytes());
                others |= !is_record;
                if let Some(sight) = event_of(event).filter(|_| is_record)
                    && changes.send(sight).await.is_err()
                {
                    return Ok(());
                }
            }
            // What one of the other keys is about only shows beside all of them.
            if others {
                let sight = timeout(self.members.scale * TO_LOOK, self.look()).await;
                if let Ok(sight) = sight
                    && changes.send(sight?).await.is_err()
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The keys as the own member has them.
    async fn look(&self) -> Result<Seen, Error> {
        let options = GetOptions::new()
            .with_range(self.keys.end())
            .with_serializable();
        let mut client = self.client().await?;
        let answer = client.get(self.keys.record(), Some(options)).await?;
        self.keep(client).await;
        Ok(self.keys.seen(&answer, revision(&answer)))
    }

    async fn client(&self) -> Result<Client, Error> {
        match self.client.lock().await.take() {
            Some(client) => Ok(client),
            None => self.members.own_client().await,
        }
    }

    async fn keep(&self, client: Client) {
        *self.client.lock().await = Some(client);
    }
}

fn revision(answer: &GetResponse) -> i64 {
    answer.header().map_or(0, ResponseHeader::revision)
}

/// The record by a change of it. Who writes it has thawed it, and without one there is nothing to be frozen.
fn event_of(event: &Event) -> Option<Seen> {
    let entry = event.kv()?;
    // Of a deletion, too, this is the revision that it made.
    let as_of = entry.mod_revision();
    let is_there = event.event_type() == EventType::Put;
    Some(Seen {
        as_of,
        version: Version::thawed(if is_there { as_of } else { 0 }),
        record: is_there.then(|| record::decode(entry.value())),
    })
}

/// etcd's words, in `api/v3rpc/rpctypes/error.go`: it has the same code for too many requests.
fn is_no_space(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains("database space exceeded"))
}
