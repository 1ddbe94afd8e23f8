//! The link between PID 1 and the supervisor: one `SOCK_SEQPACKET` pair, one message per packet.
//!
//! Every message is [`MESSAGE_SIZE`] bytes, little endian, so that PID 1 needs neither a parser
//! nor an allocation: a packet arrives whole or not at all, and a packet of another length or kind
//! is an error of the peer ([`DecodeError`]). Both ends are the same binary of the same image, so
//! the format needs no version number.
//!
//! ```text
//! offset  size  Beat  Acknowledge  Replay  Shutdown  Request  Exit         Stop    Welcome
//!      0     4  1     2            3       4         5        101          102     103
//!      4     4        pid                  ending    ending   pid          ending  node kind
//!      8     8        start time                              start time           timing scale (f64)
//!     16     4                                                wait status          supervisor starts
//!     20     4                                                                     previous end
//!     24     4                                                                     its code or signal
//!     28     4        (unused bytes are zero)
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use masthead_machine::Scale;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::node::NodeKind;

mod supervisor_end;

pub use supervisor_end::SupervisorLink;

/// The length of every message, in bytes.
pub const MESSAGE_SIZE: usize = 32;

/// The descriptor under which the supervisor finds its end of the link.
pub const SUPERVISOR_LINK_FD: RawFd = 3;

/// One encoded message.
pub type Packet = [u8; MESSAGE_SIZE];

/// How a node's life ends, once its services are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Start again, with `RB_AUTOBOOT`.
    Reboot,
    /// Switch off, with `RB_POWER_OFF`.
    PowerOff,
}

impl Ending {
    fn code(self) -> u32 {
        match self {
            Self::Reboot => 1,
            Self::PowerOff => 2,
        }
    }

    fn from_code(code: u32) -> Result<Self, DecodeError> {
        match code {
            1 => Ok(Self::Reboot),
            2 => Ok(Self::PowerOff),
            _ => Err(DecodeError::Field {
                field: "ending",
                value: code,
            }),
        }
    }
}

/// What tells one process from every other of this boot: a process id alone is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// The process id.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)): clock ticks since boot.
    pub start_time: u64,
}

/// A child of PID 1 that ended: a service whose supervisor died before it, or any other orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Which process.
    pub process: ProcessKey,
    /// How it ended, as wait(2) encodes it; `ExitStatus::from_raw` takes it.
    pub wait_status: i32,
}

/// How the supervisor before this one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviousEnd {
    /// There was none: this is the first supervisor since boot.
    None,
    /// It exited with this code.
    Exited(u32),
    /// A signal of this number killed it.
    Killed(u32),
    /// PID 1 killed it, because it had not beaten for too long.
    Silent,
}

impl PreviousEnd {
    fn codes(self) -> (u32, u32) {
        match self {
            Self::None => (0, 0),
            Self::Exited(code) => (1, code),
            Self::Killed(signal) => (2, signal),
            Self::Silent => (3, 0),
        }
    }

    fn from_codes(kind: u32, detail: u32) -> Result<Self, DecodeError> {
        match kind {
            0 => Ok(Self::None),
            1 => Ok(Self::Exited(detail)),
            2 => Ok(Self::Killed(detail)),
            3 => Ok(Self::Silent),
            _ => Err(DecodeError::Field {
                field: "previous end",
                value: kind,
            }),
        }
    }
}

/// The first message to each supervisor: what it must know about its node and its predecessor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Welcome {
    /// The kind of node.
    pub node_kind: NodeKind,
    /// The factor on every deadline.
    pub timing_scale: Scale,
    /// How many supervisors PID 1 has started since boot, this one included.
    pub supervisor_starts: u32,
    /// How the one before ended.
    pub previous_end: PreviousEnd,
}

/// What the supervisor says to PID 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromSupervisor {
    /// It is alive; expected well within 5 s × scale.
    Beat,
    /// It has recorded this exit, PID 1 may forget it.
    Acknowledge(ProcessKey),
    /// It wants every exit that was not acknowledged yet.
    Replay,
    /// The services are stopped (or it gives up on them): end the node.
    Shutdown(Ending),
    /// An operator wants the node to end: answer with [`FromPid1::Stop`], to this supervisor and to each that
    /// replaces it.
    Request(Ending),
}

impl FromSupervisor {
    /// The message as it travels.
    pub fn encode(self) -> Packet {
        let mut packet = [0; MESSAGE_SIZE];
        match self {
            Self::Beat => put_u32(&mut packet, 0, 1),
            Self::Acknowledge(process) => {
                put_u32(&mut packet, 0, 2);
                put_process(&mut packet, process);
            }
            Self::Replay => put_u32(&mut packet, 0, 3),
            Self::Shutdown(ending) => {
                put_u32(&mut packet, 0, 4);
                put_u32(&mut packet, 4, ending.code());
            }
            Self::Request(ending) => {
                put_u32(&mut packet, 0, 5);
                put_u32(&mut packet, 4, ending.code());
            }
        }
        packet
    }

    /// Reads a packet that PID 1 received.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let packet = whole(bytes)?;
        match get_u32(packet, 0) {
            1 => Ok(Self::Beat),
            2 => Ok(Self::Acknowledge(get_process(packet))),
            3 => Ok(Self::Replay),
            4 => Ending::from_code(get_u32(packet, 4)).map(Self::Shutdown),
            5 => Ending::from_code(get_u32(packet, 4)).map(Self::Request),
            kind => Err(DecodeError::Field {
                field: "kind",
                value: kind,
            }),
        }
    }
}

/// What PID 1 says to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FromPid1 {
    /// A process ended that PID 1 inherited; acknowledge it once it is recorded.
    Exit(Exit),
    /// The node shall end: stop the services in order, then say [`FromSupervisor::Shutdown`].
    Stop(Ending),
    /// The first message.
    Welcome(Welcome),
}

