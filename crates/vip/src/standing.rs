//! Where a node stands, for people.

use masthead_machine::BootTime;

use crate::ownership::{Ownership, State};
use crate::{ROUNDS, Record};

/// Where a node stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The record was not seen yet.
    Unknown,
    /// Somebody else owns the address, as far as it is known, or nobody.
    Other(Option<String>),
    /// This node does, and the kernel lets it answer until then; until a renewal is acknowledged it does not.
    Owner(Option<BootTime>),
    /// This node lets go of it.
    Releasing,
}

impl Ownership {
    /// Where this node stands.
    pub fn standing(&self) -> Standing {
        match &self.state {
            State::Owning(_) => Standing::Owner(self.gate.open_until()),
            State::Releasing(_) => Standing::Releasing,
            State::Contending(_) => match &self.seen {
                None => Standing::Unknown,
                Some(_) => Standing::Other(self.owner().0.map(str::to_owned)),
            },
        }
    }

    /// What the record says by the newest sight of it.
    pub fn record(&self) -> Option<&Record> {
        self.seen.as_ref()?.record.as_ref()
    }

    /// Whether the time of the last known owner is over, so that nobody may own the address.
    pub fn is_overdue(&self, now: BootTime) -> bool {
        self.overdue_at().is_some_and(|at| at <= now)
    }

    /// Who owns the address, as far as it is known, and how often it had another owner.
    pub fn owner(&self) -> (Option<&str>, u64) {
        let recorded = match self.record() {
            Some(Record::Held(held)) => Some(&*held.by.node),
            _ => None,
        };
        let round = self.seen.as_ref().and_then(|seen| seen.version.round);
        let said = self.said.as_ref().map(|(name, _)| &**name);
        let name = match (&self.state, round) {
            (State::Owning(_), _) => Some(&*self.setup.identity.node),
            (_, Some(1..)) => said.filter(|name| *name != self.setup.identity.node),
            _ => recorded,
        };
        (name, self.present_epoch())
    }

    /// Whether the record is frozen and all its rounds are over: nobody can follow its owner until etcd has space.
    pub fn is_spent(&self) -> bool {
        let round = self.seen.as_ref().and_then(|seen| seen.version.round);
        round.is_some_and(|round| round >= ROUNDS)
    }
}
