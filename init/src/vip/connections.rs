//! The TCP connections to an address, as the kernel of their server sees them (sock_diag(7)).

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const HEADER: usize = 16;
/// Of `inet_diag_req_v2` where its `id` stands: family, protocol, extensions, padding and states come before it.
const ID_IN_REQUEST: usize = 8;
/// Of `inet_diag_msg`: family, state, timer and retransmissions come before it.
const ID_IN_ANSWER: usize = 4;
/// `inet_diag_sockid`: two ports, two addresses of 16 bytes, the interface and a cookie of two words.
const ID: usize = 48;
const COOKIE: std::ops::Range<usize> = 40..48;

const TCP: u8 = 6;
/// Every state in which a client may still count on the connection: established, and its own end not closed yet.
const STATES: u32 = 1 << 1 | 1 << 8;

/// The kernel answers at once. It is waited for no longer than this, in seconds.
const PATIENCE: i64 = 2;

/// A connection to an address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The other end.
    pub remote: SocketAddr,
    family: u8,
    id: [u8; ID],
}

/// The connections to that address and port, no more than `limit` of them.
pub fn clients(local: SocketAddr, limit: usize) -> io::Result<Vec<Client>> {
    let socket = open()?;
    let mut found = Vec::new();
    // A server that listens for both families has IPv4 connections in IPv6 sockets.
    for family in [libc::AF_INET, libc::AF_INET6] {
        if local.is_ipv6() && family == libc::AF_INET {
            continue;
        }
        let family = u8::try_from(family).unwrap_or_default();
        let mut id = [0; ID];
        id[..2].copy_from_slice(&local.port().to_be_bytes());
        ask(&socket, BY_FAMILY, REQUEST | DUMP, family, &id)?;
        each(&socket, |answer| {
            let id: [u8; ID] = answer
                .get(ID_IN_ANSWER..ID_IN_ANSWER + ID)?
                .try_into()
                .ok()?;
            let end = |port: usize, address: usize| {
                let port = u16::from_be_bytes([id[port], id[port + 1]]);
                SocketAddr::new(address_of(family, &id[address..address + 16]), port)
            };
            if end(0, 4) == local && found.len() < limit {
                found.push(Client {
                    remote: end(2, 20),
                    family,
                    id,
                });
            }
            Some(())
        })?;
    }
    Ok(found)
}

/// Ends the connections to that address and port: each client is told by a reset. Says how many there were.
pub fn destroy(local: SocketAddr) -> io::Result<usize> {
    let clients = clients(local, usize::MAX)?;
    let socket = open()?;
    for client in &clients {
        let mut id = client.id;
        // Any cookie: the ports say enough, and one that is gone already is as well.
        id[COOKIE].fill(0xff);
        ask(&socket, DESTROY, REQUEST | ACKNOWLEDGE, client.family, &id)?;
        match each(&socket, |_| Some(())) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(clients.len())
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::seconds(PATIENCE),
    )?;
    Ok(socket)
}

fn ask(socket: &OwnedFd, kind: u16, flags: u16, family: u8, id: &[u8; ID]) -> io::Result<()> {
    let length = u32::try_from(HEADER + ID_IN_REQUEST + ID).expect("it is short");
    let message = [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        // Number and sender: there is one question at a time.
        &[0; 8],
        &[family, TCP, 0, 0],
        &STATES.to_ne_bytes(),
        id,
    ]
    .concat();
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    Ok(())
}

/// Hands the body of each answer on, until the last one.
fn each(socket: &OwnedFd, mut take: impl FnMut(&[u8]) -> Option<()>) -> io::Result<()> {
    let unreadable = || io::Error::from(io::ErrorKind::InvalidData);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let four = |at: usize| -> Option<[u8; 4]> { rest.get(at..at + 4)?.try_into().ok() };
            let length = four(0).ok_or_else(unreadable)?;
            let length = u32::from_ne_bytes(length) as usize;
            let kind = four(4).ok_or_else(unreadable)?;
            let body = rest.get(HEADER..length).ok_or_else(unreadable)?;
            match u16::from_ne_bytes([kind[0], kind[1]]) {
                DONE => return Ok(()),
                ERROR => {
                    let code = body.get(..4).and_then(|code| code.try_into().ok());
                    return match i32::from_ne_bytes(code.ok_or_else(unreadable)?) {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                _ => take(body).ok_or_else(unreadable)?,
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

fn address_of(family: u8, bytes: &[u8]) -> IpAddr {
    if i32::from(family) == libc::AF_INET {
        return IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    let bytes: [u8; 16] = bytes.try_into().unwrap_or_default();
    Ipv6Addr::from(bytes).to_canonical()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_clients_of_a_port_are_known_and_reset() {
        for host in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(host).unwrap();
            let port = listener.local_addr().unwrap().port();
            let local: SocketAddr = ([127, 0, 0, 1], port).into();
            let mut client = TcpStream::connect(local).unwrap();
            let _served = listener.accept().unwrap();
            let found = clients(local, 10).unwrap();
            let remotes: Vec<_> = found.iter().map(|client| client.remote).collect();
            assert_eq!(remotes, [client.local_addr().unwrap()], "{host}");
            assert_eq!(clients(local, 0).unwrap(), []);
            let other: SocketAddr = ([127, 0, 0, 2], port).into();
            assert_eq!(clients(other, 10).unwrap(), []);

            assert_eq!(destroy(other).unwrap(), 0);
            assert_eq!(destroy(local).unwrap(), 1);
            let error = client.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(clients(local, 10).unwrap(), []);
        }
    }
}
