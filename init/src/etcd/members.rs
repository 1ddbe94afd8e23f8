//! All members of etcd, as one master reaches them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error, Txn, TxnResponse};
use masthead_api::etcd::Etcd;
use masthead_machine::Scale;
use tokio::task::JoinSet;

use super::{Credentials, observer};

/// How long a member may take to say how it is, on a real machine: one that is dead must not cost the word of the others.
const TO_ANSWER: Duration = Duration::from_secs(2);

/// How long a member may take with a transaction, on a real machine, before another one is asked.
const TO_DECIDE: Duration = Duration::from_secs(3);

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
        self.client(&self.own, self.scale * TO_DECIDE).await
    }

    /// What becomes of a transaction, by the word of a majority. This master's own member is asked first, and another one
    /// when it does not answer: what a member was asked may have been done although it said nothing.
    pub async fn decide(&self, question: Txn) -> Result<TxnResponse, Error> {
        let others = self.addresses.keys().filter(|name| **name != self.own);
        let mut failure = Error::InvalidArgs("the seed lists no master".to_owned());
        for name in std::iter::once(&self.own).chain(others) {
            let answer = match self.client(name, self.scale * TO_DECIDE).await {
                Ok(mut client) => client.txn(question.clone()).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => failure = error,
            }
        }
        Err(failure)
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
