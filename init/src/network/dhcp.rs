//! An address from a DHCP server (RFC 2131), for as long as a seed is fetched.
//!
//! Messages and the client's states are smoltcp's. Frames go by a packet socket: the kernel's own need an address.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, bind, recv, send};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, eth, socket_with};
use rustix::rand::{GetRandomFlags, getrandom};
use smoltcp::iface::{Config, Interface as Stack, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::dhcpv4::{self, Event, Socket};
use smoltcp::time::{Duration as SmolDuration, Instant as SmolInstant};
use smoltcp::wire::{DHCP_MAX_DNS_SERVER_COUNT, EthernetAddress, HardwareAddress};

use super::interface::Interface;
use crate::vip::announce;

/// A server that has not answered by then is asked again.
const ASK_AGAIN: SmolDuration = SmolDuration::from_secs(3);
/// How often it is seen that another card has an address.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Bytes of a frame: an MTU of 1500 and the header of Ethernet.
const FRAME: usize = 1514;

/// Options (RFC 2132) that are asked for.
const MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAME_SERVER: u8 = 6;
const HOST_NAME: u8 = 12;

/// What a server gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: IpNet,
    pub(super) router: Option<IpAddr>,
    /// Three at most.
    pub(super) dns: Vec<IpAddr>,
    pub(super) hostname: Option<String>,
}

/// Asks on an interface that is up. None when nobody has answered in time, or another card was quicker (`is_enough`).
pub(super) fn ask(
    interface: &Interface,
    until: Instant,
    is_enough: &AtomicBool,
) -> io::Result<Option<Lease>> {
    let mut wire = Wire::open(&interface.name)?;
    let hardware = HardwareAddress::Ethernet(EthernetAddress(interface.mac.0));
    let mut config = Config::new(hardware);
    let mut chance = [0; 8];
    getrandom(&mut chance, GetRandomFlags::empty())?;
    config.random_seed = u64::from_ne_bytes(chance);
    let mut stack = Stack::new(config, &mut wire, SmolInstant::now());

    let mut packet = [0; FRAME];
    let mut socket = Socket::new();
    let mut retries = dhcpv4::RetryConfig::default();
    retries.discover_timeout = ASK_AGAIN;
    retries.initial_request_timeout = ASK_AGAIN;
    socket.set_retry_config(retries);
    socket.set_parameter_request_list(&[MASK, ROUTER, NAME_SERVER, HOST_NAME]);
    socket.set_receive_packet_buffer(&mut packet);
    let mut sockets = SocketSet::new(Vec::new());
    let handle = sockets.add(socket);
    loop {
        let now = SmolInstant::now();
        stack.poll(now, &mut wire, &mut sockets);
        if let Some(error) = wire.failed.take() {
            return Err(error);
        }
        if let Some(Event::Configured(config)) = sockets.get_mut::<Socket<'_>>(handle).poll() {
            return Ok(Some(lease(&config)));
        }
        if is_enough.load(Ordering::Relaxed) || Instant::now() >= until {
            return Ok(None);
        }
        let next = stack.poll_delay(now, &sockets).map(Duration::from);
        let pause = next.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        let pause = rustix::event::Timespec::try_from(pause).map_err(io::Error::other)?;
        match poll(
            &mut [PollFd::new(&wire.socket, PollFlags::IN)],
            Some(&pause),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn lease(config: &dhcpv4::Config<'_>) -> Lease {
    let name = config.packet.as_ref().and_then(|packet| {
        let option = packet.options().find(|option| option.kind == HOST_NAME)?;
        let name = std::str::from_utf8(option.data).ok()?;
        let name = name.trim_end_matches('\0');
        (!name.is_empty()).then(|| name.to_owned())
    });
    let (address, bits) = (config.address.address(), config.address.prefix_len());
    let dns: &[Ipv4Addr] = &config.dns_servers;
    debug_assert!(dns.len() <= DHCP_MAX_DNS_SERVER_COUNT);
    Lease {
        address: Ipv4Net::new_assert(address, bits).into(),
        router: config.router.map(IpAddr::V4),
        dns: dns.iter().copied().map(IpAddr::V4).collect(),
        hostname: name,
    }
}

/// All IPv4 frames of one interface.
struct Wire {
    socket: OwnedFd,
    /// What the kernel said last, when it was no frame. smoltcp has no word for it.
    failed: Option<io::Error>,
}

impl Wire {
    fn open(name: &str) -> io::Result<Self> {
        let (link, _) = announce::interface(name)?;
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(eth::IP),
        )?;
        // The link has no protocol, so that the socket keeps its own (packet(7)).
        bind(socket.as_raw_fd(), &link)?;
        Ok(Self {
            socket,
            failed: None,
        })
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Received, Sender<'_>)> {
        let mut frame = vec![0; FRAME];
        match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => {
                frame.truncate(length);
                Some((Received(frame), Sender(self)))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Err(error) => {
                self.failed = Some(error.into());
                None
            }
        }
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Sender<'_>> {
        Some(Sender(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        // What comes from the same host, as in most virtual networks, has no checksum yet: the card is to put it in, and there is none.
        capabilities.checksum.udp = Checksum::Tx;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Sender<'a>(&'a mut Wire);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        // What does not fit into the card's queue is lost, as on a wire, and sent again later.
        if let Err(error) = send(self.0.socket.as_raw_fd(), &frame, MsgFlags::empty())
            && !matches!(error, Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR)
        {
            self.0.failed = Some(error.into());
        }
        result
    }
}
