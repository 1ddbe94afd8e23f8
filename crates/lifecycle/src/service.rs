//! The life of one service: its states, and what leads from one to the next.

mod ending;
mod running;

use std::time::Duration;

use masthead_machine::{BootTime, Machine, Random};

use crate::back_off::Deaths;
use crate::prober::Prober;
use crate::story::EndedBy;
use crate::{Action, Event, Exit, LastExit, Note, Policy, Process, ServiceName};

/// The machine of one service.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) name: ServiceName,
    pub(crate) policy: Policy,
    pub(crate) state: State,
    pub(crate) since: BootTime,
    /// Whether it is to run.
    wanted: bool,
    /// Those of `policy.after` that were never ready; nobody is waited for once it ran.
    pub(crate) awaited: Vec<ServiceName>,
    /// The main process, until its exit was reported.
    pub(crate) current: Option<Current>,
    pub(crate) readiness: Option<Prober>,
    pub(crate) liveness: Option<Prober>,
    pub(crate) deaths: Deaths,
    /// The next start is not to happen before.
    resume_at: BootTime,
    /// Whether it ran since this supervisor began; what follows is a restart.
    ran: bool,
    pub(crate) restarts: u64,
    pub(crate) last_exit: Option<LastExit>,
    pub(crate) start_error: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    pub(crate) process: Process,
    pub(crate) started: BootTime,
    ended_by: Option<EndedBy>,
}

/// Each state has a deadline, or is left by an event that is sure to come.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Nobody knows yet what is in the leaf.
    Examining { ask_at: BootTime },
    /// The leaf is empty; others have to be ready first.
    Waiting,
    /// `Start` was asked for. Only its answer leads on, for a start that was given up could still
    /// happen, after a second one; a stuck one is killed, so many times.
    Starting { kills: u32, until: BootTime },
    /// The main process runs and was not told to end.
    Alive(Condition),
    /// The main process was told to end.
    Terminating { grace: Duration, kill_at: BootTime },
    /// The main process is gone; the leaf may still be populated.
    Clearing { kill_at: BootTime },
    /// `KillGroup` was asked for, so many times.
    Killing { attempts: u32, again_at: BootTime },
    /// The leaf is empty; how the main process ended is still to be reported.
    Reaping { until: BootTime },
    /// The leaf is empty; it died and is started again later.
    BackingOff { until: BootTime },
    /// Not wanted, and the leaf is empty; or not, if it was given up.
    Stopped { abandoned: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Was never ready.
    Running,
    /// Ready since then.
    Ready(BootTime),
    /// Was ready once.
    Unhealthy,
}

impl Machine for Service {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.forget_deaths(now);
        self.handle(now, event, &mut actions);
        self.pursue(now, &mut actions);
        actions.extend(self.deadline().map(Action::WakeAt));
        actions
    }
}

impl Service {
    /// A service of which nothing is known yet; it is wanted. Its first event is `Woken`.
    pub fn new(name: ServiceName, policy: Policy, random: Random) -> Self {
        Self {
            state: State::Examining {
                ask_at: BootTime::default(),
            },
            since: BootTime::default(),
            wanted: true,
            awaited: policy.after.clone(),
            current: None,
            readiness: policy.readiness.map(Prober::new),
            liveness: policy.liveness.map(Prober::new),
            deaths: Deaths::new(policy.back_off, policy.forgiveness.clone(), random),
            resume_at: BootTime::default(),
            ran: false,
            restarts: 0,
            last_exit: None,
            start_error: None,
            name,
            policy,
        }
    }

