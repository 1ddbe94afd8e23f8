//! How a process ends, and what it leaves behind.

use std::time::Duration;

use masthead_machine::BootTime;

use super::{Service, State};
use crate::story::EndedBy;
use crate::{Action, Exit, LastExit, Note, Process};

impl Service {
    pub(super) fn terminate(&mut self, now: BootTime, by: EndedBy, actions: &mut Vec<Action>) {
        if let Some(current) = &mut self.current {
            current.ended_by = Some(by);
            actions.push(Action::Terminate {
                process: current.process,
            });
        }
        let grace = match by {
            EndedBy::Liveness => self.policy.hung_grace,
            EndedBy::Stop | EndedBy::Restart => self.policy.stop_grace,
        };
        self.enter(
            now,
            State::Terminating {
                grace,
                kill_at: now + grace,
            },
        );
    }

    pub(super) fn exited(
        &mut self,
        now: BootTime,
        process: Process,
        exit: Exit,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Note(Note::Exited(exit)));
        if self
            .current
            .is_none_or(|current| current.process != process)
        {
            // It ended while no supervisor was there, or the report was given up.
            self.last_exit = Some(LastExit {
                exit,
                at: now,
                ran_for: None,
                ended_by: None,
            });
            return;
        }
        self.record_exit(now, exit);
        match self.state {
            State::Alive(_) => {
                let wait = self.deaths.exited(exit);
                self.blame(now, wait, actions);
                self.clear(now, actions);
            }
            State::Terminating { .. } => self.clear(now, actions),
            State::Reaping { .. } => self.settle(now, actions),
            State::Killing { .. } => actions.push(Action::Examine),
            _ => {}
        }
    }

    pub(super) fn record_exit(&mut self, now: BootTime, exit: Exit) {
        if let Some(current) = self.current.take() {
            let ran_for = Some(now.since(current.started));
            self.last_exit = Some(LastExit {
                exit,
                at: now,
                ran_for,
                ended_by: current.ended_by,
            });
        }
    }

    pub(super) fn blame(&mut self, now: BootTime, wait: Duration, actions: &mut Vec<Action>) {
        self.resume_at = now + wait;
        actions.extend(
            self.deaths
                .crash_loop()
                .map(Note::CrashLooping)
                .map(Action::Note),
        );
    }

    pub(super) fn clear(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        self.enter(
            now,
            State::Clearing {
                kill_at: now + self.policy.straggler_grace,
            },
        );
        actions.push(Action::Examine);
    }

    pub(super) fn kill(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        self.enter(
            now,
            State::Killing {
                attempts: 1,
                again_at: now + self.policy.patience,
            },
        );
        actions.extend([Action::KillGroup, Action::Examine]);
    }

    pub(super) fn kill_again(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let State::Killing { attempts, again_at } = &mut self.state else {
            return;
        };
        if attempts.is_power_of_two() {
            actions.push(Action::Note(Note::KillFailed(*attempts)));
        }
        if !self.wanted && *attempts >= self.policy.kill_attempts {
            self.abandon(now, actions);
            return;
        }
        *attempts = attempts.saturating_add(1);
        *again_at = now + self.policy.patience;
        actions.extend([Action::KillGroup, Action::Examine]);
    }

    /// The stop goes on without this service.
    pub(super) fn abandon(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        actions.push(Action::Note(Note::Abandoned));
        self.enter(now, State::Stopped { abandoned: true });
    }
}
