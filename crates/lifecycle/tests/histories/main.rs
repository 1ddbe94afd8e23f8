//! Random histories of the four services of a master: exits, hangs, slow starts, children left
//! behind, processes that cannot be killed, lost reports, supervisors that die at any moment, and
//! stops at any time.
//!
//! `world` plays the kernel and the services, `properties` keeps its own books and checks the
//! machines against them, `faults` breaks the machines on purpose. A failed history tells its
//! seed and the few mishaps that it takes.

mod faults;
mod properties;
mod scenario;
mod world;

use masthead_simulator::{Failure, Simulation, check};
use proptest::prelude::*;

use crate::faults::Fault;
use crate::scenario::{CALM_FROM, END, Scenario, scenarios};
use crate::world::World;

/// Runs some histories of a scenario.
fn run(
    scenario: &Scenario,
    fault: Option<Fault>,
    seeds: std::ops::Range<u64>,
) -> Result<(), Box<Failure>> {
    check(seeds, END, |seed| {
        Simulation::new(World::new(scenario.clone(), fault), seed, 1, CALM_FROM)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Many kinds of worlds, a few histories of each.
    #[test]
    fn every_history_keeps_the_properties(scenario in scenarios(), seed in 0..u64::MAX / 2) {
        run(&scenario, None, seed..seed + 16).map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    }
}

/// The usual world, many histories: always the same ones.
#[test]
fn the_usual_histories_keep_the_properties() {
    if let Err(failure) = run(&Scenario::default(), None, 0..6000) {
        panic!("{failure}");
    }
}

/// Each seeded fault is found, and by the property that is there for it.
#[test]
fn every_seeded_fault_is_found() {
    for fault in Fault::ALL {
        let failure = run(&fault.scenario(), Some(fault), 0..400)
            .expect_err(&format!("{fault:?} was not found"));
        assert!(
            fault.is_found_by(&failure.violation),
            "{fault:?} was found by an unexpected property: {failure}"
        );
    }
}
