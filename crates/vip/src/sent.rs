//! Transactions on their way: what is known of them, and what their answers mean.

use masthead_machine::BootTime;

use crate::ownership::{Ownership, State, TRY_AGAIN};
use crate::{Action, Change, Decision, Held, Nonce, Record, Seen, Terms, Version};

/// Transactions without an answer that are remembered. More of them are still known to be this node's, and count nothing.
const REMEMBERED: usize = 32;

/// A transaction that may have been committed.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) nonce: Nonce,
    /// When it was sent, or when it was known not to be committed yet.
    pub(crate) at: BootTime,
    pub(crate) expected: Version,
    record: Record,
}

impl Sent {
    /// Until when this node may own the address by this, once it is known to be committed; none for a release. From then on, gap
    /// aside, nobody who has seen it waits any more.
    pub(crate) fn limit(&self) -> Option<BootTime> {
        match &self.record {
            Record::Held(held) => Some(self.at + held.terms.hold),
            Record::Free(_) | Record::Unknown => None,
        }
    }
}

impl Ownership {
    /// Sends a transaction that makes the record say this, and that stocks the rounds, if it is to.
    pub(crate) fn transact(
        &mut self,
        now: BootTime,
        expected: Version,
        stock: bool,
        record: impl FnOnce(Nonce) -> Record,
        actions: &mut Vec<Action>,
    ) {
        let nonce = self.draw_nonce();
        let record = record(nonce);
        let gap = self.measured.terms().gap;
        self.awaiting = Some(nonce);
        self.sent.push(Sent {
            nonce,
            at: now,
            expected,
            record: record.clone(),
        });
        actions.push(Action::Transact {
            nonce,
            expected,
            change: Change::Write { record, stock },
            give_up: now + gap,
        });
    }

    /// What the record says of this node as its owner.
    pub(crate) fn held(&self, epoch: u64, terms: Terms) -> impl FnOnce(Nonce) -> Record + use<> {
        let by = self.setup.identity.clone();
        move |nonce| {
            Record::Held(Held {
                by,
                nonce,
                epoch,
                terms,
            })
        }
    }

    pub(crate) fn draw_nonce(&mut self) -> Nonce {
        Nonce(self.random.bits())
    }

    /// The earliest end of what the transactions on their way promise: one of them may be committed, and seen.
    pub(crate) fn limit(&self) -> Option<BootTime> {
        self.sent.iter().filter_map(Sent::limit).min()
    }

    pub(crate) fn decided(
        &mut self,
        now: BootTime,
        nonce: Nonce,
        decision: Decision,
        actions: &mut Vec<Action>,
    ) {
        if self.awaiting == Some(nonce) {
            self.awaiting = None;
        }
        if let Some(asked) = self.take_asked(nonce) {
            return self.asked_decided(now, &asked, decision, actions);
        }
        let Some(place) = self.sent.iter().position(|sent| sent.nonce == nonce) else {
            // A watch was faster.
            return;
        };
        match decision {
            Decision::Done(revision) => {
                let record = Some(self.sent[place].record.clone());
                let version = Version::thawed(revision);
                let seen = Seen {
                    as_of: revision,
                    version,
                    record,
                };
                self.observe(now, seen, actions);
            }
            Decision::Refused(seen) => {
                self.sent.remove(place);
                self.observe(now, seen, actions);
            }
            Decision::NoSpace => {
                self.out_of_space = true;
                // Who contends goes on at once, and freezes the record, if there is one.
                let contends = matches!(self.state, State::Contending(_));
                if !contends || self.record().is_none() {
                    self.unanswered(now);
                }
            }
            Decision::Unanswered => self.unanswered(now),
        }
    }

    /// A transaction is known to be committed.
    pub(crate) fn acknowledged(
        &mut self,
        now: BootTime,
        place: usize,
        version: Version,
        actions: &mut Vec<Action>,
    ) {
        self.out_of_space = false;
        let sent = self.sent[place].clone();
        self.measured.took(now.since(sent.at));
        // They all expected what was there before.
        self.sent.clear();
        let Some(until) = sent.limit() else {
            return self.released(now, actions);
        };
        match &mut self.state {
            State::Owning(owning) => owning.renewed(version, until),
            State::Releasing(releasing) => releasing.version = version,
            State::Contending(_) => self.won(now, version, sent.record.epoch(), until, actions),
        }
    }

    pub(crate) fn unanswered(&mut self, now: BootTime) {
        let again = now + self.setup.scale * TRY_AGAIN;
        match &mut self.state {
            State::Contending(contending) => contending.begin_anew(),
            State::Owning(owning) => owning.send_at = again,
            State::Releasing(releasing) => releasing.send_at = again,
        }
        if self.sent.len() > REMEMBERED {
            let forgotten = self.sent.remove(0);
            if let (State::Owning(owning), Some(limit)) = (&mut self.state, forgotten.limit()) {
                owning.until = owning.until.min(Some(limit));
            }
        }
    }
}
