//! What the nodes of both providers have in common: power that is on or off, what happened to it, and
//! waiting until it is off.

use std::{
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use crate::{
    error::{Error, Result},
    provider::{Power, PowerChange, PowerEvent},
};

/// The power of one node. `Running` is what there is only while it is on, `Settings` what outlives that.
pub(crate) struct Supply<Running, Settings> {
    node: String,
    state: Mutex<State<Running, Settings>>,
    /// Notified when the power goes off.
    off: Condvar,
}

/// What a [`Supply`] guards. The settings are its fields.
pub(crate) struct State<Running, Settings> {
    pub(crate) running: Option<Running>,
    settings: Settings,
    history: Vec<PowerEvent>,
}

/// The state, for as long as nobody else shall change it.
pub(crate) type Held<'a, Running, Settings> = MutexGuard<'a, State<Running, Settings>>;

impl<Running, Settings> Supply<Running, Settings> {
    /// Of a node that is off.
    pub(crate) fn new(node: &str, settings: Settings) -> Self {
        Self {
            node: node.to_owned(),
            state: Mutex::new(State {
                running: None,
                settings,
                history: Vec::new(),
            }),
            off: Condvar::new(),
        }
    }

    pub(crate) fn hold(&self) -> Held<'_, Running, Settings> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same of a node that is off; another one is refused.
    pub(crate) fn hold_off(&self) -> Result<Held<'_, Running, Settings>> {
        let state = self.hold();
        if state.running.is_some() {
            return Err(self.wrong("on already", "cut its power first"));
        }
        Ok(state)
    }

    /// Says that a node that is off had to be on.
    pub(crate) fn must_be_on(&self) -> Error {
        self.wrong("off", "power it on first")
    }

    fn wrong(&self, state: &str, remedy: &'static str) -> Error {
        Error::WrongPower {
            node: self.node.clone(),
            state: state.to_owned(),
            remedy,
        }
    }

    pub(crate) fn power(&self) -> Power {
        if self.hold().running.is_some() {
            Power::On
        } else {
            Power::Off
        }
    }

    pub(crate) fn history(&self) -> Vec<PowerEvent> {
        self.hold().history.clone()
    }

    /// Lets go of the state until [`Supply::went_off`] was called with nothing running.
    pub(crate) fn wait_until_off(&self, mut state: Held<'_, Running, Settings>) {
        while state.running.is_some() {
            state = self.off.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes who waits for the end of power.
    pub(crate) fn went_off(&self, state: Held<'_, Running, Settings>) {
        drop(state);
        self.off.notify_all();
    }
}

impl<Running, Settings> State<Running, Settings> {
    /// Notes what happened, at this moment.
    pub(crate) fn record(&mut self, change: PowerChange) {
        self.history.push(PowerEvent {
            at: SystemTime::now(),
            change,
        });
    }
}

impl<Running, Settings> Deref for State<Running, Settings> {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl<Running, Settings> DerefMut for State<Running, Settings> {
    fn deref_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_waits_for_the_end_sees_it_and_what_ended_it() {
        let supply = Supply::new("m1", ());
        let mut state = supply.hold_off().expect("off");
        state.running = Some(7);
        state.record(PowerChange::PoweredOn);
        drop(state);
        assert!(supply.hold_off().is_err());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                supply.wait_until_off(supply.hold());
                supply.power()
            });
            let mut state = supply.hold();
            assert_eq!(state.running.take(), Some(7));
            state.record(PowerChange::Cut);
            supply.went_off(state);
            assert_eq!(waiting.join().expect("no panic"), Power::Off);
        });
        let changes: Vec<_> = supply
            .history()
            .into_iter()
            .map(|event| event.change)
            .collect();
        assert_eq!(changes, [PowerChange::PoweredOn, PowerChange::Cut]);
    }
}
