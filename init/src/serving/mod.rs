//! What the node's own servers have in common: taking connections, and bounds for those who
//! have proved nothing yet, also for what is logged about them.

mod places;
mod rate;
mod remarks;
mod shares;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

pub(crate) use places::{Place, Places};
pub(crate) use rate::RateLimit;
pub(crate) use remarks::Remarks;
pub(crate) use shares::Shares;

/// The pause after an accept failed for want of memory or descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// The next connection; `server` says whose, for the log.
pub(crate) async fn accept(listener: &TcpListener, server: &str) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client gave up in the queue (accept(2)).
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "{server} cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}
