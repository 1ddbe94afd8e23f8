//! Letting go of the address, in an order in which nobody notices: the clients are left to the next owner, or make new connections, the gate is closed, the
//! address is gone, and only then the record says who may take it. While it is frozen it cannot say so: whoever misses the owner takes it.

use masthead_machine::BootTime;

use crate::ownership::{Ownership, State};
use crate::{Action, Change, Free, Note, ROUNDS, Record, Version};

/// On its way to somebody else.
#[derive(Clone, Debug)]
pub(crate) struct Releasing {
    /// The record by the last acknowledged renewal.
    pub(crate) version: Version,
    epoch: u64,
    heir: Option<String>,
    stage: Stage,
    /// When the record is written next.
    pub(crate) send_at: BootTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// While the gate is open, so that the clients can hear of it; given up then.
    Leaving {
        until: BootTime,
    },
    Closing,
    Telling,
}

impl Releasing {
    pub(crate) fn clients_left(&mut self) {
        if let Stage::Leaving { .. } = self.stage {
            self.stage = Stage::Closing;
        }
    }

    /// When there is something to do next, if time alone leads there.
    pub(crate) fn deadline(&self) -> Option<BootTime> {
        match self.stage {
            Stage::Leaving { until } => Some(until),
            Stage::Closing => None,
            Stage::Telling => Some(self.send_at),
        }
    }
}

impl Ownership {
    /// Begins to let go of the address, if it is this node's: to that master, or to one that can serve.
    pub(crate) fn release(
        &mut self,
        now: BootTime,
        heir: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        let State::Owning(owning) = &self.state else {
            return;
        };
        let heir = heir.or_else(|| self.heir(now).cloned());
        let open = self.gate.open_until().is_some_and(|until| until > now);
        let stage = if open {
            let followed = heir.is_some();
            actions.push(Action::LeaveClients { followed });
            Stage::Leaving {
                until: now + self.measured.terms().gap,
            }
        } else {
            Stage::Closing
        };
        self.state = State::Releasing(Releasing {
            version: owning.version,
            epoch: owning.epoch,
            heir,
            stage,
            send_at: now,
        });
    }

    /// Does what is due by now, or has become possible. Says until when the gate shall be open, and whether the address shall
    /// be there.
    pub(crate) fn pursue_release(
        &mut self,
        now: BootTime,
        actions: &mut Vec<Action>,
    ) -> Option<(Option<BootTime>, bool)> {
        let (closed, gone) = (self.gate.is_closed(), self.address.is(false));
        let open = self.gate.open_until();
        let State::Releasing(releasing) = &mut self.state else {
            return None;
        };
        if let Stage::Leaving { until } = releasing.stage {
            if until > now {
                // Not prolonged any more.
                return Some((open, true));
            }
            releasing.stage = Stage::Closing;
        }
        if releasing.stage == Stage::Closing {
            if !(closed && gone) {
                return Some((None, !closed));
            }
            releasing.stage = Stage::Telling;
        }
        if self.awaiting.is_some() || releasing.send_at > now {
            return Some((None, false));
        }
        match releasing.version.round {
            // Nobody can own it after this.
            Some(ROUNDS..) => self.released(now, actions),
            Some(_) => self.ask(now, Change::Advance, actions),
            None if self.out_of_space => self.ask(now, Change::Freeze, actions),
            None => self.tell_free(now, actions),
        }
        Some((None, false))
    }

    fn tell_free(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        if let State::Releasing(releasing) = &self.state {
            let (expected, epoch) = (releasing.version, releasing.epoch);
            let heir = releasing.heir.clone();
            let reserved = self.measured.terms().wait();
            let free = |nonce| {
                Record::Free(Free {
                    nonce,
                    epoch,
                    heir,
                    reserved,
                })
            };
            self.transact(now, expected, false, free, actions);
        }
    }

    /// The record says that the address is free.
    pub(crate) fn released(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        if let State::Releasing(releasing) = &self.state {
            let (heir, epoch, version) =
                (releasing.heir.clone(), releasing.epoch, releasing.version);
            self.offer(heir.clone(), epoch, version);
            actions.push(Action::Note(Note::Released { heir }));
            self.contend(now);
        }
    }
}
