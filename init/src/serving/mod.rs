//! What the node's own servers have in common: getting a port, taking connections, and bounds for those who
//! have proved nothing yet.

mod places;
mod rate;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use masthead_machine::Scale;
use tokio::net::{TcpListener, TcpStream};

pub(crate) use places::{Place, Places};
pub(crate) use rate::RateLimit;

/// The pause after an accept failed for want of memory or descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// How long to wait before trying to bind a port again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Binds a port, again and again until it can be had: an earlier supervisor may be going.
pub(crate) async fn listen(address: SocketAddr, scale: Scale) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                tracing::warn!(%address, %error, "a port cannot be listened on; trying again");
            }
        }
        tokio::time::sleep(scale * TRY_AGAIN).await;
    }
}

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
