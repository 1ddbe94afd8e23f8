//! The kernel's end.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use thiserror::Error;

use crate::Batch;

const ERROR: u16 = 2; // NLMSG_ERROR
const HEADER: usize = 16;

/// The kernel answers at once. It is waited for no longer than this, in seconds.
const PATIENCE: i64 = 5;

/// The kernel does not do what it is asked for.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no way to it.
    #[error("talk to nf_tables")]
    Socket(#[source] io::Error),
    /// It refuses a change, and so the whole batch.
    #[error("change {number} of {all} in the table: the kernel refuses it")]
    Refused {
        /// Which one, counted from 1.
        number: usize,
        /// Of how many.
        all: usize,
        /// Why.
        #[source]
        why: io::Error,
    },
    /// Its answer is none.
    #[error("nf_tables answers with {length} bytes that are no answer")]
    Unreadable {
        /// How many.
        length: usize,
    },
}

/// A way to the nf_tables of this network namespace.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    next: u32,
}

impl Connection {
    /// Opens it.
    pub fn open() -> Result<Self, Error> {
        let open = || -> nix::Result<OwnedFd> {
            let socket = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkNetFilter,
            )?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            let patience = TimeVal::seconds(PATIENCE);
            setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| Error::Socket(error.into()))?;
        Ok(Self { socket, next: 1 })
    }

    /// Has the kernel carry the batch out, and waits until it has.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        let first = self.next;
        let bytes = batch.encode(first);
        let all = batch.len();
        self.next = first
            .wrapping_add(u32::try_from(all).unwrap_or(u32::MAX))
            .wrapping_add(2);
        let failed = |error: nix::Error| Error::Socket(error.into());
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(failed)?;
        let mut answered = 0;
        let mut refused = None;
        let mut buffer = [0; 8192];
        while answered < all {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty());
            let mut rest = &buffer[..length.map_err(failed)?];
            while !rest.is_empty() {
                let (answer, after) = read(rest).ok_or(Error::Unreadable { length: rest.len() })?;
                rest = after;
                let number = answer.number.wrapping_sub(first) as usize;
                // Of an earlier batch that failed before all answers were read.
                if number > all + 1 {
                    continue;
                }
                answered += 1;
                if answer.error != 0 && refused.is_none() {
                    let why = io::Error::from_raw_os_error(-answer.error);
                    // The batch itself is refused with the number of its begin: nothing follows.
                    if number == 0 {
                        return Err(Error::Refused { number, all, why });
                    }
                    refused = Some(Error::Refused { number, all, why });
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

struct Answer {
    number: u32,
    /// Zero, or a negative errno.
    error: i32,
}

/// The first answer in these bytes, and what follows.
fn read(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let four = |at: usize| bytes.get(at..at + 4)?.try_into().ok();
    let length = u32::from_ne_bytes(four(0)?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let answer = Answer {
        number: u32::from_ne_bytes(four(8)?),
        error: i32::from_ne_bytes(four(HEADER)?),
    };
    if kind != ERROR || length < HEADER + 4 {
        return None;
    }
    let end = length.next_multiple_of(4).min(bytes.len());
    Some((answer, &bytes[end..]))
}
