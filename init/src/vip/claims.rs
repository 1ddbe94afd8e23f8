//! Others who say that they have an address of this node's: their neighbours believe them until they hear better (RFC 5227, 2.4).
//!
//! By ARP only: an advertisement of IPv6 is heard among all of the interface's IPv6 packets, of which an owner has many.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, bind, recv};
use rustix::net::{AddressFamily, SocketFlags, SocketType, eth, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::announce::{Hardware, interface};
use super::probe::claimant;
use crate::descriptor::watch;

/// More than any ARP frame has.
const FRAME: usize = 128;

/// Hears all ARP of one interface.
pub(super) struct Claims {
    socket: AsyncFd<OwnedFd>,
    own: Hardware,
    address: IpAddr,
}

impl Claims {
    /// About an address, on the interface of that name.
    pub(super) fn open(device: &str, address: IpAddr) -> io::Result<Self> {
        let (link, own) = interface(device)?;
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(eth::ARP),
        )?;
        // The link has no protocol, so that the socket keeps its own (packet(7)).
        bind(socket.as_raw_fd(), &link)?;
        Ok(Self {
            socket: watch(socket, Interest::READABLE)?,
            own,
            address,
        })
    }

    /// The hardware address of the next one who says so.
    pub(super) async fn next(&self) -> io::Result<Hardware> {
        let mut buffer = [0; FRAME];
        loop {
            let mut ready = self.socket.readable().await?;
            let received = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty());
            let length = match received {
                Ok(length) => length,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let said = claimant(&buffer[..length], self.address);
            if let Some(other) = said.filter(|other| *other != self.own) {
                return Ok(other);
            }
        }
    }
}
