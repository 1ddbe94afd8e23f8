//! The phases of an orderly end: a state machine without effects.
//!
//! 1. The supervisor stops the services in order and says so, or its time is up.
//! 2. Every process is asked to end (TERM), until none is left or the time is up.
//! 3. Every process is killed, until none is left or the time is up: one that the kernel cannot
//!    end, because a disk does not answer, must not keep the node from ending.
//! 4. File systems, and `reboot(2)`: see `finish`.

use std::time::Duration;

use masthead_machine::{BootTime, Scale};

use crate::link::Ending;

/// For the supervisor to stop all services in order.
pub const TO_STOP: Duration = Duration::from_secs(90);
/// For processes to end after TERM.
pub const TO_TERMINATE: Duration = Duration::from_secs(10);
/// For processes to disappear after KILL.
pub const TO_DIE: Duration = Duration::from_secs(5);

/// How far the end of the node is.
#[derive(Debug)]
pub struct Shutdown {
    scale: Scale,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Running,
    Stopping { ending: Ending, deadline: BootTime },
    Terminating { ending: Ending, deadline: BootTime },
    Killing { ending: Ending, deadline: BootTime },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask the supervisor to stop the services.
    AskSupervisor(Ending),
    /// Send TERM to every process.
    TerminateAll,
    /// Kill every process.
    KillAll,
    /// Unmount, and end the node.
    Finish(Ending),
}

impl Shutdown {
    /// The node runs.
    pub fn new(scale: Scale) -> Self {
        Self {
            scale,
            phase: Phase::Running,
        }
    }

    /// The end that is under way, if the supervisor is still to bring the services down.
    pub fn stopping(&self) -> Option<Ending> {
        match self.phase {
            Phase::Stopping { ending, .. } => Some(ending),
            _ => None,
        }
    }

    /// Whether a supervisor that ends is to be replaced: also while it stops the services, since a
    /// new one adopts them and goes on.
    pub fn wants_supervisor(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping { .. })
    }

    /// Somebody asked for the end. The first to ask decides how it ends; asking again changes
    /// nothing.
    pub fn request(&mut self, now: BootTime, ending: Ending) -> Option<Step> {
        let Phase::Running = self.phase else {
            return None;
        };
        self.phase = Phase::Stopping {
            ending,
            deadline: now + self.scale * TO_STOP,
        };
        Some(Step::AskSupervisor(ending))
    }

    /// The supervisor says that the services are stopped, asked or on its own account.
    pub fn services_stopped(&mut self, now: BootTime, ending: Ending) -> Option<Step> {
        match self.phase {
            Phase::Running => Some(self.terminate(now, ending)),
            Phase::Stopping { ending, .. } => Some(self.terminate(now, ending)),
            Phase::Terminating { .. } | Phase::Killing { .. } => None,
        }
    }

    /// No process is left but PID 1.
    pub fn nobody_left(&self) -> Option<Step> {
        match self.phase {
            Phase::Running | Phase::Stopping { .. } => None,
            Phase::Terminating { ending, .. } | Phase::Killing { ending, .. } => {
                Some(Step::Finish(ending))
            }
        }
    }

    /// When [`Shutdown::due`] has something to say at the earliest.
    pub fn wake_at(&self) -> Option<BootTime> {
        match self.phase {
            Phase::Running => None,
            Phase::Stopping { deadline, .. }
            | Phase::Terminating { deadline, .. }
            | Phase::Killing { deadline, .. } => Some(deadline),
        }
    }

    /// What is to be done because a time is up.
    pub fn due(&mut self, now: BootTime) -> Option<Step> {
        if self.wake_at().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match self.phase {
            Phase::Running => None,
            Phase::Stopping { ending, .. } => Some(self.terminate(now, ending)),
            Phase::Terminating { ending, .. } => {
                self.phase = Phase::Killing {
                    ending,
                    deadline: now + self.scale * TO_DIE,
                };
                Some(Step::KillAll)
            }
            Phase::Killing { ending, .. } => Some(Step::Finish(ending)),
        }
    }

    fn terminate(&mut self, now: BootTime, ending: Ending) -> Step {
        self.phase = Phase::Terminating {
            ending,
            deadline: now + self.scale * TO_TERMINATE,
        };
        Step::TerminateAll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn an_orderly_end_waits_for_the_supervisor_and_then_for_the_rest() {
        let mut shutdown = Shutdown::new(Scale::REAL);
        assert_eq!(shutdown.nobody_left(), None);
        assert_eq!(shutdown.due(at(1_000_000)), None);
        let step = shutdown.request(at(0), Ending::PowerOff);
        assert_eq!(step, Some(Step::AskSupervisor(Ending::PowerOff)));
        assert!(shutdown.wants_supervisor());
        assert_eq!(
            shutdown.nobody_left(),
            None,
            "a supervisor is about to be started again"
        );
        assert_eq!(
            shutdown.services_stopped(at(20), Ending::Reboot),
            Some(Step::TerminateAll)
        );
        assert!(!shutdown.wants_supervisor());
        assert_eq!(shutdown.nobody_left(), Some(Step::Finish(Ending::PowerOff)));
    }

    #[test]
    fn each_phase_ends_by_its_deadline() {
        let mut shutdown = Shutdown::new(Scale::new(2.0).expect("a scale"));
        shutdown.request(at(0), Ending::Reboot);
        assert_eq!(shutdown.wake_at(), Some(at(180)));
        assert_eq!(shutdown.due(at(179)), None);
        assert_eq!(shutdown.due(at(180)), Some(Step::TerminateAll));
        assert_eq!(shutdown.due(at(199)), None);
        assert_eq!(shutdown.due(at(200)), Some(Step::KillAll));
        assert_eq!(shutdown.due(at(209)), None);
        assert_eq!(shutdown.due(at(210)), Some(Step::Finish(Ending::Reboot)));
    }

    #[test]
    fn the_first_to_ask_decides() {
        let mut shutdown = Shutdown::new(Scale::REAL);
        assert!(shutdown.request(at(0), Ending::Reboot).is_some());
        assert_eq!(shutdown.request(at(80), Ending::PowerOff), None);
        assert_eq!(shutdown.stopping(), Some(Ending::Reboot));
        assert_eq!(
            shutdown.wake_at(),
            Some(at(90)),
            "and asking again does not prolong it"
        );
    }

    #[test]
    fn the_supervisor_may_decide_by_itself() {
        let mut shutdown = Shutdown::new(Scale::REAL);
        assert_eq!(
            shutdown.services_stopped(at(0), Ending::PowerOff),
            Some(Step::TerminateAll)
        );
        assert_eq!(shutdown.services_stopped(at(1), Ending::Reboot), None);
        assert_eq!(shutdown.nobody_left(), Some(Step::Finish(Ending::PowerOff)));
    }
}