    /// Takes over that it was started before, by whoever ran it until now, and `restarts` times again.
    pub fn remember(&mut self, restarts: u64) {
        self.ran = true;
        self.restarts = restarts;
    }

    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Its policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether it runs and its readiness probe succeeds.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Alive(Condition::Ready(_)))
    }

    /// Whether it was stopped, or given up while stopping.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped { .. })
    }

    fn handle(&mut self, now: BootTime, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Woken => {}
            Event::Adopted { process, since } => match self.state {
                State::Examining { .. } => {
                    actions.push(Action::Note(Note::Adopted(process)));
                    self.live(now, process, since, actions);
                }
                _ => self.found_populated(now, actions),
            },
            Event::LeafPopulated => self.found_populated(now, actions),
            Event::LeafEmpty => self.found_empty(now, actions),
            Event::Started { process } => self.started(now, process, actions),
            Event::StartFailed { error } => self.start_failed(now, error, actions),
            Event::Exited { process, exit } => self.exited(now, process, exit, actions),
            Event::ProbeAnswered {
                process,
                probe,
                answer,
            } => {
                if self
                    .current
                    .is_some_and(|current| current.process == process)
                {
                    self.probe_answered(now, probe, answer, actions);
                }
            }
            Event::Released { by } => self.awaited.retain(|name| *name != by),
            Event::RunRequested => {
                self.wanted = true;
                if self.is_stopped() {
                    self.enter(now, State::Examining { ask_at: now });
                }
            }
            Event::StopRequested => {
                self.wanted = false;
                if let State::Alive(_) = self.state {
                    self.terminate(now, EndedBy::Stop, actions);
                }
            }
            Event::RestartRequested => {
                if let State::Alive(_) = self.state {
                    self.terminate(now, EndedBy::Restart, actions);
                }
                self.resume_at = now;
            }
        }
    }

    /// Does what is due by now, or has become possible.
    fn pursue(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Examining { ask_at } if *ask_at <= now => {
                *ask_at = now + self.policy.patience;
                actions.push(Action::Examine);
            }
            State::Waiting | State::BackingOff { .. } => self.settle(now, actions),
            State::Starting { until, .. } if *until <= now => self.unblock_start(now, actions),
            State::Alive(_) => self.pursue_probes(now, actions),
            State::Terminating { grace, kill_at } if *kill_at <= now => {
                actions.push(Action::Note(Note::GraceOver(*grace)));
                self.kill(now, actions);
            }
            State::Clearing { kill_at } if *kill_at <= now => {
                actions.push(Action::Note(Note::StragglersKilled));
                self.kill(now, actions);
            }
            State::Killing { again_at, .. } if *again_at <= now => self.kill_again(now, actions),
            State::Reaping { until } if *until <= now => {
                self.record_exit(now, Exit::Unknown);
                self.settle(now, actions);
            }
            _ => {}
        }
    }

    /// A service that was ready for long enough is forgiven; also when it dies before the
    /// deadline for it was noticed.
    fn forget_deaths(&mut self, now: BootTime) {
        if self.forget_at().is_some_and(|at| at <= now) {
            self.deaths.forget();
        }
    }

    fn forget_at(&self) -> Option<BootTime> {
        match self.state {
            State::Alive(Condition::Ready(since)) if self.deaths.any() => {
                Some(since + self.deaths.reset_after())
            }
            _ => None,
        }
    }

    fn deadline(&self) -> Option<BootTime> {
        match self.state {
            State::Waiting | State::Stopped { .. } => None,
            State::Alive(_) => {
                let probes = self
                    .readiness
                    .iter()
                    .chain(&self.liveness)
                    .map(Prober::deadline);
                probes.chain(self.forget_at()).min()
            }
            State::Examining { ask_at: at }
            | State::Starting { until: at, .. }
            | State::Terminating { kill_at: at, .. }
            | State::Clearing { kill_at: at }
            | State::Killing { again_at: at, .. }
            | State::Reaping { until: at }
            | State::BackingOff { until: at } => Some(at),
        }
    }

    fn enter(&mut self, now: BootTime, state: State) {
        self.state = state;
        self.since = now;
    }

    fn found_populated(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        match self.state {
            // Somebody is there who should not be, or whom nobody can watch.
            State::Examining { .. }
            | State::Waiting
            | State::BackingOff { .. }
            | State::Reaping { .. }
            | State::Stopped { abandoned: false } => {
                actions.push(Action::Note(Note::StragglersKilled));
                self.kill(now, actions);
            }
            State::Starting { .. }
            | State::Alive(_)
            | State::Terminating { .. }
            | State::Clearing { .. }
            | State::Killing { .. }
            | State::Stopped { abandoned: true } => {}
        }
    }

    fn found_empty(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        match self.state {
            State::Examining { .. } | State::Clearing { .. } | State::Killing { .. } => {
                if self.current.is_some() {
                    self.enter(
                        now,
                        State::Reaping {
                            until: now + self.policy.patience,
                        },
                    );
                } else {
                    self.settle(now, actions);
                }
            }
            State::Stopped { abandoned: true } => {
                self.enter(now, State::Stopped { abandoned: false });
            }
            // While a process lives, its exit says more; otherwise nothing new.
            _ => {}
        }
    }

    /// The leaf is empty and no exit is outstanding: what now?
    fn settle(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        if !self.wanted {
            actions.push(Action::Note(Note::Stopped));
            self.enter(now, State::Stopped { abandoned: false });
        } else if !self.awaited.is_empty() {
            if !matches!(self.state, State::Waiting) {
                self.enter(now, State::Waiting);
            }
        } else if now < self.resume_at {
            if !matches!(self.state, State::BackingOff { .. }) {
                actions.push(Action::Note(Note::BackingOff(self.resume_at.since(now))));
                self.enter(
                    now,
                    State::BackingOff {
                        until: self.resume_at,
                    },
                );
            }
        } else {
            actions.push(Action::Start);
            let until = now + self.policy.patience;
            self.enter(now, State::Starting { kills: 0, until });
        }
    }
}
