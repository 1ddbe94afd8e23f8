//! Histories with a name: what must come of each is written down.

use std::collections::BTreeSet;

use masthead_formation::{InvalidOverride, Phase, Reason};
use masthead_simulator::{Simulation, replay};

use crate::host::Wipe;
use crate::scenario::{CALM_FROM, END, Scenario};
use crate::script::{Command, Condition, Script};
use crate::world::World;

use Command::{Expect, FormerDisk, FoundWithout, Heal, Off, On, Split};

/// The lowest address of three.
const PLANNER: usize = 1;
const FOLLOWER: usize = 0;
const OTHER: usize = 2;

fn set(hosts: &[usize]) -> BTreeSet<usize> {
    hosts.iter().copied().collect()
}

/// Runs a script in a world of so many masters. The claims of every history are checked on top of its own.
fn play(masters: usize, script: &Script) {
    play_seed(masters, script, 1);
}

fn play_seed(masters: usize, script: &Script, seed: u64) {
    let build = |seed| {
        let mut world = World::new(Scenario::quiet(masters), None);
        world.script = script.clone();
        Simulation::new(world, seed, masters, CALM_FROM)
    };
    if let Err(failure) = replay(seed, END, BTreeSet::new(), build) {
        panic!("{failure}");
    }
}

fn running(world: &World) -> usize {
    world
        .hosts
        .iter()
        .filter(|host| host.running.is_some())
        .count()
}

fn all_run(world: &World) -> bool {
    running(world) == world.hosts.len()
}

fn nobody_runs(world: &World) -> bool {
    running(world) == 0
}

fn phase(world: &World, host: usize) -> Option<Phase> {
    world.statuses[host].as_ref().map(|status| status.phase)
}

fn says(world: &World, host: usize, is_meant: impl Fn(&Reason) -> bool) -> bool {
    world.statuses[host]
        .as_ref()
        .is_some_and(|status| status.reasons.iter().any(is_meant))
}

fn waits_for_cluster(world: &World, host: usize) -> bool {
    phase(world, host) == Some(Phase::Fresh)
        && says(world, host, |reason| {
            matches!(reason, Reason::ClusterExists { .. })
        })
}

#[test]
fn one_to_seven_masters_form_and_even_numbers_warn() {
    for masters in 1..=7 {
        let even: fn(&World) -> bool = |world| {
            let warned = says(world, 0, |reason| {
                matches!(reason, Reason::EvenMasters { .. })
            });
            warned == world.hosts.len().is_multiple_of(2)
        };
        let script = Script::default().at(
            2500,
            [
                Expect("all run after two seconds", all_run),
                Expect("even numbers warn, odd ones do not", even),
            ],
        );
        play(masters, &script);
    }
}

#[test]
fn a_late_third_master_is_waited_for_by_name() {
    let named: fn(&World) -> bool = |world| {
        [FOLLOWER, PLANNER].into_iter().all(|host| {
            says(world, host, |reason| {
                *reason
                    == Reason::PeersMissing {
                        names: vec!["m3".to_owned()],
                    }
            })
        })
    };
    let script = Script::default()
        .at(0, [Off(OTHER)])
        .at(5000, [Expect("m3 is named", named), On(OTHER)])
        .at(7000, [Expect("all run", all_run)]);
    play(3, &script);
}

#[test]
fn two_of_three_etcd_partitions_erased_with_the_third_off_start_no_etcd() {
    let amnesiac: fn(&World) -> bool =
        |world| [0, 1].map(|host| phase(world, host)) == [Some(Phase::Amnesiac); 2];
    let script = Script::default()
        .at(3000, [Expect("all run", all_run)])
        .at(
            5000,
            [
                Off(0),
                Off(1),
                Off(2),
                Command::Wipe(0, Wipe::Etcd),
                Command::Wipe(1, Wipe::Etcd),
                On(0),
                On(1),
            ],
        )
        .at(
            9000,
            [
                Expect("no etcd starts", nobody_runs),
                Expect("both say why", amnesiac),
                On(2),
            ],
        )
        .at(
            15_000,
            [Expect("only the third runs", |world| running(world) == 1)],
        );
    play(3, &script);
}

#[test]
fn no_acknowledged_write_is_lost_to_a_wiped_follower_and_a_cut_leader() {
    for wipe in [Wipe::Etcd, Wipe::State, Wipe::Both] {
        let script = Script::default()
            .at(3000, [Expect("all run", all_run), Off(FOLLOWER)])
            // The others acknowledge writes.
            .at(6000, [Off(PLANNER), Off(OTHER), Command::Wipe(OTHER, wipe)])
            .at(6500, [On(FOLLOWER), On(OTHER)])
            .at(
                10_000,
                [
                    Expect("only the first follower runs", |world| {
                        running(world) == 1 && world.hosts[FOLLOWER].running.is_some()
                    }),
                    On(PLANNER),
                ],
            )
            .at(
                15_000,
                [Expect("leader and first follower run", |world| {
                    running(world) == 2
                })],
            );
        // Each write goes through a leader whose log must hold all that was ever acknowledged.
        play(3, &script);
    }
}

