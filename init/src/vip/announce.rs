//! Telling the neighbours who has an address: frames that nobody has asked for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};

/// An Ethernet address.
pub(crate) type Hardware = [u8; 6];

// linux/if_ether.h
pub(super) const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
pub(super) const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Ethernet, IPv4, their addresses' lengths, a request (RFC 826). As an announcement (RFC 5227, 3) sender and target are the
/// same address.
const ARP_REQUEST: [u8; 8] = [0, 1, 0x08, 0x00, 6, 4, 0, 1];
const BROADCAST: Hardware = [0xff; 6];

/// All nodes of the link (RFC 4291), and their Ethernet address (RFC 2464).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_HARDWARE: Hardware = [0x33, 0x33, 0, 0, 0, 1];
pub(super) const ICMPV6: u8 = 58;
/// Discovery is believed from the link itself only (RFC 4861, 7.1.2).
const HOP_LIMIT: u8 = 255;
/// Type and code; then the checksum.
const NEIGHBOUR_ADVERTISEMENT: [u8; 2] = [136, 0];
/// What is known by now is wrong (RFC 4861, 4.4).
const OVERRIDE: [u8; 4] = [0x20, 0, 0, 0];
/// Its type, and its length in units of eight bytes.
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

/// The way to the neighbours of one interface.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
    hardware: Hardware,
}

impl Announcer {
    /// For the interface of that name.
    pub fn open(device: &str) -> io::Result<Self> {
        let (interface, hardware) = interface(device)?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            // It hears nothing. What it says has its protocol in the frame.
            None,
        )?;
        bind(socket.as_raw_fd(), &interface)?;
        Ok(Self { socket, hardware })
    }

    /// Tells everybody, once, that this interface has the address. The error is `ENOBUFS` where its gate is closed.
    pub fn announce(&self, address: IpAddr) -> io::Result<()> {
        let frame = frame(self.hardware, address);
        send(self.socket.as_raw_fd(), &frame, MsgFlags::empty())?;
        Ok(())
    }
}

/// The interface as a packet socket takes it, and its Ethernet address.
pub(crate) fn interface(device: &str) -> io::Result<(LinkAddr, Hardware)> {
    let mut interfaces = getifaddrs()?.filter(|interface| interface.interface_name == device);
    let link = interfaces.find_map(|interface| interface.address?.as_link_addr().copied());
    let link = link.ok_or(io::ErrorKind::NotFound)?;
    let hardware = link.addr().ok_or(io::ErrorKind::Unsupported)?;
    Ok((link, hardware))
}

/// As people write it.
pub(super) fn hexadecimal(hardware: Hardware) -> String {
    hardware.map(|byte| format!("{byte:02x}")).join(":")
}

/// What an announcement looks like on the wire.
pub(super) fn frame(hardware: Hardware, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(hardware, address),
        IpAddr::V6(address) => advertisement(hardware, address),
    }
}

fn arp(hardware: Hardware, address: Ipv4Addr) -> Vec<u8> {
    let address = address.octets();
    [
        &BROADCAST[..],
        &hardware,
        &ETHERTYPE_ARP,
        &ARP_REQUEST,
        &hardware,
        &address,
        &[0; 6],
        &address,
    ]
    .concat()
}

/// An unsolicited neighbour advertisement.
fn advertisement(hardware: Hardware, address: Ipv6Addr) -> Vec<u8> {
    let body = |checksum: u16| {
        [
            &NEIGHBOUR_ADVERTISEMENT[..],
            &checksum.to_be_bytes(),
            &OVERRIDE,
            &address.octets(),
            &TARGET_LINK_LAYER_ADDRESS,
            &hardware,
        ]
        .concat()
    };
    let checksum = checksum_of_icmpv6(address, ALL_NODES, &body(0));
    ethernet(
        ALL_NODES_HARDWARE,
        hardware,
        address,
        ALL_NODES,
        &body(checksum),
    )
}

/// A frame with a packet of ICMPv6 in it.
pub(super) fn ethernet(
    to: Hardware,
    from: Hardware,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    body: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("it is short");
    [
        &to[..],
        &from,
        &ETHERTYPE_IPV6,
        // Version 6, no traffic class and no flow label.
        &[0x60, 0, 0, 0],
        &length.to_be_bytes(),
        &[ICMPV6, HOP_LIMIT],
        &source.octets(),
        &destination.octets(),
        body,
    ]
    .concat()
}

/// Of a body whose own checksum is zero (RFC 4443, 2.3).
pub(super) fn checksum_of_icmpv6(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> u16 {
    let length = u32::try_from(body.len()).expect("it is short");
    let pseudo_header = [
        &source.octets()[..],
        &destination.octets(),
        &length.to_be_bytes(),
        &[0, 0, 0, ICMPV6],
    ]
    .concat();
    checksum(&[&pseudo_header, body].concat())
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it was folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: Hardware = [0x52, 0x54, 0, 0, 0, 1];

    #[test]
    fn an_announcement_of_arp_asks_for_its_own_sender() {
        let frame = arp(HARDWARE, Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[22..32], [0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 9]);
        assert_eq!(frame[38..], [10, 0, 0, 9]);
    }

    #[test]
    fn an_advertisement_has_a_sound_checksum() {
        let address: Ipv6Addr = "fd00::9".parse().unwrap();
        let frame = advertisement(HARDWARE, address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[18..20], [0, 32]);
        // Of pseudo header and body, checksum included: all ones.
        let mut summed = frame[22..54].to_vec();
        summed.extend([0, 0, 0, 32, 0, 0, 0, ICMPV6]);
        summed.extend(&frame[54..]);
        assert_eq!(checksum(&summed), 0);
    }
}
