//! The machine as a process on a node: its time is the node's own.

use masthead_machine::{BootTime, Machine};
use masthead_vip::{Action, Event, Ownership};

use crate::clock::Clock;
use masthead_vip_faults::Broken;

/// The machine, which sees nothing but its own clock. With a fault it is broken on purpose.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) ownership: Ownership,
    pub(crate) clock: Clock,
    pub(crate) broken: Option<Broken>,
}

impl Machine for Host {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action> {
        let shown = self.clock.shows(now);
        let mut actions = match &mut self.broken {
            None => self.ownership.step(shown, event),
            Some(broken) => broken.step(shown, event, &mut self.ownership),
        };
        for action in &mut actions {
            if let Action::WakeAt(at) = action {
                *at = self.clock.when(*at);
            }
        }
        actions
    }
}