#[test]
fn a_former_disk_among_fresh_masters_is_refused_and_named() {
    let script = Script::default()
        .at(
            0,
            [
                Off(0),
                Off(1),
                Off(2),
                FormerDisk(OTHER, set(&[0, 1, 2])),
                On(0),
                On(1),
                On(2),
            ],
        )
        .at(
            7000,
            [Expect("the fresh ones wait and name it", |world| {
                [FOLLOWER, PLANNER].into_iter().all(|host| {
                    says(world, host, |reason| {
                        matches!(reason, Reason::ClusterExists { names, cluster_id: Some(_) }
                            if names == &["m3"])
                    })
                })
            })],
        );
    play(3, &script);
}

#[test]
fn a_former_disk_in_a_running_cluster_is_refused_and_named() {
    // A former cluster of one would serve alone: its etcd stays off. One of three may run, and finds no quorum.
    for former in [set(&[OTHER]), set(&[0, 1, 2])] {
        let alone = former.len() == 1;
        let script = Script::default()
            .at(
                3000,
                [
                    Expect("all run", all_run),
                    Off(OTHER),
                    FormerDisk(OTHER, former),
                    On(OTHER),
                ],
            )
            .at(
                7900,
                [
                    Expect("it is named where it is", |world| {
                        says(world, OTHER, |reason| {
                            matches!(reason, Reason::ForeignCluster { clusters, .. }
                                if clusters.iter().any(|(_, names)| names == &["m1", "m2"]))
                        })
                    }),
                    Expect("it is named elsewhere", |world| {
                        says(world, FOLLOWER, |reason| {
                            matches!(reason, Reason::ForeignCluster { clusters, refused: false }
                                if clusters.iter().any(|(_, names)| names == &["m3"]))
                        })
                    }),
                ],
            );
        let script = if alone {
            script.at(
                8000,
                [Expect("it stays off", |world| {
                    world.hosts[OTHER].running.is_none()
                })],
            )
        } else {
            script
        };
        play(3, &script);
    }
}

#[test]
fn a_planner_wiped_after_one_acknowledgement_does_not_block() {
    let one_acknowledged: fn(&World) -> bool = |world| {
        let plans = |host: usize| world.hosts[host].state.plans.len();
        plans(PLANNER) == 1 && plans(FOLLOWER) + plans(OTHER) == 1
    };
    let script = Script::default()
        .when(
            Condition::Holds(one_acknowledged),
            [Off(PLANNER), Command::Wipe(PLANNER, Wipe::Both)],
        )
        .at(3000, [Expect("nobody runs", nobody_runs), On(PLANNER)])
        .at(
            6000,
            [
                Expect("all run", all_run),
                Expect("by a second generation", |world| {
                    let plan = world.hosts[PLANNER].gone_plan();
                    plan.is_some_and(|plan| plan.generation() == 2)
                }),
            ],
        );
    play(3, &script);
}

#[test]
fn go_that_reached_one_only_reaches_the_others_later() {
    let one_more: fn(&World) -> bool = |world| {
        let holders = world.hosts.iter().filter(|host| host.state.go.is_some());
        holders.count() == 2
    };
    // The planner is wiped, too: it gave go, and is to be replaced.
    let script = Script::default()
        .when(
            Condition::Holds(one_more),
            [
                Off(PLANNER),
                Command::Wipe(PLANNER, Wipe::Both),
                On(PLANNER),
            ],
        )
        .at(
            4000,
            [
                Expect("the two others run", |world| running(world) == 2),
                Expect("the wiped one waits to be joined", |world| {
                    waits_for_cluster(world, PLANNER)
                }),
            ],
        );
    play(3, &script);
}

#[test]
fn a_follower_wiped_after_its_acknowledgement_is_planned_again_or_left_behind() {
    let acknowledged: fn(&World) -> bool = |world| world.hosts[FOLLOWER].state.plans.len() == 1;
    // With the third off, go cannot be given: a second generation names the new machine.
    let script = Script::default()
        .when(
            Condition::Holds(|world| world.hosts[PLANNER].state.plans.len() == 1),
            [Off(OTHER)],
        )
        .when(
            Condition::Holds(acknowledged),
            [
                Off(FOLLOWER),
                Command::Wipe(FOLLOWER, Wipe::Both),
                On(FOLLOWER),
            ],
        )
        .at(3000, [Expect("nobody runs", nobody_runs), On(OTHER)])
        .at(6000, [Expect("all run", all_run)]);
    play(3, &script);
    // With go given meanwhile, it waits to be joined.
    let script = Script::default()
        .when(
            Condition::Holds(|world| world.hosts[PLANNER].state.go.is_some()),
            [
                Off(FOLLOWER),
                Command::Wipe(FOLLOWER, Wipe::Both),
                On(FOLLOWER),
            ],
        )
        .at(
            4000,
            [Expect("two run, the wiped one waits", |world| {
                running(world) == 2 && waits_for_cluster(world, FOLLOWER)
            })],
        );
    play(3, &script);
}

