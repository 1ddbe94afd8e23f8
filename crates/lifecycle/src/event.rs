//! What the machines hear and what they ask for.

use std::fmt;
use std::time::Duration;

use masthead_machine::{BootTime, Wakes, Woken};

use crate::ServiceName;

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks from boot to its start (proc_pid_stat(5)).
    pub start_time: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pid.fmt(formatter)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// By itself, with this code from 0 to 255.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody who was told its status is left.
    Unknown,
}

impl Exit {
    /// Reads a status as `waitpid(2)` gives it for an ended process.
    pub const fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exited with code {code}"),
            Self::Signal(signal) => write!(formatter, "killed by signal {signal}"),
            Self::Unknown => formatter.write_str("ended, nobody knows how"),
        }
    }
}

/// Which question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// Does it serve?
    Readiness,
    /// Does it hang?
    Liveness,
}

impl fmt::Display for Probe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        })
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The service answered that all is well.
    Healthy,
    /// It answered that it is not, or did not answer; with what it said, or the error.
    Unhealthy(String),
}

/// What can happen to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed; also the first event of all.
    Woken,
    /// Answer to [`Action::Examine`]: the leaf holds this main process, started at `since`.
    Adopted {
        /// The process, of which an exit is going to be reported.
        process: Process,
        /// When it was started.
        since: BootTime,
    },
    /// The leaf holds processes, none of which can be watched as the main one.
    LeafPopulated,
    /// The leaf is empty *now*: read in the same turn of the driver in which it is reported. An
    /// older observation must not be reported, for a start may have happened since.
    LeafEmpty,
    /// Answer to [`Action::Start`]: it was executed.
    Started {
        /// The process, of which an exit is going to be reported.
        process: Process,
    },
    /// Answer to [`Action::Start`]: it was not.
    StartFailed {
        /// What failed and why.
        error: String,
    },
    /// The main process ended; others may still be in the leaf. Also reported for a process that
    /// ended while no supervisor was there to see it.
    Exited {
        /// The process.
        process: Process,
        /// How it ended.
        exit: Exit,
    },
    /// Answer to [`Action::Probe`].
    ProbeAnswered {
        /// The process that was asked.
        process: Process,
        /// What it was asked.
        probe: Probe,
        /// What it said.
        answer: Answer,
    },
    /// A service in [`Policy::after`](crate::Policy::after) is or was ready.
    Released {
        /// That service.
        by: ServiceName,
    },
    /// It is to run; the default.
    RunRequested,
    /// It is to be stopped, and to stay so.
    StopRequested,
    /// It is to be stopped and started again, without delay and without being blamed for it.
    RestartRequested,
}

impl From<Woken> for Event {
    fn from(Woken: Woken) -> Self {
        Self::Woken
    }
}

/// What one service needs to have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look into the leaf; answer with `Adopted`, `LeafPopulated` or `LeafEmpty`.
    Examine,
    /// Start the program in the leaf, which was empty a moment ago; always answer, with `Started` or
    /// `StartFailed`, also when it takes long. Refuse when the leaf is populated after all.
    Start,
    /// Send TERM to the main process.
    Terminate {
        /// That process.
        process: Process,
    },
    /// Kill everything in the leaf (`cgroup.kill`), and report `LeafEmpty` when it is.
    KillGroup,
    /// Ask the service; answer with `ProbeAnswered` within `timeout`.
    Probe {
        /// The process that is asked.
        process: Process,
        /// What it is asked.
        probe: Probe,
        /// After this long without an answer it is unhealthy.
        timeout: Duration,
    },
    /// Send [`Event::Woken`] at this instant.
    WakeAt(BootTime),
    /// For the log.
    Note(Note),
}

impl Wakes for Action {
    fn wake_at(&self) -> Option<BootTime> {
        match self {
            Self::WakeAt(at) => Some(*at),
            _ => None,
        }
    }
}

/// A line for the log: one step in the life of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It was found running by a new supervisor.
    Adopted(Process),
    /// It was started.
    Started(Process),
    /// It could not be started, because of this error.
    StartFailed(String),
    /// Its start takes too long, and was killed, this many times.
    StartStuck(u32),
    /// It answered its readiness probe, this long after its start.
    Ready(Duration),
    /// It stopped answering its readiness probe, with its last answer.
    NotReady(String),
    /// It is restarted because it hangs; with the last answer to its liveness probe.
    Hung(String),
    /// Its main process ended.
    Exited(Exit),
    /// It is restarted after this long.
    BackingOff(Duration),
    /// It keeps dying: this many times without having been ready for long.
    CrashLooping(u32),
    /// It did not end within this time after TERM, and was killed.
    GraceOver(Duration),
    /// Processes that were no longer wanted were found in its leaf and killed.
    StragglersKilled,
    /// The leaf is still populated after `cgroup.kill`, this many times.
    KillFailed(u32),
    /// It stopped, as was asked.
    Stopped,
    /// It was asked to stop, could not be killed, and is left to the final kill.
    Abandoned,
}

impl Note {
    /// Whether an operator should be told even when nobody looks for details.
    pub const fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::Adopted(_)
                | Self::Started(_)
                | Self::Ready(_)
                | Self::BackingOff(_)
                | Self::Stopped
        )
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopted(process) => write!(formatter, "found running as process {process}"),
            Self::Started(process) => write!(formatter, "started as process {process}"),
            Self::StartFailed(error) => write!(formatter, "cannot be started: {error}"),
            Self::StartStuck(times) => {
                write!(
                    formatter,
                    "takes too long to be executed, killed {times} times"
                )
            }
            Self::Ready(after) => write!(formatter, "ready after {after:.1?}"),
            Self::NotReady(said) => write!(formatter, "no longer ready: {said}"),
            Self::Hung(said) => write!(formatter, "hangs and is restarted: {said}"),
            Self::Exited(exit) => exit.fmt(formatter),
            Self::BackingOff(wait) => write!(formatter, "restarted in {wait:.1?}"),
            Self::CrashLooping(deaths) => {
                write!(formatter, "keeps dying ({deaths} times), is still retried")
            }
            Self::GraceOver(grace) => {
                write!(
                    formatter,
                    "did not end within {grace:.1?} after TERM, killed"
                )
            }
            Self::StragglersKilled => formatter.write_str("left processes behind, killed"),
            Self::KillFailed(times) => {
                write!(
                    formatter,
                    "does not die, even killed {times} times; is a disk stuck?"
                )
            }
            Self::Stopped => formatter.write_str("stopped"),
            Self::Abandoned => formatter.write_str("could not be stopped, left to the final kill"),
        }
    }
}

/// What can happen to the services of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// Time has passed; also the first event of all.
    Woken,
    /// Something happened to one service; a name that the group does not know is ignored.
    Service(ServiceName, Event),
    /// All services are to be stopped, each before those that it needs.
    StopAll,
}

impl From<Woken> for GroupEvent {
    fn from(Woken: Woken) -> Self {
        Self::Woken
    }
}

/// What the services of a node need to have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAction {
    /// What one service needs; never its [`Action::WakeAt`].
    Service(ServiceName, Action),
    /// Send [`GroupEvent::Woken`] at this instant.
    WakeAt(BootTime),
    /// All services are stopped or given up, as [`GroupEvent::StopAll`] asked.
    AllStopped,
}

impl Wakes for GroupAction {
    fn wake_at(&self) -> Option<BootTime> {
        match self {
            Self::WakeAt(at) => Some(*at),
            _ => None,
        }
    }
}
