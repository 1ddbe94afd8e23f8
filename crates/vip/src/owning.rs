//! Owning the address for as long as renewals are acknowledged in time.

use masthead_machine::BootTime;

use crate::ownership::{Ownership, State};
use crate::{Action, Change, Note, Version};

/// This node's address.
#[derive(Clone, Debug)]
pub(crate) struct Owning {
    /// The record by the last acknowledged renewal.
    pub(crate) version: Version,
    pub(crate) epoch: u64,
    /// The end of this node's time, by the last acknowledged renewal; none when it is over.
    pub(crate) until: Option<BootTime>,
    /// When the next renewal is sent.
    pub(crate) send_at: BootTime,
    /// A shorter hold is about to be sent: the gate must close as early before that.
    cap: Option<BootTime>,
    /// While the record is frozen, when it is tried again to write it.
    thaw_at: Option<BootTime>,
    told_unready: bool,
}

impl Owning {
    /// By a claim that was sent in time, or not.
    pub(crate) fn new(now: BootTime, version: Version, epoch: u64, until: BootTime) -> Self {
        Self {
            version,
            epoch,
            until: Some(until),
            send_at: now,
            cap: None,
            thaw_at: None,
            told_unready: false,
        }
    }

    pub(crate) fn renewed(&mut self, version: Version, until: BootTime) {
        self.version = version;
        self.until = Some(until);
    }

    /// All is as it was, and so is the hold.
    pub(crate) fn confirmed(&mut self, until: BootTime) {
        self.until = self.until.max(Some(until));
    }

    /// The record is this boot's by a transaction of which only that is known, or frozen.
    pub(crate) fn adopt(&mut self, now: BootTime, version: Version) {
        self.version = version;
        self.send_at = now;
    }

    /// Whether it is time to try to write; then not before that instant again.
    pub(crate) fn is_to_thaw(&mut self, now: BootTime, again: BootTime) -> bool {
        let is_time = self.thaw_at.is_none_or(|at| at <= now);
        if is_time {
            self.thaw_at = Some(again);
        }
        is_time
    }

    pub(crate) fn readiness_changed(&mut self) {
        self.told_unready = false;
    }
}

impl Ownership {
    /// Does what is due by now. Says until when the gate shall be open, and whether the address shall be there.
    pub(crate) fn pursue_renewal(
        &mut self,
        now: BootTime,
        actions: &mut Vec<Action>,
    ) -> Option<(Option<BootTime>, bool)> {
        if !self.ready {
            if let Some(heir) = self.heir(now).cloned() {
                self.release(now, Some(heir), actions);
                return self.pursue_release(now, actions);
            }
            self.tell_unready(actions);
        }
        let limit = self.limit();
        let State::Owning(owning) = &mut self.state else {
            return None;
        };
        if owning
            .until
            .min_by_limit(limit)
            .is_some_and(|end| end <= now)
        {
            owning.until = None;
            actions.push(Action::Note(Note::Expired));
        }
        if self.awaiting.is_none() && owning.send_at <= now {
            self.renew(now, actions);
        }
        let limit = self.limit();
        let State::Owning(owning) = &self.state else {
            return None;
        };
        let end = owning.until.min_by_limit(limit).min_by_limit(owning.cap);
        let gate = end.filter(|_| self.address.is(true));
        Some((gate, end.is_some()))
    }

    /// Sends a renewal. One with a shorter hold than the gate is open for may be committed, and seen, although its answer is
    /// lost: so the gate is shortened first, by the kernel's word.
    fn renew(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let terms = self.measured.terms();
        let ends = now + terms.hold;
        let open = self.gate.may_be_open_until();
        let State::Owning(owning) = &mut self.state else {
            return;
        };
        if owning.version.round.is_some() {
            return self.renew_frozen(now, actions);
        }
        if self.out_of_space {
            owning.send_at = now + terms.pace();
            return self.ask(now, Change::Freeze, actions);
        }
        if open > Some(ends) {
            owning.cap = Some(owning.cap.map_or(ends, |cap| cap.min(ends)));
            return;
        }
        owning.cap = None;
        owning.send_at = now + terms.pace();
        let (epoch, expected) = (owning.epoch, owning.version);
        let held = self.held(epoch, terms);
        self.transact(now, expected, false, held, actions);
    }

    /// When there is something to do next, if time alone leads there.
    pub(crate) fn renewal_at(&self) -> Option<BootTime> {
        let State::Owning(owning) = &self.state else {
            return None;
        };
        let send = Some(owning.send_at).filter(|_| self.awaiting.is_none());
        let end = owning.until.min_by_limit(self.limit());
        send.into_iter().chain(end).min()
    }

    fn tell_unready(&mut self, actions: &mut Vec<Action>) {
        if let State::Owning(owning) = &mut self.state
            && !owning.told_unready
        {
            owning.told_unready = true;
            actions.push(Action::Note(Note::KeptUnready));
        }
    }
}

/// An end that may be over, and limits that there may not be.
trait End {
    fn min_by_limit(self, limit: Option<BootTime>) -> Self;
}

impl End for Option<BootTime> {
    fn min_by_limit(self, limit: Option<BootTime>) -> Self {
        self.map(|end| limit.map_or(end, |limit| end.min(limit)))
    }
}