/// The power of one master goes at every step of formation, and it comes back with STATE, ETCD, both or nothing lost.
#[test]
fn any_disk_wiped_at_any_step_keeps_the_claims() {
    for victim in [FOLLOWER, PLANNER, OTHER] {
        for wipe in [Wipe::Nothing, Wipe::Etcd, Wipe::State, Wipe::Both] {
            for step in (0..150).map(|step| 2 * step) {
                let script = Script::default().when(
                    Condition::Actions(step),
                    [Off(victim), Command::Wipe(victim, wipe), On(victim)],
                );
                play_seed(3, &script, step as u64);
            }
        }
    }
}

#[test]
fn founding_without_a_missing_master_needs_the_operators_word() {
    let script = Script::default()
        .at(0, [Off(OTHER)])
        .at(
            4000,
            [
                Expect("nobody runs", nobody_runs),
                FoundWithout(PLANNER, set(&[OTHER])),
            ],
        )
        .at(
            6000,
            [
                Expect("it was accepted", |world| world.answers == [Ok(())]),
                Expect("two run", |world| running(world) == 2),
                On(OTHER),
            ],
        )
        .at(
            8000,
            [Expect("the third waits", |world| {
                waits_for_cluster(world, OTHER)
            })],
        );
    play(3, &script);
}

#[test]
fn founding_without_some_is_refused_when_a_cluster_may_exist() {
    let refused = |script: Script, expected: fn(&InvalidOverride) -> bool| {
        let seen: fn(&World) -> bool = |world| world.answers.iter().all(Result::is_err);
        let script = script.at(7900, [Expect("it was refused", seen)]);
        let mut world = World::new(Scenario::quiet(3), None);
        world.script = script;
        let mut simulation = Simulation::new(world, 1, 3, CALM_FROM);
        simulation.run(END).expect("the claims hold");
        let answers = &simulation.environment().answers;
        assert!(
            matches!(answers.as_slice(), [Err(error)] if expected(error)),
            "{answers:?}"
        );
    };
    // By a minority.
    refused(
        Script::default()
            .at(0, [Off(OTHER), Off(FOLLOWER)])
            .at(4000, [FoundWithout(PLANNER, set(&[FOLLOWER, OTHER]))])
            .at(9000, [On(OTHER), On(FOLLOWER)]),
        |error| matches!(error, InvalidOverride::NoMajority { left: 1, listed: 3 }),
    );
    // While one of the rest does not answer.
    refused(
        Script::default()
            .at(0, [Off(OTHER), Off(FOLLOWER)])
            .at(4000, [FoundWithout(PLANNER, set(&[OTHER]))])
            .at(9000, [On(OTHER), On(FOLLOWER)]),
        |error| matches!(error, InvalidOverride::Silent(names) if names == &["m1"]),
    );
    // Somewhere else than at the lowest address of the rest.
    refused(
        Script::default()
            .at(0, [Off(OTHER)])
            .at(4000, [FoundWithout(FOLLOWER, set(&[OTHER]))])
            .at(9000, [On(OTHER)]),
        |error| matches!(error, InvalidOverride::NotThePlanner { planner } if planner == "m2"),
    );
    // When a listed master holds go, although it is the one to be left out.
    refused(
        Script::default()
            .when(
                Condition::Holds(|world| world.hosts[OTHER].state.go.is_some()),
                [
                    Split(set(&[OTHER])),
                    Off(PLANNER),
                    Command::Wipe(PLANNER, Wipe::Both),
                    On(PLANNER),
                ],
            )
            .at(5000, [Heal])
            .at(6000, [FoundWithout(PLANNER, set(&[OTHER]))]),
        |error| matches!(error, InvalidOverride::ClusterExists(_)),
    );
}

#[test]
fn an_excluded_master_that_holds_go_finds_nobody_for_it() {
    // The planner gives go and is cut off before anybody else hears of it; the others found without it.
    let script = Script::default()
        .when(
            Condition::Holds(|world| world.hosts[PLANNER].state.go.is_some()),
            [Split(set(&[PLANNER]))],
        )
        .at(5000, [FoundWithout(FOLLOWER, set(&[PLANNER]))])
        .at(7000, [Expect("two run", |world| running(world) == 2), Heal])
        .at(
            10_000,
            [Expect("the planner stays off", |world| {
                running(world) == 2 && world.hosts[PLANNER].running.is_none()
            })],
        );
    play(3, &script);
}
