//! The one shape of every protocol.
//!
//! A protocol (a service's life, formation, the VIP, an upgrade …) is a [`Machine`]: a state, and
//! `step(now, event) -> actions`. It has no clock, no socket, no file and no random numbers but
//! those of a seeded [`Random`]; time comes in as a [`BootTime`]. A driver in `init` feeds it from
//! channels and timers and carries its actions out; the simulator does the same in virtual time.
//!
//! # Deadlines
//! A machine asks to be woken with an action. **Each step states the machine's next deadline
//! anew**: a later step replaces it, and a step that states none leaves none. So there is nothing
//! to cancel and no stale timer; [`Alarm`] keeps this rule for the driver and the simulator.
//! Waking is only a hint: a machine that is woken too early, or for nothing, states its deadline
//! again and does nothing else. The first event of every machine is [`Woken`].

#![forbid(unsafe_code)]

mod boot_time;
mod random;
mod scale;

pub use boot_time::BootTime;
pub use random::Random;
pub use scale::{InvalidScale, Scale};

/// A protocol without clock, socket or file.
pub trait Machine {
    /// What can happen to it.
    type Event: From<Woken>;
    /// What it can ask for.
    type Action: Wakes;

    /// Takes one event in and returns what is to be done, in this order.
    ///
    /// `now` never decreases from one step to the next.
    fn step(&mut self, now: BootTime, event: Self::Event) -> Vec<Self::Action>;
}

/// The event "time has passed": the first event of every machine, and the answer to a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken;

/// An action that may be a request to be woken.
pub trait Wakes {
    /// The instant at which the machine wants [`Woken`], if this action is such a request.
    fn wake_at(&self) -> Option<BootTime>;
}

/// The newest deadline of one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarm {
    at: Option<BootTime>,
}

impl Alarm {
    /// Replaces the deadline by the earliest that the actions of one step ask for, or by none.
    pub fn set_by<A: Wakes>(&mut self, actions: &[A]) {
        self.at = actions.iter().filter_map(Wakes::wake_at).min();
    }

    /// When the machine wants to be woken.
    pub fn at(&self) -> Option<BootTime> {
        self.at
    }

    /// Whether the deadline has come.
    pub fn is_due(&self, now: BootTime) -> bool {
        self.at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Ask(Option<u64>);

    impl Wakes for Ask {
        fn wake_at(&self) -> Option<BootTime> {
            self.0.map(|s| BootTime::from_boot(Duration::from_secs(s)))
        }
    }

    #[test]
    fn an_alarm_keeps_only_the_newest_deadline() {
        let at = |seconds| BootTime::from_boot(Duration::from_secs(seconds));
        let mut alarm = Alarm::default();
        assert!(!alarm.is_due(at(100)));
        alarm.set_by(&[Ask(Some(7)), Ask(None), Ask(Some(5))]);
        assert_eq!(alarm.at(), Some(at(5)));
        assert!(!alarm.is_due(at(4)));
        assert!(alarm.is_due(at(5)));
        alarm.set_by(&[Ask(Some(9))]);
        assert_eq!(alarm.at(), Some(at(9)));
        alarm.set_by::<Ask>(&[]);
        assert_eq!(alarm.at(), None);
    }
}