impl FromPid1 {
    /// The message as it travels.
    pub fn encode(self) -> Packet {
        let mut packet = [0; MESSAGE_SIZE];
        match self {
            Self::Exit(exit) => {
                put_u32(&mut packet, 0, 101);
                put_process(&mut packet, exit.process);
                packet[16..20].copy_from_slice(&exit.wait_status.to_le_bytes());
            }
            Self::Stop(ending) => {
                put_u32(&mut packet, 0, 102);
                put_u32(&mut packet, 4, ending.code());
            }
            Self::Welcome(welcome) => {
                let (end, detail) = welcome.previous_end.codes();
                put_u32(&mut packet, 0, 103);
                put_u32(&mut packet, 4, kind_code(welcome.node_kind));
                packet[8..16].copy_from_slice(&welcome.timing_scale.factor().to_le_bytes());
                put_u32(&mut packet, 16, welcome.supervisor_starts);
                put_u32(&mut packet, 20, end);
                put_u32(&mut packet, 24, detail);
            }
        }
        packet
    }

    /// Reads a packet that the supervisor received.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let packet = whole(bytes)?;
        match get_u32(packet, 0) {
            101 => Ok(Self::Exit(Exit {
                process: get_process(packet),
                wait_status: i32::from_le_bytes(field(packet, 16)),
            })),
            102 => Ending::from_code(get_u32(packet, 4)).map(Self::Stop),
            103 => Ok(Self::Welcome(Welcome {
                node_kind: kind_from_code(get_u32(packet, 4))?,
                timing_scale: Scale::new(f64::from_le_bytes(field(packet, 8)))
                    .map_err(|_| DecodeError::Scale)?,
                supervisor_starts: get_u32(packet, 16),
                previous_end: PreviousEnd::from_codes(get_u32(packet, 20), get_u32(packet, 24))?,
            })),
            kind => Err(DecodeError::Field {
                field: "kind",
                value: kind,
            }),
        }
    }
}

/// A packet that no supervisor or PID 1 of this image sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is too short or too long.
    #[error("a message of {0} bytes came over the link, where each has {MESSAGE_SIZE}")]
    Length(usize),
    /// A field holds a value that stands for nothing.
    #[error("a message came over the link whose {field} is {value}, which means nothing")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// The timing scale is not one that [`Scale`] takes.
    #[error("a message came over the link whose timing scale is out of range")]
    Scale,
}

impl From<DecodeError> for io::Error {
    fn from(error: DecodeError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Makes the two ends of a link, both close-on-exec, PID 1's end non-blocking.
pub fn pair() -> io::Result<(Pid1Link, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    Ok((Pid1Link { socket: ours }, theirs))
}

/// PID 1's end: synchronous, never blocks, never allocates.
#[derive(Debug)]
pub struct Pid1Link {
    socket: OwnedFd,
}

/// What [`Pid1Link::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(FromSupervisor),
    /// Nothing now; poll again.
    Nothing,
    /// The supervisor closed its end; it is dead or dying.
    Closed,
    /// A packet that means nothing, which was dropped.
    Garbage(DecodeError),
}

impl Pid1Link {
    /// Sends one message; `false` when the supervisor's buffer is full, so that PID 1 never waits
    /// for it.
    pub fn send(&self, message: FromPid1) -> io::Result<bool> {
        loop {
            match rustix::net::send(
                &self.socket,
                &message.encode(),
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes one message, if there is one.
    pub fn receive(&self) -> io::Result<Received> {
        let mut packet = [0; MESSAGE_SIZE];
        loop {
            return match rustix::net::recv(
                &self.socket,
                &mut packet,
                RecvFlags::DONTWAIT | RecvFlags::TRUNC,
            ) {
                Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => Ok(Received::Closed),
                Ok((_, MESSAGE_SIZE)) => Ok(FromSupervisor::decode(&packet)
                    .map_or_else(Received::Garbage, Received::Message)),
                Ok((_, length)) => Ok(Received::Garbage(DecodeError::Length(length))),
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => Ok(Received::Nothing),
                Err(error) => Err(error.into()),
            };
        }
    }
}

impl AsFd for Pid1Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn kind_code(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::Machine => 1,
        NodeKind::Namespace => 2,
    }
}

fn kind_from_code(code: u32) -> Result<NodeKind, DecodeError> {
    match code {
        1 => Ok(NodeKind::Machine),
        2 => Ok(NodeKind::Namespace),
        _ => Err(DecodeError::Field {
            field: "node kind",
            value: code,
        }),
    }
}

fn whole(bytes: &[u8]) -> Result<&Packet, DecodeError> {
    bytes
        .try_into()
        .map_err(|_| DecodeError::Length(bytes.len()))
}

/// `N` bytes at `offset`; both are constants of this module, within a packet.
fn field<const N: usize>(packet: &Packet, offset: usize) -> [u8; N] {
    std::array::from_fn(|index| packet[offset + index])
}

fn get_u32(packet: &Packet, offset: usize) -> u32 {
    u32::from_le_bytes(field(packet, offset))
}

fn put_u32(packet: &mut Packet, offset: usize, value: u32) {
    packet[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

fn get_process(packet: &Packet) -> ProcessKey {
    ProcessKey {
        pid: get_u32(packet, 4),
        start_time: u64::from_le_bytes(field(packet, 8)),
    }
}

fn put_process(packet: &mut Packet, process: ProcessKey) {
    put_u32(packet, 4, process.pid);
    packet[8..16].copy_from_slice(&process.start_time.to_le_bytes());
}

#[cfg(test)]
mod tests;
