//! What people are told about a service.

use std::fmt;
use std::time::Duration;

use masthead_machine::BootTime;

use crate::prober::Prober;
use crate::service::{Condition, State};
use crate::{Answer, Exit, Process, Service, ServiceName};

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
    /// How often it was started again since this supervisor began.
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
    /// Why the supervisor told it to end, if it did.
    pub ended_by: Option<EndedBy>,
}

/// Why a service was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndedBy {
    /// It was to be stopped.
    Stop,
    /// It was to be started again.
    Restart,
    /// Its liveness probe failed.
    Liveness,
}

impl fmt::Display for EndedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stop => "stop requested",
            Self::Restart => "restart requested",
            Self::Liveness => "liveness probe failed",
        })
    }
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
    /// Its readiness probe to succeed for the first time; with the last answer.
    Readiness(Option<String>),
    /// Its readiness probe to succeed again; with the last answer.
    ReadinessAgain(Option<String>),
    /// Its main process to end after TERM, until the given instant.
    Termination(BootTime),
    /// All processes in its leaf to end.
    EmptyLeaf,
    /// Its back-off to be over, at the given instant.
    BackOff(BootTime),
    /// The same, of one that could not be started, for this reason.
    StartRetry(BootTime, String),
    /// The same, of one that keeps dying.
    CrashLoop(BootTime),
}

impl WaitingFor {
    /// The stable reason code, as `masthead-api` lists them with their remedies.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Examination | Self::Execution | Self::Readiness(_) => "service-starting",
            Self::Services(_) => "service-dependency",
            Self::ReadinessAgain(_) => "service-unready",
            Self::Termination(_) | Self::EmptyLeaf => "service-stopping",
            Self::BackOff(_) => "service-backing-off",
            Self::StartRetry(..) => "service-start-failed",
            Self::CrashLoop(_) => "service-crash-looping",
        }
    }
}

/// The cause, for people.
impl fmt::Display for WaitingFor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Examination => {
                formatter.write_str("looking for processes of it that run already")
            }
            Self::Services(names) => {
                let names: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
                write!(
                    formatter,
                    "starts when these are ready: {}",
                    names.join(", ")
                )
            }
            Self::Execution => formatter.write_str("being executed"),
            Self::Readiness(None) | Self::ReadinessAgain(None) => {
                formatter.write_str("did not answer yet whether it is ready")
            }
            Self::Readiness(Some(said)) => write!(formatter, "not ready yet: {said}"),
            Self::ReadinessAgain(Some(said)) => write!(formatter, "no longer ready: {said}"),
            Self::Termination(_) => formatter.write_str("was told to end"),
            Self::EmptyLeaf => formatter.write_str("its processes are not gone yet"),
            Self::BackOff(_) => formatter.write_str("it ended and is started again after a pause"),
            Self::StartRetry(_, error) => write!(formatter, "it cannot be started: {error}"),
            Self::CrashLoop(_) => formatter.write_str("it keeps ending soon after its start"),
        }
    }
}

impl Service {
    /// What there is to tell.
    pub fn story(&self) -> Story {
        Story {
            name: self.name.clone(),
            phase: self.phase(),
            since: self.since,
            process: self.current.map(|current| current.process),
            started: self.current.map(|current| current.started),
            restarts: self.restarts,
            crash_looping: self.deaths.crash_loop().is_some(),
            last_exit: self.last_exit,
            start_error: self.start_error.clone(),
            readiness: self.readiness.as_ref().and_then(Prober::story).cloned(),
            liveness: self.liveness.as_ref().and_then(Prober::story).cloned(),
            waiting_for: self.waiting_for(),
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Examining { .. } => Phase::Examining,
            State::Waiting => Phase::Waiting,
            State::Starting { .. } => Phase::Starting,
            State::Alive(Condition::Running) => Phase::Running,
            State::Alive(Condition::Ready(_)) => Phase::Ready,
            State::Alive(Condition::Unhealthy) => Phase::Unhealthy,
            State::Terminating { .. } | State::Clearing { .. } | State::Reaping { .. } => {
                Phase::Stopping
            }
            State::Killing { .. } => Phase::Killing,
            State::BackingOff { .. } => Phase::BackingOff,
            State::Stopped { .. } => Phase::Stopped,
        }
    }

    fn waiting_for(&self) -> Option<WaitingFor> {
        let complaint = || Some(self.readiness.as_ref()?.complaint()?.to_owned());
        Some(match &self.state {
            State::Examining { .. } => WaitingFor::Examination,
            State::Waiting => WaitingFor::Services(self.awaited.clone()),
            State::Starting { .. } => WaitingFor::Execution,
            State::Alive(Condition::Running) => WaitingFor::Readiness(complaint()),
            State::Alive(Condition::Ready(_)) | State::Stopped { abandoned: false } => return None,
            State::Alive(Condition::Unhealthy) => WaitingFor::ReadinessAgain(complaint()),
            State::Terminating { kill_at, .. } => WaitingFor::Termination(*kill_at),
            State::Clearing { .. }
            | State::Killing { .. }
            | State::Reaping { .. }
            | State::Stopped { abandoned: true } => WaitingFor::EmptyLeaf,
            State::BackingOff { until } => {
                let until = *until;
                if self.deaths.crash_loop().is_some() {
                    WaitingFor::CrashLoop(until)
                } else if let Some(error) = &self.start_error {
                    WaitingFor::StartRetry(until, error.clone())
                } else {
                    WaitingFor::BackOff(until)
                }
            }
        })
    }
}
