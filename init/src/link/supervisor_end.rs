//! The supervisor's end of the link.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::descriptor;

use super::{DecodeError, Ending, FromPid1, FromSupervisor, MESSAGE_SIZE, ProcessKey};

/// The supervisor's end, for its tokio runtime.
#[derive(Debug)]
pub struct SupervisorLink {
    socket: AsyncFd<OwnedFd>,
}

impl SupervisorLink {
    /// Takes over the descriptor that PID 1 left open at the start of the process, by its number
    /// in `--link-fd`. Call it once, within a tokio runtime.
    ///
    /// Fails when the descriptor is no socket.
    pub fn inherit(descriptor: RawFd) -> io::Result<Self> {
        let inherited = descriptor::inherit(descriptor)?;
        rustix::net::sockopt::socket_type(&inherited)?;
        Self::new(inherited)
    }

    /// Wraps one end of a pair. Call it within a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = descriptor::watch(socket, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { socket })
    }

    /// Says that the supervisor lives.
    pub async fn beat(&self) -> io::Result<()> {
        self.send(FromSupervisor::Beat).await
    }

    /// Says that the exit of this process is recorded.
    pub async fn acknowledge(&self, process: ProcessKey) -> io::Result<()> {
        self.send(FromSupervisor::Acknowledge(process)).await
    }

    /// Asks for every exit that was not acknowledged yet.
    pub async fn replay(&self) -> io::Result<()> {
        self.send(FromSupervisor::Replay).await
    }

    /// Says that the services are stopped and that the node shall end.
    pub async fn shutdown(&self, ending: Ending) -> io::Result<()> {
        self.send(FromSupervisor::Shutdown(ending)).await
    }

    /// Asks PID 1 to end the node. It says [`FromPid1::Stop`] then, again to a supervisor that replaces this one.
    pub async fn request(&self, ending: Ending) -> io::Result<()> {
        self.send(FromSupervisor::Request(ending)).await
    }

    /// Waits for PID 1's next message. Safe to drop in a `select!`: a message is taken whole or
    /// not at all.
    ///
    /// Fails with `UnexpectedEof` when PID 1 closed the link, and with `InvalidData` (a
    /// [`DecodeError`]) for a message that means nothing.
    pub async fn next_message(&self) -> io::Result<FromPid1> {
        let mut packet = [0; MESSAGE_SIZE];
        let length = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                Ok(rustix::net::recv(socket, &mut packet, RecvFlags::TRUNC)?.1)
            })
            .await?;
        match length {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "PID 1 closed the link",
            )),
            MESSAGE_SIZE => Ok(FromPid1::decode(&packet)?),
            _ => Err(DecodeError::Length(length).into()),
        }
    }

    async fn send(&self, message: FromSupervisor) -> io::Result<()> {
        let packet = message.encode();
        self.socket
            .async_io(Interest::WRITABLE, |socket| {
                rustix::net::send(socket, &packet, SendFlags::NOSIGNAL)?;
                Ok(())
            })
            .await
    }
}
