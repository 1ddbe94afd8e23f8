//! What the kernel and the interface are told, one word after the other: the next one waits for the answer to the last.

use masthead_machine::BootTime;

use crate::Action;

/// Something that is told how to be, and answers when it is.
#[derive(Clone, Copy, Debug)]
struct Told<T> {
    /// As it has said last; nothing before its first answer.
    is: Option<T>,
    /// What it was asked for and has not answered.
    asked: Option<T>,
}

impl<T: Copy + PartialEq> Told<T> {
    const UNKNOWN: Self = Self {
        is: None,
        asked: None,
    };

    /// Whether it is known to be like that.
    fn is(&self, state: T) -> bool {
        self.is == Some(state) && self.asked.is_none()
    }

    /// Whether it is to be told now.
    fn ask(&mut self, wanted: T) -> bool {
        let now = self.asked.is_none() && self.is != Some(wanted);
        if now {
            self.asked = Some(wanted);
        }
        now
    }

    fn answered(&mut self, state: T) {
        *self = Self {
            is: Some(state),
            asked: None,
        };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Opening {
    Closed,
    Until(BootTime),
}

impl Opening {
    fn of(until: Option<BootTime>) -> Self {
        until.map_or(Self::Closed, Self::Until)
    }

    fn until(self) -> Option<BootTime> {
        match self {
            Self::Closed => None,
            Self::Until(until) => Some(until),
        }
    }
}

/// The gate in the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Told<Opening>);

impl Gate {
    pub(crate) fn unknown() -> Self {
        Self(Told::UNKNOWN)
    }

    /// Until when the address may be let through, by all that the kernel was ever told.
    pub(crate) fn may_be_open_until(&self) -> Option<BootTime> {
        self.0.is.max(self.0.asked).and_then(Opening::until)
    }

    /// Until when the kernel has said that it lets the address through.
    pub(crate) fn open_until(&self) -> Option<BootTime> {
        self.0.is.and_then(Opening::until)
    }

    /// Whether the kernel has said that it lets nothing through, and was not asked for anything else.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is(Opening::Closed)
    }

    pub(crate) fn pursue(&mut self, wanted: Option<BootTime>, actions: &mut Vec<Action>) {
        if self.0.ask(Opening::of(wanted)) {
            actions.push(Action::SetGate(wanted));
        }
    }

    pub(crate) fn answered(&mut self, until: Option<BootTime>) {
        self.0.answered(Opening::of(until));
    }
}

/// The address on the interface.
#[derive(Clone, Debug)]
pub(crate) struct Address(Told<bool>);

impl Address {
    pub(crate) fn unknown() -> Self {
        Self(Told::UNKNOWN)
    }

    /// Whether it is known to be there, or not.
    pub(crate) fn is(&self, there: bool) -> bool {
        self.0.is(there)
    }

    pub(crate) fn pursue(&mut self, wanted: bool, actions: &mut Vec<Action>) {
        if self.0.ask(wanted) {
            actions.push(Action::SetAddress(wanted));
        }
    }

    pub(crate) fn answered(&mut self, there: bool) {
        self.0.answered(there);
    }
}
