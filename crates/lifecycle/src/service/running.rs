//! From a start to an end: started, probed, ready.

use masthead_machine::BootTime;

use super::{Condition, Current, Service, State};
use crate::prober::{Due, Prober, Verdict};
use crate::story::EndedBy;
use crate::{Action, Answer, Note, Probe, Process};

impl Service {
    pub(super) fn started(&mut self, now: BootTime, process: Process, actions: &mut Vec<Action>) {
        match self.state {
            State::Starting { .. } => {
                self.restarts += u64::from(self.ran);
                self.start_error = None;
                actions.push(Action::Note(Note::Started(process)));
                self.live(now, process, now, actions);
            }
            State::Alive(_) | State::Terminating { .. } => {}
            // It was given up.
            _ => {
                self.current = Some(Current {
                    process,
                    started: now,
                    ended_by: None,
                });
                self.kill(now, actions);
            }
        }
    }

    pub(super) fn start_failed(&mut self, now: BootTime, error: String, actions: &mut Vec<Action>) {
        let State::Starting { .. } = self.state else {
            return;
        };
        actions.push(Action::Note(Note::StartFailed(error.clone())));
        self.start_error = Some(error);
        let wait = self.deaths.failed();
        self.blame(now, wait, actions);
        self.clear(now, actions);
    }

    /// A start takes too long: whatever was born in the leaf is killed, so that it ends.
    pub(super) fn unblock_start(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let State::Starting { kills, until } = &mut self.state else {
            return;
        };
        if !self.wanted && *kills >= self.policy.kill_attempts {
            self.abandon(now, actions);
            return;
        }
        *kills = kills.saturating_add(1);
        *until = now + self.policy.patience;
        actions.extend([Action::Note(Note::StartStuck(*kills)), Action::KillGroup]);
    }

    pub(super) fn live(
        &mut self,
        now: BootTime,
        process: Process,
        started: BootTime,
        actions: &mut Vec<Action>,
    ) {
        self.current = Some(Current {
            process,
            started,
            ended_by: None,
        });
        self.ran = true;
        self.awaited.clear();
        for prober in self.readiness.iter_mut().chain(&mut self.liveness) {
            prober.begin(now);
        }
        let condition = match self.readiness {
            Some(_) => Condition::Running,
            None => Condition::Ready(now),
        };
        self.enter(now, State::Alive(condition));
        if !self.wanted {
            self.terminate(now, EndedBy::Stop, actions);
        }
    }

    pub(super) fn pursue_probes(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        for probe in [Probe::Readiness, Probe::Liveness] {
            let (State::Alive(_), Some(current)) = (&self.state, self.current) else {
                return;
            };
            let process = current.process;
            match self.prober(probe).and_then(|prober| prober.due(now)) {
                None => {}
                Some(Due::Ask(timeout)) => {
                    actions.push(Action::Probe {
                        process,
                        probe,
                        timeout,
                    });
                }
                Some(Due::Late(timeout)) => {
                    let answer = Answer::Unhealthy(format!("no answer within {timeout:.1?}"));
                    self.probe_answered(now, probe, answer, actions);
                }
            }
        }
    }

    fn prober(&mut self, probe: Probe) -> Option<&mut Prober> {
        match probe {
            Probe::Readiness => self.readiness.as_mut(),
            Probe::Liveness => self.liveness.as_mut(),
        }
    }

    pub(super) fn probe_answered(
        &mut self,
        now: BootTime,
        probe: Probe,
        answer: Answer,
        actions: &mut Vec<Action>,
    ) {
        let (State::Alive(condition), Some(current)) = (&self.state, self.current) else {
            return;
        };
        let condition = *condition;
        // Whoever was ready has started, also when its liveness was not asked in time to say so.
        let starting_up =
            condition == Condition::Running && now < current.started + self.policy.startup;
        let Some(prober) = self.prober(probe) else {
            return;
        };
        let counts = probe == Probe::Readiness || prober.has_succeeded() || !starting_up;
        let said = match &answer {
            Answer::Healthy => String::new(),
            Answer::Unhealthy(said) => said.clone(),
        };
        match (probe, prober.answered(now, answer, counts), condition) {
            (Probe::Readiness, Some(Verdict::Well), Condition::Running | Condition::Unhealthy) => {
                actions.push(Action::Note(Note::Ready(now.since(current.started))));
                self.enter(now, State::Alive(Condition::Ready(now)));
            }
            (Probe::Readiness, Some(Verdict::Unwell), Condition::Ready(_)) => {
                actions.push(Action::Note(Note::NotReady(said)));
                self.enter(now, State::Alive(Condition::Unhealthy));
            }
            (Probe::Liveness, Some(Verdict::Unwell), _) => {
                actions.push(Action::Note(Note::Hung(said)));
                let wait = self.deaths.failed();
                self.blame(now, wait, actions);
                self.terminate(now, EndedBy::Liveness, actions);
            }
            _ => {}
        }
    }
}
