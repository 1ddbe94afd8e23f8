//! etcd: one record, which a majority keeps, a leader, who may be missing for a while, and space, which may, too.

use masthead_machine::BootTime;
use masthead_vip::{Change, Decision, ROUNDS, Record, Seen, Version};
use masthead_vip_faults::Fault;

/// The record, as it is committed.
#[derive(Clone, Debug)]
pub(crate) struct Etcd {
    pub(crate) seen: Seen,
    since: BootTime,
    /// The host whose member leads.
    pub(crate) leader: Option<usize>,
    pub(crate) term: u64,
    /// Whether it takes writes.
    pub(crate) space: bool,
}

impl Etcd {
    pub(crate) fn new() -> Self {
        Self {
            seen: Seen {
                as_of: 1,
                version: Version::default(),
                record: None,
            },
            since: BootTime::default(),
            leader: None,
            term: 1,
            space: true,
        }
    }

    /// Carries a transaction out, if all is as it expects. Of what it has no space for it may write one all the same.
    pub(crate) fn commit(
        &mut self,
        now: BootTime,
        expected: Version,
        change: &Change,
        written_all_the_same: bool,
        fault: Option<Fault>,
    ) -> Decision {
        let writes = matches!(change, Change::Write { .. });
        // Before the first record nothing can be frozen, and a cluster that has just been founded has space.
        let space = self.space || self.seen.record.is_none();
        if writes && !space && !written_all_the_same {
            return Decision::NoSpace;
        }
        let present = self.seen.version;
        let is_expected = match (fault, change) {
            (Some(Fault::WrittenWithoutCompare), Change::Write { .. }) => true,
            (Some(Fault::FrozenWritten), Change::Write { .. })
            | (Some(Fault::RoundNotAsked), Change::Confirm) => {
                present.revision == expected.revision
            }
            _ => present == expected,
        };
        let decision = if is_expected {
            Decision::Done(self.carry_out(now, change))
        } else {
            Decision::Refused(self.seen.clone())
        };
        match decision {
            _ if writes && !space => Decision::NoSpace,
            decision => decision,
        }
    }

    fn carry_out(&mut self, now: BootTime, change: &Change) -> i64 {
        if let Change::Confirm = change {
            return self.seen.as_of;
        }
        // Other keys change, too.
        self.seen.as_of += 2;
        self.since = now;
        let version = &mut self.seen.version;
        match change {
            Change::Write { record, .. } => {
                *version = Version::thawed(self.seen.as_of);
                self.seen.record = Some(record.clone());
            }
            Change::Freeze => version.round = Some(0),
            Change::Advance => {
                assert!(version.round < Some(ROUNDS), "there is no such round");
                version.round = version.round.map(|round| round + 1);
            }
            Change::Confirm => {}
        }
        self.seen.as_of
    }

    /// For whom the address was reserved, if this takes it before that is over.
    pub(crate) fn robbed_heir(&self, change: &Change, now: BootTime) -> Option<&String> {
        let Change::Write { record, .. } = change else {
            return None;
        };
        let (Some(Record::Free(free)), Record::Held(held)) = (&self.seen.record, record) else {
            return None;
        };
        let heir = free.heir.as_ref()?;
        // Clocks run apart.
        let is_over = now.since(self.since) >= free.reserved * 99 / 100;
        (*heir != held.by.node && !is_over).then_some(heir)
    }
}
