//! The key in etcd: transactions, reads and a watch, all by this node's own member.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error, EventType, GetResponse, ResponseHeader, Txn, TxnOp,
    TxnOpResponse,
};
use masthead_vip::{Decision, Record, Seen};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::record;
use crate::etcd::Members;

/// How long the member is left alone after a watch has ended, on a real machine.
const PAUSE: Duration = Duration::from_millis(100);

/// The key of one address.
pub struct Store {
    members: Arc<Members>,
    key: String,
    /// A connection that works: one that failed is not used again.
    client: Mutex<Option<Client>>,
}

impl Store {
    /// Of that address.
    pub fn new(members: Arc<Members>, address: IpAddr) -> Self {
        Self {
            members,
            key: format!("/masthead/vip/{address}"),
            client: Mutex::default(),
        }
    }

    /// Writes the record if the key's `mod_revision` is as expected, and says what became of it, in that time.
    pub async fn transact(&self, expected: i64, record: &Record, patience: Duration) -> Decision {
        let Some(value) = record::encode(record) else {
            return Decision::Unanswered;
        };
        let question = Txn::new()
            .when([Compare::mod_revision(
                &*self.key,
                CompareOp::Equal,
                expected,
            )])
            .and_then([TxnOp::put(&*self.key, value, None)])
            .or_else([TxnOp::get(&*self.key, None)]);
        let decided = async {
            let mut client = self.client().await?;
            let answer = client.txn(question).await?;
            self.keep(client).await;
            Ok::<_, Error>(answer)
        };
        let Ok(Ok(answer)) = timeout(patience, decided).await else {
            return Decision::Unanswered;
        };
        let as_of = answer.header().map_or(0, ResponseHeader::revision);
        if answer.succeeded() {
            return Decision::Done(as_of);
        }
        match answer.op_responses().first() {
            Some(TxnOpResponse::Get(found)) => Decision::Refused(seen(as_of, found)),
            _ => Decision::Unanswered,
        }
    }

    /// Reads the key by the word of a majority, in that time.
    pub async fn read(&self, patience: Duration) -> Option<Seen> {
        let read = async {
            let mut client = self.client().await?;
            let answer = client.get(&*self.key, None).await?;
            self.keep(client).await;
            Ok::<_, Error>(answer)
        };
        let answer = timeout(patience, read).await.ok()?.ok()?;
        let as_of = answer.header().map_or(0, ResponseHeader::revision);
        Some(seen(as_of, &answer))
    }

    /// Tells every change that the member shows, until nobody listens.
    pub async fn follow(&self, changes: mpsc::Sender<Seen>) {
        while !changes.is_closed() {
            if let Err(error) = self.follow_member(&changes).await {
                tracing::debug!(%error, key = self.key, "etcd does not show the address's key");
            }
            tokio::time::sleep(self.members.scale * PAUSE).await;
        }
    }

    async fn follow_member(&self, changes: &mpsc::Sender<Seen>) -> Result<(), Error> {
        let mut client = self.members.own_client().await?;
        let mut stream = client.watch(&*self.key, None).await?;
        while let Some(message) = stream.message().await? {
            for event in message.events() {
                let Some(entry) = event.kv() else { continue };
                // Of a deletion, too, this is the revision that it made.
                let as_of = entry.mod_revision();
                let is_there = event.event_type() == EventType::Put;
                let sight = Seen {
                    as_of,
                    revision: if is_there { as_of } else { 0 },
                    record: is_there.then(|| record::decode(entry.value())),
                };
                if changes.send(sight).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
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

fn seen(as_of: i64, answer: &GetResponse) -> Seen {
    let entry = answer.kvs().first();
    Seen {
        as_of,
        revision: entry.map_or(0, etcd_client::KeyValue::mod_revision),
        record: entry.map(|entry| record::decode(entry.value())),
    }
}
