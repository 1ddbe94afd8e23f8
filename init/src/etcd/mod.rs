//! etcd, from the supervisor's side: a client of the member on this node.
//!
//! - [`Credentials`] make clients with the supervisor's certificate;
//! - [`Observer`] asks the member every few seconds how it is, for the node's status;
//! - [`snapshot`]: what etcd holds, in a file;
//! - [`space`]: what is done before the databases are full, and afterwards;
//! - [`Members`] reaches all members: asks how they are, has a majority decide a transaction, and the leader hand over.
//!
//! The supervisor works without it: what runs and what restarts is never decided by an answer of etcd's.

mod leader;
mod members;
mod observer;
pub mod snapshot;
pub mod space;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use masthead_pki::{AuthorityKind, Leaves, Purpose, Roots};
use tokio::sync::watch;

pub use members::{Members, Undecided};
pub use observer::Observer;

/// What a member answers within so long. Its client's own limits do not hold for a member that takes the connection and then says
/// nothing: that one never even finishes the TLS handshake.
pub fn in_time<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> impl Future<Output = Result<T, Error>> {
    // On the heap: what asks etcd is large, and stands in many others.
    let asked = tokio::time::timeout(patience, Box::pin(asked));
    let silent = |_| Err(Error::IoError(io::ErrorKind::TimedOut.into()));
    async move { asked.await.unwrap_or_else(silent) }
}

/// Whom the supervisor is to etcd, and whom it believes.
#[derive(Clone)]
pub struct Credentials {
    /// The authority that members are known by.
    pub roots: Arc<Roots>,
    /// With the supervisor's certificate, whenever it is renewed.
    pub leaves: watch::Receiver<Arc<Leaves>>,
}

impl Credentials {
    /// A client of the member that serves clients at that address, which waits for each answer for at most `patience`.
    /// It connects with its first request.
    pub async fn connect(&self, address: SocketAddr, patience: Duration) -> Result<Client, Error> {
        let leaves = Arc::clone(&self.leaves.borrow());
        let leaf = leaves.get(Purpose::SupervisorEtcdClient);
        let authority = self.roots.authority(AuthorityKind::Etcd).certificate_pem();
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(authority))
            .identity(Identity::from_pem(
                &leaf.certificate_pem,
                leaf.key_pem.expose(),
            ));
        let options = ConnectOptions::new()
            .with_tls(tls)
            .with_connect_timeout(patience)
            .with_timeout(patience);
        Client::connect([format!("https://{address}")], Some(options)).await
    }
}
