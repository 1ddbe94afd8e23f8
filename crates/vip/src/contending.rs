//! Waiting until nobody can own the address any more, and taking it.

use std::time::Duration;

use masthead_machine::{BootTime, Scale};

use crate::ownership::{Ownership, State};
use crate::{Action, Change, Note, Record, Seen, Terms};

/// How much longer a node waits whose apiserver cannot serve any more, on a real machine. Who let go of the address may have believed in one
/// that could not serve either; an owner without an apiserver is better than none, and lets go as soon as another one can serve.
const LAST_RESORT: Duration = Duration::from_secs(2);

/// How soon the network is asked again, on a real machine, whether a stranger still has the address.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Somebody else's address, or nobody's.
#[derive(Clone, Debug)]
pub(crate) struct Contending {
    /// Since when the record is known to be as it is: from then on its owner's time is counted.
    since: BootTime,
    /// The present round of a frozen record is this node's, when it has waited.
    claimed: bool,
    reading: Reading,
    probe: Probe,
}

/// The wait begins with a read by the word of a majority: after an election, or an answer that did not come, what was seen
/// before tells nothing about who could renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Not before then.
    Needed(BootTime),
    Asked {
        /// Whether another one is needed by now.
        again: bool,
    },
    Done,
}

/// Whether anybody on the network answers for an address that this cluster never owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// Not before then.
    Needed(BootTime),
    Asked,
    Clear,
}

impl Contending {
    pub(crate) fn new(now: BootTime) -> Self {
        Self {
            since: now,
            claimed: false,
            reading: Reading::Needed(now),
            probe: Probe::Needed(now),
        }
    }

    pub(crate) fn moved(&mut self, now: BootTime) {
        self.since = now;
        self.claimed = false;
    }

    /// This node's own deletion has ended the round before.
    pub(crate) fn claimed(&mut self, now: BootTime) {
        self.since = now;
        self.claimed = true;
    }

    /// The owner of a frozen record has said so. Who owns the next round does not wait for that.
    pub(crate) fn owner_lives(&mut self, now: BootTime) {
        if !self.claimed {
            self.since = now;
        }
    }

    pub(crate) fn begin_anew(&mut self) {
        self.reading = match self.reading {
            Reading::Asked { .. } => Reading::Asked { again: true },
            needed @ Reading::Needed(_) => needed,
            Reading::Done => Reading::Needed(BootTime::default()),
        };
    }

    pub(crate) fn has_read(&mut self, now: BootTime) {
        self.since = now;
        self.reading = match self.reading {
            Reading::Asked { again: false } => Reading::Done,
            _ => Reading::Needed(now),
        };
    }

    pub(crate) fn read_failed(&mut self, again: BootTime) {
        self.reading = Reading::Needed(again);
    }

    pub(crate) fn probed(
        &mut self,
        now: BootTime,
        scale: Scale,
        answer: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        self.probe = match answer {
            None => Probe::Clear,
            Some(hardware) => {
                actions.push(Action::Note(Note::Stranger { hardware }));
                Probe::Needed(now + scale * ASK_AGAIN)
            }
        };
    }
}

impl Ownership {
    /// Does what is due by now, or has become possible.
    pub(crate) fn pursue_claim(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let is_due = self.claim_at().is_some_and(|at| at <= now);
        let State::Contending(contending) = &mut self.state else {
            return;
        };
        if !is_due {
            return;
        }
        if let Reading::Needed(_) = contending.reading {
            contending.reading = Reading::Asked { again: false };
            actions.push(Action::Read(self.measured.terms().gap));
            return;
        }
        let Some(seen) = &self.seen else { return };
        if seen.record.is_none() && contending.probe != Probe::Clear {
            contending.probe = Probe::Asked;
            actions.push(Action::ProbeAddress);
            return;
        }
        if seen.version.round.is_some() {
            let is_own = contending.claimed || seen.is_held_by(&self.setup.identity);
            let change = if is_own {
                Change::Confirm
            } else {
                Change::Advance
            };
            return self.ask(now, change, actions);
        }
        if self.out_of_space && seen.record.is_some() {
            return self.ask(now, Change::Freeze, actions);
        }
        let (expected, epoch) = (seen.version, seen.record.as_ref().map_or(0, Record::epoch));
        let held = self.held(epoch + 1, self.measured.terms());
        self.transact(now, expected, true, held, actions);
    }

    /// When there is something to do next, if time alone leads there.
    pub(crate) fn claim_at(&self) -> Option<BootTime> {
        let State::Contending(contending) = &self.state else {
            return None;
        };
        // Whatever an earlier machine of this boot has left is gone first.
        if !self.gate.is_closed() || !self.address.is(false) || self.raft.leader.is_none() {
            return None;
        }
        match contending.reading {
            Reading::Needed(at) => return Some(at),
            Reading::Asked { .. } => return None,
            Reading::Done => {}
        }
        if self.draining || self.awaiting.is_some() {
            return None;
        }
        let seen = self.seen.as_ref()?;
        if self.is_spent() && !contending.claimed && !seen.is_held_by(&self.setup.identity) {
            return None;
        }
        // Before the first owner there is nothing to keep up.
        let more = match self.ready {
            true => Duration::ZERO,
            false if self.was_ready && seen.record.is_some() => self.setup.scale * LAST_RESORT,
            false => return None,
        };
        let at = contending.since + self.wait(seen, contending.claimed)? + more;
        match (&seen.record, contending.probe) {
            (None, Probe::Asked) => None,
            (None, Probe::Needed(not_before)) => Some(at.max(not_before)),
            _ => Some(at),
        }
    }

    /// When the time of the last known owner is over.
    pub(crate) fn overdue_at(&self) -> Option<BootTime> {
        let State::Contending(contending) = &self.state else {
            return None;
        };
        let wait = self.wait(self.seen.as_ref()?, contending.claimed)?;
        Some(contending.since + wait)
    }

    /// How long the record must stay as it is before this node takes the address.
    fn wait(&self, seen: &Seen, claimed: bool) -> Option<Duration> {
        if seen.version.round.is_some() {
            return self.wait_frozen(seen, claimed);
        }
        let own = &self.setup.identity;
        match &seen.record {
            // Nobody knows whether there was ever an owner, and which hold was chosen.
            None => Some(Terms::longest(self.setup.scale).wait()),
            // An earlier machine of this boot, which is gone, and whose gate is closed.
            Some(Record::Held(held)) if held.by == *own => Some(Duration::ZERO),
            Some(Record::Held(held)) => Some(held.terms.wait()),
            Some(Record::Free(free)) => match &free.heir {
                Some(heir) if *heir != own.node => Some(free.reserved),
                _ => Some(Duration::ZERO),
            },
            Some(Record::Unknown) => None,
        }
    }
}
