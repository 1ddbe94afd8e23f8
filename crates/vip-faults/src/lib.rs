//! Machines that are broken on purpose, from outside: the shipped code has no room for faults. The simulator must find each of them, and the
//! cluster tests some, in an `/init` that is built for it.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use masthead_machine::{BootTime, Machine};
use masthead_vip::{Action, Change, Decision, Event, Nonce, Ownership, Record, Seen, Version};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A mistake that somebody could make in the machine, in what drives it, or in the kernel's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The owner's time begins when it hears of the commit, by an answer or by a watch, and not with the sending.
    HoldFromAnswer,
    /// It begins so only when the answer was lost.
    LateCommitTakenForRenewal,
    /// A longer hold counts before it is acknowledged.
    LongerBeforeAcknowledged,
    /// A shorter hold is sent while the kernel still knows the longer one.
    ShortenedByBeliefOnly,
    /// The kernel counts from when it is told, and has no absolute time beside that.
    GateRelativeOnly,
    /// The kernel has no time at all: only the process closes the gate.
    GateWithoutTime,
    /// Contenders wait for the hold only.
    NoGap,
    /// No answer is taken for a yes.
    SilenceTakenForYes,
    /// An answer that comes after the release opens the gate again.
    AnswerReopensAfterRelease,
    /// The key says free before the gate is closed.
    ReleasedBeforeClosed,
    /// Who is not the heir takes the address at once.
    ReservationIgnored,
    /// The key is written whatever it says.
    WrittenWithoutCompare,
    /// The process is not woken by its deadlines.
    DeadlineForgotten,
    /// A frozen record is written as if it was not.
    FrozenWritten,
    /// The owner of a frozen record does not ask whether its round is over.
    RoundNotAsked,
    /// It asks its own member only.
    OnlyOwnMemberAsked,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::HoldFromAnswer,
        Self::LateCommitTakenForRenewal,
        Self::LongerBeforeAcknowledged,
        Self::ShortenedByBeliefOnly,
        Self::GateRelativeOnly,
        Self::GateWithoutTime,
        Self::NoGap,
        Self::SilenceTakenForYes,
        Self::AnswerReopensAfterRelease,
        Self::ReleasedBeforeClosed,
        Self::ReservationIgnored,
        Self::WrittenWithoutCompare,
        Self::DeadlineForgotten,
        Self::FrozenWritten,
        Self::RoundNotAsked,
        Self::OnlyOwnMemberAsked,
    ];

    /// Whether this is the property that should find it.
    pub fn is_found_by(self, violation: &str) -> bool {
        let expected: &[&str] = match self {
            Self::ReservationIgnored => &["taken from the heir"],
            Self::DeadlineForgotten => &["no owner in the end", "time is over in a calm world"],
            _ => &["two owners"],
        };
        let mut expected = expected.iter();
        expected.any(|property| violation.starts_with(property))
    }
}

/// What it takes to break a machine.
#[derive(Clone, Debug)]
pub struct Broken {
    fault: Fault,
    /// What was sent: the hold, none for a release, and what was expected.
    sent: BTreeMap<Nonce, (Option<Duration>, Version)>,
    /// Until when the kernel was last told to open.
    open: Option<BootTime>,
    releasing: bool,
    /// The hold of the last renewal.
    last_hold: Option<Duration>,
    /// What the kernel was told behind the machine's back.
    secret: Option<BootTime>,
}

