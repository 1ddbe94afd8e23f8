//! Who decides about an address: the machine that is shipped, or in a test that must fail, a broken one.

use masthead_machine::BootTime;
use masthead_vip::{Action, Event, Ownership, Setup};

/// A machine, and its state for people.
pub trait Decides: Send {
    /// Takes one event in and returns what is to be done, in this order.
    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action>;

    /// What it is, or is about.
    fn ownership(&self) -> &Ownership;
}

/// Makes the machine of an address.
pub type Deciding = fn(Setup) -> Box<dyn Decides>;

impl Decides for Ownership {
    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action> {
        masthead_machine::Machine::step(self, now, event)
    }

    fn ownership(&self) -> &Ownership {
        self
    }
}

/// The one that is shipped.
pub fn shipped(setup: Setup) -> Box<dyn Decides> {
    Box::new(Ownership::new(setup))
}
