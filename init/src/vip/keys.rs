//! The names of an address's keys in etcd, and what they say together: the record, a key without which nobody may write it, and one for each round
//! that is left of a frozen record.

use std::net::IpAddr;

use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, KeyValue, Txn, TxnOp};
use masthead_vip::{Change, ROUNDS, Seen, Version};

use super::record;

/// For people who look.
const THAWED: &str = "the record may be written";
const LEFT: &str = "the address can have another owner once more while etcd has no space";

/// The keys of one address.
pub(super) struct Keys {
    record: String,
}

impl Keys {
    /// Of that address.
    pub(super) fn of(address: IpAddr) -> Self {
        Self {
            record: format!("/masthead/vip/{address}"),
        }
    }

    /// The record's. All others come after it, and before [`Self::end`].
    pub(super) fn record(&self) -> &str {
        &self.record
    }

    /// The first one after all of them: no character of an address sorts before `0`, but the slash of the others does.
    pub(super) fn end(&self) -> String {
        format!("{}0", self.record)
    }

    fn thawed(&self) -> String {
        format!("{}/thawed", self.record)
    }

    fn round(&self, round: u32) -> String {
        format!("{}/round/{round:02}", self.record)
    }

    /// What makes the change if all is as expected, and otherwise shows how it is; none for a record that is not to be written.
    pub(super) fn transaction(&self, expected: Version, change: &Change) -> Option<Txn> {
        let operations = match change {
            Change::Write { record, stock } => {
                let value = record::encode(record)?;
                let mut operations = vec![TxnOp::put(self.record(), value, None)];
                if *stock {
                    operations.push(TxnOp::put(self.thawed(), THAWED, None));
                    let rounds = 0..ROUNDS;
                    operations
                        .extend(rounds.map(|round| TxnOp::put(self.round(round), LEFT, None)));
                }
                operations
            }
            Change::Freeze => vec![TxnOp::delete(self.thawed(), None)],
            Change::Advance => vec![TxnOp::delete(self.round(expected.round?), None)],
            Change::Confirm => Vec::new(),
        };
        let all = GetOptions::new().with_range(self.end());
        Some(
            Txn::new()
                .when(self.comparisons(expected))
                .and_then(operations)
                .or_else([TxnOp::get(self.record(), Some(all))]),
        )
    }

    /// Whoever thaws a frozen record writes it: so its revision, and that its round is there, tell that none before that is.
    fn comparisons(&self, expected: Version) -> Vec<Compare> {
        let is_there = |key: String| Compare::version(key, CompareOp::Greater, 0);
        let is_not = |key: String| Compare::version(key, CompareOp::Equal, 0);
        let revision = Compare::mod_revision(self.record(), CompareOp::Equal, expected.revision);
        let mut comparisons = vec![revision];
        match expected.round {
            // The first record of all comes with the key.
            None if expected.revision == 0 => {}
            None => comparisons.push(is_there(self.thawed())),
            Some(round) => {
                comparisons.push(is_not(self.thawed()));
                if round < ROUNDS {
                    comparisons.push(is_there(self.round(round)));
                }
            }
        }
        comparisons
    }

    /// What all of them say, as of that revision.
    pub(super) fn seen(&self, answer: &GetResponse, as_of: i64) -> Seen {
        self.seen_of(answer.kvs(), as_of)
    }

    fn seen_of(&self, entries: &[KeyValue], as_of: i64) -> Seen {
        let find = |key: &str| entries.iter().find(|entry| entry.key() == key.as_bytes());
        let Some(entry) = find(self.record()) else {
            return Seen {
                as_of,
                version: Version::default(),
                record: None,
            };
        };
        let frozen = find(&self.thawed()).is_none();
        let left = || (0..ROUNDS).find(|round| find(&self.round(*round)).is_some());
        Seen {
            as_of,
            version: Version {
                revision: entry.mod_revision(),
                round: frozen.then(|| left().unwrap_or(ROUNDS)),
            },
            record: Some(record::decode(entry.value())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_address_has_its_keys_between_those_of_one() {
        for (address, other) in [("10.0.0.1", "10.0.0.10"), ("fd00::1", "fd00::1:2")] {
            let keys = Keys::of(address.parse().unwrap());
            let other = Keys::of(other.parse().unwrap());
            let own = keys.record().to_owned()..keys.end();
            for key in [keys.thawed(), keys.round(0), keys.round(ROUNDS - 1)] {
                assert!(own.contains(&key), "{key}");
            }
            for key in [other.record().to_owned(), other.thawed(), other.round(3)] {
                assert!(!own.contains(&key), "{key}");
            }
        }
    }
}
