//! A process held by its pidfd, so that its id can never mean another process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    waitid,
};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::leaf::{Leaf, LeafError};
use super::stat::Stat;
use crate::descriptor;
use crate::link::ProcessKey;

/// How often [`adopt`] looks again when the process that it chose ended meanwhile.
const ROUNDS: usize = 1000;

/// A running process of a service: its leader.
///
/// Dropping it neither ends nor reaps the process.
#[derive(Debug)]
pub struct Running {
    key: ProcessKey,
    pidfd: AsyncFd<OwnedFd>,
    end: Option<End>,
}

/// What [`adopt`] found in a leaf.
#[derive(Debug)]
pub struct Adopted {
    /// The process that is the service: of the session leaders the oldest, for
    /// [`start`](super::start::start) makes each service the leader of a session; the oldest of all
    /// if there is none.
    pub leader: Running,
    /// The other processes in the leaf: helpers of the service.
    pub others: Vec<u32>,
}

/// How a process ended, as far as this process can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was our child and ended like this.
    Status(ExitStatus),
    /// It was not our child: PID 1 knows, and sends [`Exit`](crate::link::Exit) with the same
    /// [`Running::key`].
    KnownToPid1,
}

/// The service in a leaf could not be taken over.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// The leaf could not be read.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The kernel gave no pidfd, or does not say what the process is.
    #[error("cannot adopt process {pid} of service `{service}`")]
    Process {
        /// The service.
        service: String,
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Each process in the leaf had ended before it could be held.
    #[error(
        "cannot adopt service `{service}`: its processes end faster than they can be held; kill its control group"
    )]
    Restless {
        /// The service.
        service: String,
    },
}

impl Running {
    /// Watches a process; must be called on the runtime.
    pub(super) fn new(key: ProcessKey, pidfd: OwnedFd) -> io::Result<Self> {
        let pidfd = descriptor::watch(pidfd, Interest::READABLE)?;
        Ok(Self {
            key,
            pidfd,
            end: None,
        })
    }

    /// Its id and start time.
    pub fn key(&self) -> ProcessKey {
        self.key
    }

    /// Waits until it has ended, and reaps it if it is a child of this process. Safe to cancel and to
    /// call again. Other processes of its leaf may live on.
    pub async fn exited(&mut self) -> io::Result<End> {
        loop {
            if let Some(end) = self.end {
                return Ok(end);
            }
            let mut ready = self.pidfd.readable().await?;
            let id = WaitId::PidFd(ready.get_inner().as_fd());
            match waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(Some(status)) => self.end = Some(End::Status(exit_status(&status))),
                Err(Errno::CHILD) => self.end = Some(End::KnownToPid1),
                Ok(None) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a signal to it, and to it alone. `Ok` also when it has ended already.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes over the service that runs in a leaf, if one does: reads who is in it, opens a pidfd, and
/// reads again to be sure that the pidfd is not that of a stranger who got the id meanwhile.
///
/// Must be called on the runtime. Finding none means that the leaf was empty, and, as only its
/// caller starts services, that it stays so.
pub fn adopt(leaf: &Leaf) -> Result<Option<Adopted>, AdoptError> {
    for _ in 0..ROUNDS {
        let pids = leaf.processes()?;
        if pids.is_empty() {
            return Ok(None);
        }
        // One that vanishes meanwhile is left out; the next round tells whether any remains.
        let leader = pids
            .iter()
            .filter_map(|&pid| Stat::read(pid).ok())
            .min_by_key(|stat| (!stat.leads_session(), stat.key.start_time, stat.key.pid));
        let Some(leader) = leader else { continue };
        let failed = |source: io::Error| AdoptError::Process {
            service: leaf.name().to_owned(),
            pid: leader.key.pid,
            source,
        };
        let pidfd = match pidfd_open(raw_pid(leader.key.pid), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => continue,
            Err(error) => return Err(failed(error.into())),
        };
        let same = Stat::read(leader.key.pid).is_ok_and(|again| again.key == leader.key);
        let mut pids = leaf.processes()?;
        let present = pids.iter().position(|&pid| pid == leader.key.pid);
        // The pidfd's process is still alive, so its id meant it, and no other, all the time.
        if let (true, Some(index)) = (same && is_alive(&pidfd).map_err(failed)?, present) {
            pids.swap_remove(index);
            let leader = Running::new(leader.key, pidfd).map_err(failed)?;
            return Ok(Some(Adopted {
                leader,
                others: pids,
            }));
        }
    }
    Err(AdoptError::Restless {
        service: leaf.name().to_owned(),
    })
}

fn is_alive(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut watched = [PollFd::new(pidfd, PollFlags::IN)];
    Ok(poll(
        &mut watched,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )? == 0)
}

fn raw_pid(pid: u32) -> Pid {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("the kernel's process ids are positive")
}

/// Encodes a status as wait(2) does.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) if status.dumped() => signal | 0x80,
        (None, signal) => signal.unwrap_or_default(),
    };
    ExitStatus::from_raw(raw)
}
