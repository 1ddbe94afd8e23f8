//! etcd: one key, which a majority keeps, and a leader, who may be missing for a while.

use masthead_machine::BootTime;
use masthead_vip::{Decision, Nonce, Record, Seen};

/// The key, as it is committed.
#[derive(Clone, Debug)]
pub(crate) struct Etcd {
    pub(crate) seen: Seen,
    since: BootTime,
    /// The host whose member leads.
    pub(crate) leader: Option<usize>,
    pub(crate) term: u64,
}

impl Etcd {
    pub(crate) fn new() -> Self {
        Self {
            seen: Seen {
                as_of: 1,
                revision: 0,
                record: None,
            },
            since: BootTime::default(),
            leader: None,
            term: 1,
        }
    }

    /// Carries a transaction out, if the key is as it expects.
    pub(crate) fn commit(&mut self, now: BootTime, expected: i64, record: Record) -> Decision {
        if self.seen.revision != expected {
            return Decision::Refused(self.seen.clone());
        }
        // Other keys change, too.
        let revision = self.seen.as_of + 2;
        self.since = now;
        self.seen = Seen {
            as_of: revision,
            revision,
            record: Some(record),
        };
        Decision::Done(revision)
    }

    /// For whom the address was reserved, if this takes it before that is over.
    pub(crate) fn robbed_heir(&self, record: &Record, now: BootTime) -> Option<&String> {
        let (Some(Record::Free(free)), Record::Held(held)) = (&self.seen.record, record) else {
            return None;
        };
        let heir = free.heir.as_ref()?;
        // Clocks run apart.
        let is_over = now.since(self.since) >= free.reserved * 99 / 100;
        (*heir != held.by.node && !is_over).then_some(heir)
    }

    /// Whether the key was written by that transaction.
    pub(crate) fn is_by(&self, nonce: Nonce) -> bool {
        let record = self.seen.record.as_ref();
        record.and_then(Record::nonce) == Some(nonce)
    }
}
