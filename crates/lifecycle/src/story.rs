//! What people are told about a service.

use std::fmt;
use std::time::Duration;

use masthead_machine::BootTime;

use crate::{Answer, Exit, Process, ServiceName};

/// The state of one service for people: derived from its machine, never kept beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// The service.
    pub name: ServiceName,
    /// What it is doing.
    pub phase: Phase,
    /// Since when.
    pub since: BootTime,
    /// Its main process.
    pub process: Option<Process>,
    /// When that process was started.
    pub started: Option<BootTime>,
    /// How often it was started again since this supervisor, or the one before it, began.
    pub restarts: u64,
    /// Whether it keeps dying (and is still retried).
    pub crash_looping: bool,
    /// How it ended the last time.
    pub last_exit: Option<LastExit>,
    /// Why it could not be started the last time, until it could.
    pub start_error: Option<String>,
    /// The readiness probe's last answer.
    pub readiness: Option<ProbeStory>,
    /// The liveness probe's last answer.
    pub liveness: Option<ProbeStory>,
    /// What it waits for; nothing when it is ready or stopped.
    pub waiting_for: Option<WaitingFor>,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Its leaf is looked into, to find out whether it runs already.
    Examining,
    /// It waits for others to be ready for the first time.
    Waiting,
    /// It is being executed.
    Starting,
    /// It runs and is not ready yet.
    Running,
    /// It runs and its readiness probe succeeds.
    Ready,
    /// It runs, was ready, and is no longer.
    Unhealthy,
    /// It was told to end.
    Stopping,
    /// It, or what it left behind, is being killed.
    Killing,
    /// It died and is started again in a while.
    BackingOff,
    /// It does not run, and shall not.
    Stopped,
}

impl Phase {
    /// A stable word, for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Examining => "examining",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
            Self::Killing => "killing",
            Self::BackingOff => "backing-off",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// How a service ended the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastExit {
    /// How.
    pub exit: Exit,
    /// When it was noticed.
    pub at: BootTime,
    /// How long it had run; unknown if it ended while no supervisor watched.
    pub ran_for: Option<Duration>,
}

/// The last answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeStory {
    /// What was answered.
    pub answer: Answer,
    /// When.
    pub at: BootTime,
    /// How many failures in a row, this answer included.
    pub failures: u32,
}

/// What keeps a service from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingFor {
    /// Its leaf to be looked into.
    Examination,
    /// These services to be ready for the first time.
    Services(Vec<ServiceName>),
    /// The kernel to execute it.
    Execution,
    /// Its readiness probe to succeed; with the last answer.
    Readiness(Option<String>),
    /// Its main process to end after TERM, until the given instant.
    Termination(BootTime),
    /// All processes in its leaf to end.
    EmptyLeaf,
    /// Its back-off to be over, at the given instant.
    BackOff(BootTime),
    /// The same, of one that keeps dying.
    CrashLoop(BootTime),
}

impl WaitingFor {
    /// A stable code, for programs and for the manual.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Examination => "service-examination",
            Self::Services(_) => "service-dependency",
            Self::Execution => "service-execution",
            Self::Readiness(_) => "service-not-ready",
            Self::Termination(_) => "service-terminating",
            Self::EmptyLeaf => "service-leaf-populated",
            Self::BackOff(_) => "service-back-off",
            Self::CrashLoop(_) => "service-crash-loop",
        }
    }

    /// What would unblock it, for people.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Examination | Self::Execution | Self::Termination(_) | Self::BackOff(_) => {
                "nothing is to be done: it goes on by itself"
            }
            Self::Services(_) => "look at the services that it waits for",
            Self::Readiness(_) => "if it takes long, read the service's log",
            Self::EmptyLeaf => "if it takes long, a disk may be stuck: look at the disk's state",
            Self::CrashLoop(_) => {
                "read the service's last lines; a wrong flag or file in the seed is likely"
            }
        }
    }
}

/// The cause, for people.
impl fmt::Display for WaitingFor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Examination => {
                formatter.write_str("looking for running processes of the service")
            }
            Self::Services(names) => {
                formatter.write_str("waiting until ready: ")?;
                for (index, name) in names.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(formatter, "{comma}{name}")?;
                }
                Ok(())
            }
            Self::Execution => formatter.write_str("being executed"),
            Self::Readiness(None) => formatter.write_str("not asked yet whether it is ready"),
            Self::Readiness(Some(said)) => write!(formatter, "not ready: {said}"),
            Self::Termination(until) => write!(formatter, "told to end, killed at {until}"),
            Self::EmptyLeaf => formatter.write_str("waiting for its processes to be gone"),
            Self::BackOff(until) => write!(formatter, "it ended; started again at {until}"),
            Self::CrashLoop(until) => {
                write!(formatter, "it keeps dying; started again at {until}")
            }
        }
    }
}