impl Broken {
    /// Nothing is broken before the first step.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            sent: BTreeMap::new(),
            open: None,
            releasing: false,
            last_hold: None,
            secret: None,
        }
    }

    /// A step of the machine, as the fault has it.
    pub fn step(
        &mut self,
        now: BootTime,
        mut event: Event,
        ownership: &mut Ownership,
    ) -> Vec<Action> {
        let added = self.reopening(now, &event);
        if let Event::GateSet(until) = event
            && until.is_some()
            && until == self.secret
        {
            event = masthead_machine::Woken.into();
        }
        self.secret = self.secret.max(added);
        self.alter(&mut event);
        let mut actions = ownership.step(now, event);
        self.distort(now, &mut actions, ownership);
        actions.extend(added.map(|until| Action::SetGate(Some(until))));
        for action in &actions {
            self.remember(action);
        }
        actions
    }

    fn remember(&mut self, action: &Action) {
        match action {
            Action::Transact {
                nonce,
                expected,
                change: Change::Write { record, .. },
                ..
            } => {
                let hold = match record {
                    Record::Held(held) => Some(held.terms.hold),
                    _ => None,
                };
                if hold.is_some() {
                    self.last_hold = hold;
                    self.releasing = false;
                }
                self.sent.insert(*nonce, (hold, *expected));
            }
            Action::SetGate(until) => self.open = *until,
            Action::LeaveClients { .. } => self.releasing = true,
            _ => {}
        }
    }

    /// The gate is opened for so long, which the machine does not ask for.
    fn reopening(&self, now: BootTime, event: &Event) -> Option<BootTime> {
        let (nonce, answered) = match event {
            Event::Decided {
                nonce,
                decision: Decision::Done(_),
            } => (Some(*nonce), true),
            Event::Saw(seen)
            | Event::Decided {
                decision: Decision::Refused(seen),
                ..
            } => (seen.record.as_ref().and_then(Record::nonce), false),
            _ => (None, false),
        };
        let (hold, _) = *self.sent.get(&nonce?)?;
        let reopens = match self.fault {
            Fault::HoldFromAnswer => true,
            Fault::LateCommitTakenForRenewal => !answered,
            Fault::AnswerReopensAfterRelease => self.releasing && answered && hold.is_none(),
            _ => false,
        };
        Some(now + hold.or(self.last_hold)?).filter(|_| reopens)
    }

    /// What the machine is told instead.
    fn alter(&self, event: &mut Event) {
        match self.fault {
            Fault::NoGap => each_record(event, |record| {
                if let Record::Held(held) = record {
                    held.terms.gap = Duration::ZERO;
                }
            }),
            Fault::ReservationIgnored => each_record(event, |record| {
                if let Record::Free(free) = record {
                    free.heir = None;
                }
            }),
            // The machine is answered as it has asked.
            Fault::GateWithoutTime => {
                if let Event::GateSet(Some(until)) = event {
                    *until = *until - FOR_EVER;
                }
            }
            Fault::SilenceTakenForYes => {
                if let Event::Decided {
                    nonce,
                    decision: decision @ Decision::Unanswered,
                } = event
                    && let Some((_, expected)) = self.sent.get(nonce)
                {
                    *decision = Decision::Done(expected.revision);
                }
            }
            _ => {}
        }
    }

    /// What is done instead of what the machine asks for.
    fn distort(&mut self, now: BootTime, actions: &mut Vec<Action>, ownership: &mut Ownership) {
        let held_back = match self.fault {
            Fault::DeadlineForgotten => {
                actions.retain(|action| !matches!(action, Action::WakeAt(_)));
                None
            }
            Fault::LongerBeforeAcknowledged => {
                let hold = actions.iter().find_map(|action| match action {
                    Action::Transact {
                        change:
                            Change::Write {
                                record: Record::Held(held),
                                ..
                            },
                        ..
                    } => Some(held.terms.hold),
                    _ => None,
                });
                // Who owns nothing yet does not open.
                if let Some(hold) = hold.filter(|_| self.open > Some(now)) {
                    actions.push(Action::SetGate(Some(now + hold)));
                }
                None
            }
            Fault::GateWithoutTime => {
                for action in actions.iter_mut() {
                    if let Action::SetGate(Some(until)) = action {
                        *until += FOR_EVER;
                    }
                }
                None
            }
            Fault::ShortenedByBeliefOnly => {
                take_gate(actions, |until| until > Some(now) && until < self.open)
            }
            Fault::ReleasedBeforeClosed => {
                let releases = self.releasing;
                take_gate(actions, |until| releases && until.is_none())
            }
            _ => None,
        };
        // The machine believes that it is done.
        if let Some(answer) = held_back {
            actions.extend(ownership.step(now, answer));
        }
    }
}

/// Takes the word to the gate away, if it is like that; what the gate would have answered.
fn take_gate(actions: &mut Vec<Action>, is_it: impl Fn(Option<BootTime>) -> bool) -> Option<Event> {
    let mut words = actions.iter();
    let place =
        words.position(|action| matches!(action, Action::SetGate(until) if is_it(*until)))?;
    match actions.remove(place) {
        Action::SetGate(until) => Some(Event::GateSet(until)),
        _ => None,
    }
}

fn each_record(event: &mut Event, change: impl FnOnce(&mut Record)) {
    let seen: &mut Seen = match event {
        Event::Saw(seen)
        | Event::Read(seen)
        | Event::Decided {
            decision: Decision::Refused(seen),
            ..
        } => seen,
        _ => return,
    };
    if let Some(record) = &mut seen.record {
        change(record);
    }
}
