//! Telling the clients of a dead owner: a segment of a connection that nobody has here any more.
//!
//! A client that waits for an answer of a machine that is gone notices that when its own keepalive runs out. A segment with a wrong sequence number from the same
//! address and port makes it say at once which one it expects (RFC 9293, 3.10.7.4); this kernel knows no such connection and answers with a
//! reset, which the client believes. Samba's CTDB does the same for file servers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use super::announce::checksum;

const TCP: u8 = 6;
const TIME_TO_LIVE: u8 = 64;
/// No options: five words.
const HEADER_LENGTH: u8 = 5 << 4;
const ACK: u8 = 0x10;

/// Sends one segment to each client, as from the address and port that they are connected to. Says how many were sent.
pub fn tickle(local: SocketAddr, clients: &[SocketAddr]) -> io::Result<usize> {
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    // Whoever writes to this writes the IP header, too: raw(7), and ipv6(7) since Linux 4.5.
    let raw = socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )?;
    let sent = clients.iter().filter(|client| {
        client.is_ipv4() == local.is_ipv4() && send(&raw, local, **client).is_ok()
    });
    Ok(sent.count())
}

fn send(raw: &OwnedFd, local: SocketAddr, client: SocketAddr) -> io::Result<()> {
    let packet = packet(local, client);
    // The kernel takes the way of the packet from here; a port means nothing to it.
    let to = SockaddrStorage::from(SocketAddr::new(client.ip(), 0));
    sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}

fn packet(local: SocketAddr, client: SocketAddr) -> Vec<u8> {
    let segment = |checksum: u16| {
        [
            &local.port().to_be_bytes()[..],
            &client.port().to_be_bytes(),
            // Sequence and acknowledgement: those of a connection are hardly ever zero, and if they are, nothing comes of it.
            &[0; 8],
            &[HEADER_LENGTH, ACK],
            // The window.
            &[0, 0],
            &checksum.to_be_bytes(),
            &[0, 0],
        ]
        .concat()
    };
    let (source, destination) = (octets(local.ip()), octets(client.ip()));
    let length = segment(0).len();
    let short = u16::try_from(length).expect("it is short");
    let pseudo_header = [
        &source[..],
        &destination,
        &u32::from(short).to_be_bytes(),
        &[0, 0, 0, TCP],
    ]
    .concat();
    let segment = segment(checksum(&[pseudo_header, segment(0)].concat()));
    let header = match local {
        // Total length, identification and checksum are the kernel's.
        SocketAddr::V4(_) => vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, TIME_TO_LIVE, TCP, 0, 0],
        SocketAddr::V6(_) => {
            let [high, low] = short.to_be_bytes();
            vec![0x60, 0, 0, 0, high, low, TCP, TIME_TO_LIVE]
        }
    };
    [header, source, destination, segment].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_both_ends_and_a_sound_checksum() {
        for (local, client, header) in [
            ("10.0.0.9:6443", "10.0.0.1:40000", 20),
            ("[fd00::9]:6443", "[fd00::1]:40000", 40),
        ] {
            let (local, client): (SocketAddr, SocketAddr) =
                (local.parse().unwrap(), client.parse().unwrap());
            let packet = packet(local, client);
            assert_eq!(packet.len(), header + 20);
            let segment = &packet[header..];
            assert_eq!(segment[..4], [0x19, 0x2b, 0x9c, 0x40]);
            let addresses = [octets(local.ip()), octets(client.ip())].concat();
            assert_eq!(packet[header - addresses.len()..header], addresses);
            let summed = [&addresses[..], &[0, 0, 0, 20, 0, 0, 0, TCP], segment].concat();
            assert_eq!(checksum(&summed), 0);
        }
    }
}
