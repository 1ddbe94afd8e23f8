//! The ear on the bridge: a packet socket in the wire's namespace.

use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::{
        socket::{
            AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, sendto,
            setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use super::wire::BRIDGE;
use crate::{
    error::{Attempt, Error, Result},
    plan::Mac,
    tap::{HEARD, Heard, Tap},
};

/// Room for what was not taken yet, in bytes.
const ROOM: usize = 64 << 20;
/// linux/if_packet.h: a copy of what this host, or its bridge, has sent.
const OUTGOING: u8 = 4;

/// An ear on every port of the bridge.
pub(super) struct WireTap {
    socket: OwnedFd,
    bridge: LinkAddr,
}

impl WireTap {
    /// In the network namespace of this thread.
    pub(super) fn open() -> Result<Self> {
        let open = || -> nix::Result<OwnedFd> {
            // Not bound: of all interfaces.
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )?;
            setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().attempt(|| "open a packet socket on the wire")?,
            bridge: bridge()?,
        })
    }

    /// One frame, of whomever; none when there is none in that time.
    fn receive(&self, patience: Duration) -> nix::Result<Option<(LinkAddr, Vec<u8>)>> {
        let micros = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX);
        // Nothing would be for ever.
        let patience = TimeVal::microseconds(micros.max(1));
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &patience)?;
        let mut buffer = [0; HEARD];
        let mut pieces = [IoSliceMut::new(&mut buffer)];
        let socket = self.socket.as_raw_fd();
        let message = match recvmsg::<LinkAddr>(socket, &mut pieces, None, MsgFlags::empty()) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            message => message?,
        };
        let (length, port) = (message.bytes.min(HEARD), message.address);
        Ok(port.map(|port| (port, buffer[..length].to_vec())))
    }
}

impl Tap for WireTap {
    fn hear(&mut self, patience: Duration) -> Result<Option<Heard>> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let received = self.receive(left).attempt(|| "listen to the wire")?;
            let at = Instant::now();
            // Where it came in, and not where the bridge passed it on, or up.
            if let Some((port, bytes)) = received
                && port.pkttype() != OUTGOING
                && port.ifindex() != self.bridge.ifindex()
                && let Some(from) = bytes.get(6..12)
            {
                let from = Mac(from.try_into().unwrap_or_default());
                return Ok(Some(Heard { at, from, bytes }));
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    fn say(&mut self, frame: &[u8]) -> Result<()> {
        let socket = self.socket.as_raw_fd();
        sendto(socket, frame, &self.bridge, MsgFlags::empty())
            .map(drop)
            .attempt(|| "send a frame to the wire")
    }

    fn missed(&mut self) -> Result<u64> {
        let mut counted = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = libc::socklen_t::try_from(size_of_val(&counted)).expect("a few bytes");
        #[expect(unsafe_code, reason = "no library has this option")]
        // SAFETY: the kernel writes at most `length` bytes there.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                std::ptr::from_mut(&mut counted).cast(),
                &raw mut length,
            )
        };
        Errno::result(result).attempt(|| "ask how many frames were missed")?;
        Ok(counted.tp_drops.into())
    }
}

fn bridge() -> Result<LinkAddr> {
    let mut interfaces = getifaddrs().attempt(|| "list the wire's interfaces")?;
    let bridge = interfaces.find_map(|interface| {
        let link = interface.address?.as_link_addr().copied()?;
        (interface.interface_name == BRIDGE).then_some(link)
    });
    bridge.ok_or_else(|| Error::Refused("the wire has no bridge".to_owned()))
}
