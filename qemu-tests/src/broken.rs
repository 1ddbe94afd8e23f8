//! An `/init` that is built for tests which must see it fail.

use std::process::ExitCode;

use masthead_init::{
    Release,
    vip::{Decides, Deciding},
};
use masthead_machine::BootTime;
use masthead_vip::{Action, Event, Ownership, Setup};
use masthead_vip_faults::{Broken, Fault};

/// Runs as `/init`, with that in the place of who decides about virtual addresses.
pub fn run_with(deciding: Deciding) -> ExitCode {
    masthead_init::run(Release {
        deciding,
        ..Release::THIS
    })
}

/// The machine of an address, with that fault.
pub fn ownership(setup: Setup, fault: Fault) -> Box<dyn Decides> {
    Box::new(Faulty {
        ownership: Ownership::new(setup),
        broken: Broken::new(fault),
    })
}

struct Faulty {
    ownership: Ownership,
    broken: Broken,
}

impl Decides for Faulty {
    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action> {
        self.broken.step(now, event, &mut self.ownership)
    }

    fn ownership(&self) -> &Ownership {
        &self.ownership
    }
}
