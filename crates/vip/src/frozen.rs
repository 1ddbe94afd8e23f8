//! Owning the address while etcd has no space: it takes no writes then, and deletions still.
//!
//! Whoever is told so *freezes* the record, by deleting the key without which nobody may write it. From then on
//!
//! - the owner by the frozen record owns on by asking a majority three times in a hold whether all is as it was, and its time counts from when it asked;
//! - who wants the address deletes the key of the present *round*, of which there are [`ROUNDS`] in stock. Who was told that its own deletion did it
//!   waits for the hold and the gap of the record, and owns the next round, in the same way. A question that is answered with yes was asked before the
//!   round was over; so the time of its owner is over, too, before that of the next one begins. If nobody was told, nobody owns that round, and it is
//!   over the next time that somebody wants the address;
//! - that the owner is alive does not show in etcd. It says so itself, several times a second. That word need not be right: who misses it takes the
//!   address in good order, and needlessly.
//!
//! The owner tries now and then to write: the first write that etcd takes thaws the record and stocks all rounds. A write whose answer was lost
//! may be committed much later; but it was not when a majority said that the record is frozen, and counts from then on.

use std::time::Duration;

use masthead_machine::BootTime;

use crate::ownership::{Ownership, State};
use crate::{Action, Change, Decision, Nonce, Note, Record, Seen, Terms, Version};

/// As often the address can have another owner until etcd has space again.
pub const ROUNDS: u32 = 32;

/// Between two tries to write, on a real machine.
const THAW_EVERY: Duration = Duration::from_secs(2);

/// For how long an owner may be silent, on a real machine, beyond the time that it takes the next one to begin.
const SILENCE: Duration = Duration::from_secs(1);

/// A transaction that writes nothing, and is awaited.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    nonce: Nonce,
    at: BootTime,
    expected: Version,
    change: Change,
    /// Whether this node wants the address by it.
    takes: bool,
}

impl Ownership {
    /// Sends a transaction that writes nothing.
    pub(crate) fn ask(&mut self, now: BootTime, change: Change, actions: &mut Vec<Action>) {
        let Some(expected) = self.version() else {
            return;
        };
        let nonce = self.draw_nonce();
        self.awaiting = Some(nonce);
        self.asked = Some(Asked {
            nonce,
            at: now,
            expected,
            change: change.clone(),
            takes: matches!(self.state, State::Contending(_)),
        });
        actions.push(Action::Transact {
            nonce,
            expected,
            change,
            give_up: now + self.measured.terms().gap,
        });
    }

    /// The transaction that is known by this, if it writes nothing.
    pub(crate) fn take_asked(&mut self, nonce: Nonce) -> Option<Asked> {
        self.asked.take_if(|asked| asked.nonce == nonce)
    }

    pub(crate) fn asked_decided(
        &mut self,
        now: BootTime,
        asked: &Asked,
        decision: Decision,
        actions: &mut Vec<Action>,
    ) {
        let as_of = match decision {
            Decision::Done(as_of) => as_of,
            Decision::Refused(seen) => {
                self.out_of_space = false;
                return self.observe(now, seen, actions);
            }
            Decision::NoSpace | Decision::Unanswered => return self.unanswered(now),
        };
        let mut version = asked.expected;
        match asked.change {
            Change::Confirm => return self.confirmed(now, asked, actions),
            Change::Freeze => {
                self.out_of_space = false;
                version.round = Some(0);
            }
            Change::Advance => version.round = version.round.map(|round| round + 1),
            Change::Write { .. } => {}
        }
        let record = self.record().cloned();
        let seen = Seen {
            as_of,
            version,
            record,
        };
        if asked.change != Change::Advance {
            return self.observe(now, seen, actions);
        }
        if let State::Releasing(_) = self.state {
            // Before the own deletion would look like somebody else's.
            self.released(now, actions);
        }
        self.observe(now, seen, actions);
        // Unless somebody has seen even more by now.
        let is_so = self.version() == Some(version);
        if let State::Contending(contending) = &mut self.state
            && asked.takes
            && is_so
        {
            contending.claimed(now);
        }
    }

    /// When a majority was asked, nothing had changed.
    fn confirmed(&mut self, now: BootTime, asked: &Asked, actions: &mut Vec<Action>) {
        if self.version() != Some(asked.expected) {
            return;
        }
        // What was not committed by then is not seen before.
        for sent in &mut self.sent {
            sent.at = sent.at.max(asked.at);
        }
        let until = asked.at + self.recorded_terms().hold;
        match &mut self.state {
            State::Owning(owning) => owning.confirmed(until),
            State::Contending(_) if asked.takes => {
                let epoch = self.present_epoch();
                self.won(now, asked.expected, epoch, until, actions);
            }
            State::Contending(_) | State::Releasing(_) => {}
        }
    }

    /// The owner asks a majority, or tries to write.
    pub(crate) fn renew_frozen(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let terms = self.recorded_terms();
        let thaw_again = now + self.setup.scale * THAW_EVERY;
        let State::Owning(owning) = &mut self.state else {
            return;
        };
        owning.send_at = now + terms.pace();
        let epoch = owning.epoch;
        if !owning.is_to_thaw(now, thaw_again) {
            return self.ask(now, Change::Confirm, actions);
        }
        let expected = owning.version;
        let held = self.held(epoch, terms);
        self.transact(now, expected, true, held, actions);
    }

    /// Another master says that it owns the address.
    pub(crate) fn owner_said(&mut self, now: BootTime, name: String) {
        if let State::Contending(contending) = &mut self.state
            && self
                .seen
                .as_ref()
                .is_some_and(|seen| seen.version.round.is_some())
        {
            contending.owner_lives(now);
        }
        self.said = Some((name, now));
    }

    /// How long the owner of a frozen record is waited for; none if its format is not known.
    pub(crate) fn wait_frozen(&self, seen: &Seen, claimed: bool) -> Option<Duration> {
        let wait = self.recorded_terms().wait();
        if seen.record == Some(Record::Unknown) {
            None
        } else if seen.is_held_by(&self.setup.identity) {
            // See the same of a record that is not frozen.
            Some(Duration::ZERO)
        } else if claimed {
            Some(wait)
        } else {
            Some(wait + self.setup.scale * SILENCE)
        }
    }

    /// Each round of a frozen record may have had another owner.
    pub(crate) fn present_epoch(&self) -> u64 {
        let round = self.seen.as_ref().and_then(|seen| seen.version.round);
        self.record().map_or(0, Record::epoch) + u64::from(round.unwrap_or(0))
    }

    /// Those by which the owner of the frozen record, and everybody who waits, counts.
    fn recorded_terms(&self) -> Terms {
        match self.record() {
            Some(Record::Held(held)) => held.terms,
            _ => Terms::longest(self.setup.scale),
        }
    }
}

impl Note {
    /// For the log and for people, once.
    pub(crate) fn of_change(before: Option<Version>, after: Version) -> Option<Self> {
        let was = before.and_then(|version| version.round);
        match (was, after.round) {
            (None, Some(_)) => Some(Self::Frozen),
            (Some(_), None) => Some(Self::Thawed),
            _ => None,
        }
    }
}
