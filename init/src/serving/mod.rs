//! What the node's own servers have in common: taking connections, and bounds for those who
//! have proved nothing yet, also for what is logged about them.

mod places;
mod rate;
mod remarks;
mod shares;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

pub(crate) use places::{Place, Places};
pub(crate) use rate::RateLimit;
pub(crate) use remarks::Remarks;
pub(crate) use shares::Shares;

/// The pause after an accept failed for want of memory or descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// A connection on which nothing is said is asked about after this,
const IDLE: Duration = Duration::from_secs(15);
/// again and again after this,
const ASK_EVERY: Duration = Duration::from_secs(5);
/// and given up when so many questions have no answer.
const QUESTIONS: u32 = 3;

/// The next connection; `server` says whose, for the log. Whoever is at its other end and has gone without a word is noticed.
pub(crate) async fn accept(listener: &TcpListener, server: &str) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                if let Err(error) = notice_silence(&socket) {
                    tracing::debug!(%error, "a peer that goes without a word is not noticed");
                }
                return (socket, address);
            }
            // The client gave up in the queue (accept(2)).
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "{server} cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Ends a connection whose other end answers nothing for a while (tcp(7)): it would keep its place for ever.
fn notice_silence(socket: &TcpStream) -> rustix::io::Result<()> {
    let silent = IDLE + ASK_EVERY * QUESTIONS;
    sockopt::set_tcp_keepidle(socket, IDLE)?;
    sockopt::set_tcp_keepintvl(socket, ASK_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, QUESTIONS)?;
    let milliseconds = u32::try_from(silent.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, milliseconds)?;
    sockopt::set_socket_keepalive(socket, true)
}
