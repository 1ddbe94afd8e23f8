//! Random histories of three to five masters that own one address in turn: clocks that run apart, processes that stand still
//! between any decision and its effect, transactions lost, late and unanswered, elections, partitions, power cuts,
//! supervisors that die, apiservers that fail, operators who move the address.
//!
//! `world` plays the network, `etcd` and the kernels' gates, which are what "owner" means here; `host` gives each machine a clock
//! of its own; `masthead-vip-faults` breaks the machines on purpose. A failed history tells its seed and the few mishaps that it takes.

mod clock;
mod etcd;
mod host;
mod scenario;
mod world;

use std::ops::Range;

use masthead_simulator::{Failure, Simulation, check};
use masthead_vip_faults::Fault;

use crate::scenario::{CALM_FROM, END, Scenario};
use crate::world::World;

/// How many histories `make test` runs. Fewer where MASTHEAD_HISTORIES says so: the mutants of `make soak` are judged by the
/// first of them.
const HISTORIES: u64 = 1_000;

fn build(fault: Option<Fault>, seed: u64) -> Simulation<World> {
    let scenario = Scenario::draw(seed);
    let hosts = scenario.hosts;
    Simulation::new(World::new(scenario, fault), seed, hosts, CALM_FROM)
}

fn run(fault: Option<Fault>, seeds: Range<u64>) -> Result<(), Box<Failure>> {
    check(seeds, END, |seed| build(fault, seed))
}

#[test]
fn there_are_never_two_owners_and_always_one_in_the_end() {
    let histories = std::env::var("MASTHEAD_HISTORIES").map_or(HISTORIES, |number| {
        number
            .parse()
            .expect("MASTHEAD_HISTORIES is a number of histories")
    });
    if let Err(failure) = run(None, 0..histories) {
        panic!("{failure}");
    }
}

/// Histories in which nothing happens would prove nothing.
#[test]
fn histories_are_eventful() {
    let (mut steps, mut moves) = (0, 0);
    for seed in 0..100 {
        let mut simulation = build(None, seed);
        simulation.run(END).expect("it keeps the properties");
        steps += simulation.environment().steps;
        moves += simulation.environment().moves;
    }
    println!("{steps} steps, {moves} takeovers in 100 histories");
    assert!(
        steps > 50_000 && moves > 250,
        "{steps} steps, {moves} moves"
    );
}

/// Each seeded fault is found, and by a property that is there for it.
#[test]
fn every_seeded_fault_is_found() {
    for fault in Fault::ALL {
        let failure = run(Some(fault), 0..10_000).expect_err(&format!("{fault:?} was not found"));
        assert!(
            fault.is_found_by(&failure.violation),
            "{fault:?} was found by an unexpected property: {failure}"
        );
        println!("{fault:?}: seed {}, {}", failure.seed, failure.violation);
    }
}
