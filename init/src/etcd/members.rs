//! All members of etcd, as one master reaches them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error, Txn, TxnResponse};
use masthead_api::etcd::Etcd;
use masthead_machine::Scale;
use thiserror::Error as ThisError;
use tokio::task::JoinSet;

use super::{Credentials, in_time, observer};
use crate::error_chain::with_sources;

/// How long a member may take to say how it is, on a real machine: one that is dead must not cost the word of the others.
const TO_ANSWER: Duration = Duration::from_secs(2);

/// How long a member may take with a transaction, on a real machine, before another one is asked.
const TO_DECIDE: Duration = Duration::from_secs(3);

/// No member has answered as it should: what became of the transaction is not known, or nothing.
#[derive(Debug, Default, ThisError)]
#[error("no member of etcd answers as it should: {}", told(.0))]
pub struct Undecided(Vec<(String, Error)>);

impl Undecided {
    fn of(member: &str, error: Error) -> Self {
        Self(vec![(member.to_owned(), error)])
    }

    /// Neither has another one.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Each member's own failure.
fn told(failed: &[(String, Error)]) -> String {
    let each = failed
        .iter()
        .map(|(name, error)| format!("{name}: {}", with_sources(error)));
    each.collect::<Vec<_>>().join("; ")
}

/// The way to every member of etcd.
#[derive(Clone)]
pub struct Members {
    /// The name of this master.
    pub own: String,
    /// Where each master's member serves clients, by the master's name.
    pub addresses: BTreeMap<String, IpAddr>,
    /// The masters' names, by machine id, which is what etcd knows members by.
    pub names: BTreeMap<String, String>,
    /// The port.
    pub port: u16,
    /// How to connect.
    pub credentials: Credentials,
    /// Multiplies the times.
    pub scale: Scale,
}

impl Members {
    /// A client of that master's member.
    pub async fn client(&self, master: &str, patience: Duration) -> Result<Client, Error> {
        let address = self
            .addresses
            .get(master)
            .ok_or_else(|| Error::InvalidArgs(format!("the seed has no address for {master}")))?;
        let address = SocketAddr::new(*address, self.port);
        self.credentials.connect(address, patience).await
    }

    /// A client of this master's own member, for questions like [`Self::decide`]'s.
    pub async fn own_client(&self) -> Result<Client, Error> {
        self.client(&self.own, self.patience()).await
    }

    /// How long a member may take with a question.
    pub fn patience(&self) -> Duration {
        self.scale * TO_DECIDE
    }

    /// What becomes of a transaction, by the word of a majority. This master's own member is asked first, and another one
    /// when it does not answer: what a member was asked may have been done although it said nothing.
    pub async fn decide(&self, question: Txn) -> Result<TxnResponse, Undecided> {
        let mut undecided = Undecided::default();
        for name in self.in_order() {
            match self.decide_by(name, question.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(silent) => undecided.add(silent),
            }
        }
        Err(undecided)
    }

    /// The same, by the member of that master alone.
    pub async fn decide_by(&self, name: &str, question: Txn) -> Result<TxnResponse, Undecided> {
        let patience = self.patience();
        let asked = async {
            let mut client = self.client(name, patience).await?;
            client.txn(question).await
        };
        let answer = in_time(patience, asked).await;
        answer.map_err(|error| Undecided::of(name, error))
    }

    /// A lease of so many seconds, by the member of that master alone.
    pub async fn grant(&self, name: &str, seconds: i64) -> Result<i64, Undecided> {
        let patience = self.patience();
        let asked = async {
            let mut client = self.client(name, patience).await?;
            client.lease_grant(seconds, None).await
        };
        let lease = in_time(patience, asked).await;
        let lease = lease.map_err(|error| Undecided::of(name, error))?;
        Ok(lease.id())
    }

    /// The masters, this one first.
    pub fn in_order(&self) -> impl Iterator<Item = &String> {
        let others = self.addresses.keys().filter(|name| **name != self.own);
        std::iter::once(&self.own).chain(others)
    }

    /// What each master's member says of etcd now, when all are asked at once; those that say nothing in time are left out.
    pub async fn ask_all(self: Arc<Self>) -> BTreeMap<String, Etcd> {
        let mut asking = JoinSet::new();
        for name in self.addresses.keys().cloned() {
            let members = Arc::clone(&self);
            asking.spawn(async move {
                let patience = members.scale * TO_ANSWER;
                let asked = async {
                    let mut client = members.client(&name, patience).await?;
                    observer::ask(&mut client, &members.names).await
                };
                let etcd = tokio::time::timeout(patience, asked).await.ok()?.ok()?;
                Some((name, etcd))
            });
        }
        asking.join_all().await.into_iter().flatten().collect()
    }
}
