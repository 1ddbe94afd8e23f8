//! What people are told of an address.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use masthead_api::status::{VirtualAddress, VirtualState};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_vip::{Note, Ownership, Record, Standing};

/// Moves are counted for so long.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// More than this in a day are counted as so many.
const MOST_MOVES: usize = 10_000;

/// What this node's supervisor has seen of an address since it began.
#[derive(Clone, Debug)]
pub struct Story {
    address: IpAddr,
    /// This master's name.
    own: String,
    /// The present ownership, as far as it is known: who, for the how-manieth time, and since when.
    present: Option<(String, u64, Timestamp)>,
    /// When the address had another owner.
    moves: VecDeque<Timestamp>,
    /// Somebody who is none of the cluster's answers for it.
    stranger: Option<String>,
    reason: Option<Reason>,
}

/// What nobody's ownership may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether the own apiserver can serve.
    pub ready: bool,
    /// Whether the own member of etcd knows a leader.
    pub leader: bool,
    /// Whether the time of the last known owner is over.
    pub overdue: bool,
}

impl Story {
    /// Nothing yet.
    pub fn new(address: IpAddr, own: &str) -> Self {
        Self {
            address,
            own: own.to_owned(),
            present: None,
            moves: VecDeque::new(),
            stranger: None,
            reason: None,
        }
    }

    /// What the machine has to say beside its state.
    pub fn note(&mut self, note: &Note) {
        self.stranger = match note {
            Note::Stranger { hardware } => Some(hardware.clone()),
            _ => None,
        };
    }

    /// What is to be told now.
    pub fn tell(
        &mut self,
        machine: &Ownership,
        around: Circumstances,
        now: Timestamp,
    ) -> VirtualAddress {
        let standing = machine.standing();
        let record = machine.record();
        let (owner, epoch) = machine.owner();
        if record.is_some() {
            // The answer came from the first owner of all.
            self.stranger = None;
        }
        self.follow(owner, epoch, now);
        let recorded = self.present.as_ref();
        let state = match &standing {
            Standing::Owner(Some(_)) => VirtualState::Owner,
            Standing::Releasing => VirtualState::Releasing,
            Standing::Unknown => VirtualState::Unknown,
            Standing::Other(Some(_)) if !around.overdue => VirtualState::Standby,
            Standing::Owner(None) | Standing::Other(_) => VirtualState::Nobody,
        };
        let owns = matches!(state, VirtualState::Owner | VirtualState::Standby);
        let reason = self.why(&state, machine, around, now);
        self.reason = reason.map(|reason| reason.continuing(self.reason.as_ref()));
        VirtualAddress {
            address: self.address.to_string(),
            owner: recorded.filter(|_| owns).map(|(owner, ..)| owner.clone()),
            since: recorded.filter(|_| owns).map(|(.., since)| *since),
            epoch,
            hold: match record {
                Some(Record::Held(held)) => u64::try_from(held.terms.hold.as_millis()).ok(),
                _ => None,
            },
            moves: u32::try_from(self.moves.len()).unwrap_or(u32::MAX),
            state,
            reason: self.reason.clone(),
        }
    }

    fn follow(&mut self, owner: Option<&str>, epoch: u64, now: Timestamp) {
        let day = i64::try_from(A_DAY.as_millis()).unwrap_or(i64::MAX);
        while self
            .moves
            .front()
            .is_some_and(|at| now.unix_millis() - at.unix_millis() > day)
        {
            self.moves.pop_front();
        }
        let Some(owner) = owner else {
            return;
        };
        let same = self
            .present
            .as_ref()
            .is_some_and(|(present, its, _)| present == owner && *its == epoch);
        if same {
            return;
        }
        if self.present.is_some() && self.moves.len() < MOST_MOVES {
            self.moves.push_back(now);
        }
        self.present = Some((owner.to_owned(), epoch, now));
    }

    fn why(
        &self,
        state: &VirtualState,
        machine: &Ownership,
        around: Circumstances,
        now: Timestamp,
    ) -> Option<Reason> {
        let address = self.address;
        let reason = |code, cause: String| Some(Reason::new(code, now).with_cause(cause));
        if let Some(hardware) = &self.stranger {
            return reason(
                ReasonCode::VipStranger,
                format!("A machine with the hardware address {hardware} answers for {address}."),
            );
        }
        if machine.record() == Some(&Record::Unknown) {
            return reason(
                ReasonCode::VipUnknownFormat,
                format!(
                    "The record of {address} in etcd is of a format that this release does not know."
                ),
            );
        }
        let why = match state {
            VirtualState::Owner if !around.ready => {
                return reason(
                    ReasonCode::VipUnready,
                    format!(
                        "{} owns {address}, its kube-apiserver is not ready, and no other master's is.",
                        self.own
                    ),
                );
            }
            VirtualState::Nobody if machine.is_spent() => {
                return reason(
                    ReasonCode::VipSpent,
                    format!(
                        "The last owner of {address} is silent, and etcd has no space to write who follows."
                    ),
                );
            }
            VirtualState::Nobody if !around.leader => "the own member of etcd knows no leader",
            VirtualState::Nobody if !around.ready => "the own kube-apiserver is not ready",
            VirtualState::Nobody => "it is about to be taken",
            _ => return None,
        };
        reason(
            ReasonCode::VipUnowned,
            format!(
                "Nobody owns {address}, as far as {} knows: {why}.",
                self.own
            ),
        )
    }
}
