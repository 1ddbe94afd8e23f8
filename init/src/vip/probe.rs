//! Whether anybody on the wire answers for an address that this cluster never owned (RFC 5227, 2.1.1; RFC 4862, 5.4).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use super::announce::{
    ETHERTYPE_ARP, ETHERTYPE_IPV6, Hardware, ICMPV6, checksum_of_icmpv6, ethernet, hexadecimal,
    interface,
};
use crate::services::boot_time;

/// How often it is asked for, and how long answers are listened for after each time. RFC 5227 takes 1 to 2 s and three probes for machines
/// that nobody waits for; an answer of a machine on the wire comes within milliseconds.
const TIMES: u32 = 3;

/// Of an answer.
const LISTEN: Duration = Duration::from_millis(300);

const ARP_PROBE: [u8; 8] = [0, 1, 0x08, 0x00, 6, 4, 0, 1];
const BROADCAST: Hardware = [0xff; 6];
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Asks, and says who answers, as `52:54:00:…`; waits for answers for about a second. A closed gate lets these questions out,
/// which have no sender's address, and their answers are heard before it.
pub fn probe(device: &str, address: IpAddr) -> io::Result<Option<String>> {
    let (link, hardware) = interface(device)?;
    let socket = listener(&link)?;
    let frame = match address {
        IpAddr::V4(address) => arp(hardware, address),
        IpAddr::V6(address) => solicitation(hardware, address),
    };
    for _ in 0..TIMES {
        send(socket.as_raw_fd(), &frame, MsgFlags::empty())?;
        if let Some(other) = answer(&socket, address, hardware)? {
            return Ok(Some(hexadecimal(other)));
        }
    }
    Ok(None)
}

fn listener(link: &LinkAddr) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        // Before the ingress hook, where the gate is.
        SockProtocol::EthAll,
    )?;
    bind(socket.as_raw_fd(), link)?;
    Ok(socket)
}

/// The hardware address of who says within [`LISTEN`] that it has the address.
fn answer(socket: &OwnedFd, address: IpAddr, own: Hardware) -> io::Result<Option<Hardware>> {
    let until = boot_time() + LISTEN;
    let mut buffer = [0; 2048];
    loop {
        let left = until.since(boot_time());
        if left.is_zero() {
            return Ok(None);
        }
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(
            &mut ready,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO),
        )?;
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EAGAIN) => continue,
            Err(error) => return Err(error.into()),
        };
        let said = claimant(&buffer[..length], address);
        if let Some(other) = said.filter(|other| *other != own) {
            return Ok(Some(other));
        }
    }
}

/// The sender of a frame that says that its sender has the address, by ARP or by an advertisement.
pub(super) fn claimant(frame: &[u8], address: IpAddr) -> Option<Hardware> {
    let at = |from: usize, length: usize| frame.get(from..from + length);
    let source: Hardware = at(6, 6)?.try_into().ok()?;
    let claims = match address {
        // Whatever its operation, the sender says where it is.
        IpAddr::V4(address) => at(12, 2)? == ETHERTYPE_ARP && at(28, 4)? == address.octets(),
        IpAddr::V6(address) => {
            at(12, 2)? == ETHERTYPE_IPV6
                && at(20, 1)? == [ICMPV6]
                && at(54, 1)? == [NEIGHBOUR_ADVERTISEMENT]
                && at(62, 16)? == address.octets()
        }
    };
    claims.then_some(source)
}

/// With no sender's address: nobody's cache changes by it.
fn arp(hardware: Hardware, address: Ipv4Addr) -> Vec<u8> {
    [
        &BROADCAST[..],
        &hardware,
        &ETHERTYPE_ARP,
        &ARP_PROBE,
        &hardware,
        &[0; 4],
        &[0; 6],
        &address.octets(),
    ]
    .concat()
}

/// From the unspecified address to the solicited-node group (RFC 4291, 2.7.1).
fn solicitation(hardware: Hardware, address: Ipv6Addr) -> Vec<u8> {
    let target = address.octets();
    let mut group = [0; 16];
    group[..13].copy_from_slice(&[0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
    group[13..].copy_from_slice(&target[13..]);
    let to: Hardware = [0x33, 0x33, group[12], group[13], group[14], group[15]];
    let body = |checksum: u16| {
        [
            &[NEIGHBOUR_SOLICITATION, 0][..],
            &checksum.to_be_bytes(),
            &[0; 4],
            &target,
        ]
        .concat()
    };
    let checksum = checksum_of_icmpv6(Ipv6Addr::UNSPECIFIED, group.into(), &body(0));
    ethernet(
        to,
        hardware,
        Ipv6Addr::UNSPECIFIED,
        group.into(),
        &body(checksum),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vip::announce::frame;

    const HARDWARE: Hardware = [0x52, 0x54, 0, 0, 0, 1];

    #[test]
    fn who_announces_an_address_claims_it_and_who_asks_for_it_does_not() {
        for (address, other) in [("10.0.0.9", "10.0.0.8"), ("fd00::9", "fd00::8")] {
            let (address, other): (IpAddr, IpAddr) =
                (address.parse().unwrap(), other.parse().unwrap());
            let announcement = frame(HARDWARE, address);
            assert_eq!(claimant(&announcement, address), Some(HARDWARE));
            assert_eq!(claimant(&announcement, other), None);
            assert_eq!(claimant(&announcement[..30], address), None);
            let question = match address {
                IpAddr::V4(address) => arp(HARDWARE, address),
                IpAddr::V6(address) => solicitation(HARDWARE, address),
            };
            assert_eq!(claimant(&question, address), None);
        }
    }
}
