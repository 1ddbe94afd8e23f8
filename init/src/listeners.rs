//! The sockets that the node listens on, which outlive every supervisor.
//!
//! PID 1 binds them once and every supervisor inherits them. A supervisor bound them itself before: one that
//! was killed while a disk stalled then kept its ports, for its threads that wait in the kernel hold all its
//! descriptors until the disk answers, and no successor could serve. Shared, a socket has one queue from which
//! only the living accept; and what connects between two supervisors waits instead of being refused.
//!
//! PID 1 only binds. Until a supervisor listens, whoever connects is refused.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as Bound};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use masthead_api::routes;
use masthead_machine::Scale;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::net::TcpListener;

use crate::descriptor;
use crate::link::SUPERVISOR_LINK_FD;

/// Every port that a supervisor serves on.
const PORTS: [u16; 3] = [
    routes::PORT,
    routes::METRICS_PORT,
    masthead_peer_protocol::PORT,
];

/// The descriptor under which the supervisor finds the first of them; the others follow.
pub const FIRST_LISTENER_FD: RawFd = SUPERVISOR_LINK_FD + 1;

/// Connections that wait to be accepted; the kernel's own bound is lower if the node's settings say so.
const BACKLOG: i32 = 1024;
/// How long to wait before a port that cannot be listened on is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Binds every port of the node on all addresses, of IPv4 and of IPv6, each on its own: a master serves on those of
/// its family only. What cannot be bound is told to `failed` and left out; a family that the kernel does
/// not have is no fault.
pub fn bind_all(mut failed: impl FnMut(SocketAddr, io::Error)) -> Vec<OwnedFd> {
    let mut sockets = Vec::new();
    for port in PORTS {
        let addresses: [SocketAddr; 2] = [
            (Ipv4Addr::UNSPECIFIED, port).into(),
            (Ipv6Addr::UNSPECIFIED, port).into(),
        ];
        for address in addresses {
            match bind_one(address) {
                Ok(socket) => sockets.push(socket),
                Err(rustix::io::Errno::AFNOSUPPORT) => {}
                Err(error) => failed(address, error.into()),
            }
        }
    }
    sockets
}

fn bind_one(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// The sockets that a supervisor has inherited. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Listeners(Arc<Vec<Bound>>);

impl Listeners {
    /// Takes over so many sockets, from [`FIRST_LISTENER_FD`] on, which PID 1 left open at the start of the process.
    /// Call it once.
    ///
    /// Fails when one of the descriptors is not open.
    pub fn inherit(count: u8) -> io::Result<Self> {
        let sockets = (FIRST_LISTENER_FD..FIRST_LISTENER_FD + RawFd::from(count))
            .map(|number| descriptor::inherit(number).map(Bound::from))
            .collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(sockets)))
    }

    /// Listens on an address: with the socket that PID 1 has bound to it, or else with one of this process. Tries
    /// again until it can, and logs why it cannot. Must be called on the runtime.
    pub async fn listen(&self, address: SocketAddr, scale: Scale) -> TcpListener {
        loop {
            let listening = match self.bound_to(address) {
                Some(socket) => take(socket),
                None => TcpListener::bind(address).await,
            };
            match listening {
                Ok(listener) => return listener,
                Err(error) => {
                    tracing::warn!(%address, %error, "a port cannot be listened on; trying again");
                }
            }
            tokio::time::sleep(scale * TRY_AGAIN).await;
        }
    }

    fn bound_to(&self, address: SocketAddr) -> Option<&Bound> {
        let mut sockets = self.0.iter();
        sockets.find(|socket| socket.local_addr().is_ok_and(|bound| bound == address))
    }
}

fn take(socket: &Bound) -> io::Result<TcpListener> {
    listen(socket, BACKLOG)?;
    TcpListener::from_std(socket.try_clone()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn bound() -> (Listeners, SocketAddr) {
        let socket = bind_one((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let socket = Bound::from(socket);
        let address = socket.local_addr().expect("bound");
        (Listeners(Arc::new(vec![socket])), address)
    }

    #[tokio::test]
    async fn a_port_is_served_beside_a_predecessor_that_holds_the_same_socket() {
        let (listeners, address) = bound();
        TcpStream::connect(address).expect_err("nobody listens yet");
        let dead = listeners.listen(address, Scale::REAL).await;
        let successor = listeners.listen(address, Scale::REAL).await;
        for _ in 0..20 {
            let client = TcpStream::connect(address).expect("connected");
            // Only the living accept; nothing is in a queue of the dead one.
            let (_, from) = successor.accept().await.expect("accepted");
            assert_eq!(from, client.local_addr().expect("connected"));
        }
        drop(dead);
    }

    #[tokio::test]
    async fn a_port_that_was_not_inherited_is_bound() {
        let (listeners, address) = bound();
        drop(listeners);
        let listener = Listeners::default().listen(address, Scale::REAL).await;
        assert_eq!(listener.local_addr().expect("bound"), address);
    }
}
