//! Each rule of a single node, with a twin: what is refused, and the next best thing that is not.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use masthead_formation::{
    Action, ClusterId, EtcdHoldings, EtcdStart, Event, Formation, InvalidMessage, InvalidPlan,
    KeyFingerprint, MachineId, Marker, Master, Member, Message, Phase, Plan, PlanDocument, Reason,
    Record, Report, Sealed, SeedHash, Sender, Setup, Standing, Started, StateHoldings, Volume,
};
use masthead_machine::{BootTime, Machine, Scale};

const SEED: SeedHash = SeedHash([9; 32]);
const CLUSTER: ClusterId = ClusterId([8; 16]);
const NOW: BootTime = BootTime::from_boot(std::time::Duration::from_secs(5));

fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

fn member(number: u8) -> Member {
    Member {
        address: address(number),
        name: format!("m{number}"),
        machine_id: MachineId([number; 16]),
        key: KeyFingerprint([number; 32]),
    }
}

fn master(number: u8) -> Master {
    Master {
        address: address(number),
        name: format!("m{number}"),
    }
}

fn sender(number: u8) -> Sender {
    Sender {
        address: address(number),
        key: KeyFingerprint([number; 32]),
    }
}

fn setup(number: u8) -> Setup {
    Setup {
        cluster: "prod".into(),
        masters: [1, 2, 3].map(master).into(),
        name: format!("m{number}"),
        seed: SEED,
        machine_id: MachineId([number; 16]),
        key: KeyFingerprint([number; 32]),
        session: u64::from(number),
        durable: true,
        state: state(&[], None, None),
        etcd: etcd(None, false),
        scale: Scale::REAL,
    }
}

fn state(plans: &[&Arc<Plan>], go: Option<&Plan>, started: Option<(&str, bool)>) -> StateHoldings {
    StateHoldings::Read {
        plans: plans
            .iter()
            .map(|plan| Record::Plan(Arc::clone(plan)).bytes())
            .collect(),
        go: go.map(|plan| Record::Go(plan.hash()).bytes()),
        started: started.map(|(uuid, confirmed)| {
            Record::Started(Started {
                cluster_id: CLUSTER,
                etcd_filesystem: uuid.into(),
                confirmed,
            })
            .bytes()
        }),
    }
}

fn etcd(marker: Option<(ClusterId, u8)>, has_wal: bool) -> EtcdHoldings {
    EtcdHoldings::Read {
        uuid: "uuid".into(),
        marker: marker.map(|(cluster_id, machine)| {
            Record::Marker(Marker {
                cluster_id,
                machine_id: MachineId([machine; 16]),
            })
            .bytes()
        }),
        has_wal,
    }
}

fn document(generation: u64) -> PlanDocument {
    PlanDocument {
        format: 1,
        oldest_format: 1,
        generation,
        cluster_id: CLUSTER,
        cluster: "prod".into(),
        seed: SEED,
        members: [1, 2, 3].map(member).into(),
        excluded: Vec::new(),
        timing_scale_per_mille: 1000,
        sealed: Sealed(b"keys".to_vec()),
    }
}

fn plan_of(document: &PlanDocument) -> Arc<Plan> {
    Arc::new(Plan::write(document).expect("a plan"))
}

fn plan(generation: u64) -> Arc<Plan> {
    plan_of(&document(generation))
}

/// A report to the node of that session.
fn report(from: u8, sequence: u64, echo: u8, standing: Standing) -> Event {
    Event::Received {
        from: sender(from),
        message: Message::Report(Report {
            name: format!("m{from}"),
            machine_id: MachineId([from; 16]),
            session: 70,
            sequence,
            echo: Some(u64::from(echo)),
            question: false,
            seed: SEED,
            standing,
        }),
    }
}

fn founding(plan: &Plan, go: bool) -> Standing {
    Standing::Founding {
        plan: plan.name(),
        go,
    }
}

fn node(setup: Setup) -> Formation {
    let mut node = Formation::new(setup);
    node.step(NOW, Event::Woken);
    node
}

fn records(actions: &[Action]) -> Vec<Record> {
    let record = |action: &Action| match action {
        Action::Persist(record) => Some(record.clone()),
        _ => None,
    };
    actions.iter().filter_map(record).collect()
}

/// Whether a Fresh or Founding node acknowledges a plan.
fn acknowledges(node: &mut Formation, from: Sender, plan: &Arc<Plan>) -> bool {
    let message = Message::Plan(Arc::clone(plan));
    let actions = node.step(NOW, Event::Received { from, message });
    records(&actions) == [Record::Plan(Arc::clone(plan))]
}

#[test]
fn a_plan_is_acknowledged_only_when_everything_in_it_is_right() {
    assert!(acknowledges(&mut node(setup(2)), sender(1), &plan(1)));
    let refused = |change: &dyn Fn(&mut PlanDocument)| {
        let mut document = document(1);
        change(&mut document);
        let plan = plan_of(&document);
        let planner = Sender {
            address: plan.planner().address,
            key: plan.planner().key,
        };
        !acknowledges(&mut node(setup(2)), planner, &plan)
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|plan| plan.seed = SeedHash([1; 32])));
    assert!(refused(&|plan| plan.cluster = "test".into()));
    assert!(refused(
        &|plan| plan.members[1].machine_id = MachineId([77; 16])
    ));
    assert!(refused(
        &|plan| plan.members[1].key = KeyFingerprint([77; 32])
    ));
    assert!(refused(&|plan| plan.members[2].address = address(4)));
    assert!(refused(&|plan| drop(plan.members.pop())));
    assert!(refused(&|plan| plan.excluded = vec!["m4".into()]));
    // Without one by an operator's word, but not without two.
    assert!(!refused(&|plan| {
        plan.excluded = vec![plan.members.pop().unwrap().name];
    }));
    assert!(refused(&|plan| {
        plan.members.remove(2);
        plan.members.remove(0);
        plan.excluded = vec!["m1".into(), "m3".into()];
    }));
}

#[test]
fn the_members_of_a_plan_are_more_than_half_of_the_list() {
    let acknowledged = |listed: u8, members: u8| {
        let mut follower = node(Setup {
            masters: (1..=listed).map(master).collect(),
            ..setup(2)
        });
        let plan = plan_of(&PlanDocument {
            members: (1..=members).map(member).collect(),
            excluded: (members + 1..=listed)
                .map(|number| format!("m{number}"))
                .collect(),
            ..document(1)
        });
        acknowledges(&mut follower, sender(1), &plan)
    };
    assert!(!acknowledged(4, 2));
    assert!(acknowledged(4, 3));
    assert!(!acknowledged(5, 2));
    assert!(acknowledged(5, 3));
}

#[test]
fn a_plan_comes_from_its_planner_alone() {
    assert!(!acknowledges(&mut node(setup(2)), sender(3), &plan(1)));
    let elsewhere = Sender {
        address: address(3),
        ..sender(1)
    };
    assert!(!acknowledges(&mut node(setup(2)), elsewhere, &plan(1)));
    assert!(acknowledges(&mut node(setup(2)), sender(1), &plan(1)));
}

#[test]
fn only_a_newer_plan_replaces_one_and_none_replaces_go() {
    let holding = |plans: &[&Arc<Plan>], go: Option<&Plan>| {
        node(Setup {
            state: state(plans, go, None),
            ..setup(2)
        })
    };
    let (one, two) = (plan(1), plan(2));
    assert!(acknowledges(&mut holding(&[&one], None), sender(1), &two));
    assert!(!acknowledges(&mut holding(&[&two], None), sender(1), &two));
    assert!(!acknowledges(&mut holding(&[&two], None), sender(1), &one));
    assert!(!acknowledges(
        &mut holding(&[&one], Some(&one)),
        sender(1),
        &two
    ));
}

#[test]
fn a_plan_does_not_replace_one_that_others_could_start_alone() {
    let former = plan_of(&PlanDocument {
        members: [2, 4, 5].map(member).into(),
        ..document(1)
    });
    let near = plan_of(&PlanDocument {
        members: [2, 3, 4].map(member).into(),
        ..document(1)
    });
    let holding = |plan| {
        node(Setup {
            state: state(&[plan], None, None),
            ..setup(2)
        })
    };
    let mut cautious = holding(&former);
    assert!(!acknowledges(&mut cautious, sender(1), &plan(2)));
    assert!(cautious.status(NOW).reasons.contains(&Reason::PlanRefused {
        generation: 1,
        names: vec!["m4".into(), "m5".into()],
    }));
    assert!(acknowledges(&mut holding(&near), sender(1), &plan(2)));
}

#[test]
fn a_fresh_node_takes_no_plan_once_a_cluster_has_begun() {
    let one = plan(1);
    for (standing, takes) in [
        (Standing::Fresh, true),
        (founding(&one, false), true),
        (Standing::Unknown { holds_go: None }, true),
        (founding(&one, true), false),
        (Standing::Member { plan: one.name() }, false),
        (
            Standing::Amnesiac {
                cluster_id: None,
                holds_go: None,
            },
            false,
        ),
        (
            Standing::Unknown {
                holds_go: Some(one.hash()),
            },
            false,
        ),
        (Standing::Newer, false),
    ] {
        let mut fresh = node(setup(2));
        fresh.step(NOW, report(3, 1, 2, standing.clone()));
        assert_eq!(
            acknowledges(&mut fresh, sender(1), &plan(2)),
            takes,
            "{standing:?}"
        );
    }
}

fn planner_hears(standings: [Standing; 2], seed: SeedHash, echo: u8) -> Vec<Action> {
    let mut planner = node(setup(1));
    let [second, third] = standings;
    planner.step(NOW, report(2, 1, 1, second));
    let Event::Received {
        from,
        message: Message::Report(report),
    } = report(3, 1, echo, third)
    else {
        unreachable!("it is a report");
    };
    let message = Message::Report(Report { seed, ..report });
    planner.step(NOW, Event::Received { from, message })
}

#[test]
fn the_lowest_address_plans_when_all_are_open_hold_its_seed_and_answer_now() {
    let plans = |actions: &[Action]| {
        actions
            .iter()
            .any(|action| matches!(action, Action::MakePlan { members } if members.len() == 3))
    };
    let fresh = [Standing::Fresh, Standing::Fresh];
    assert!(plans(&planner_hears(fresh.clone(), SEED, 1)));
    assert!(!plans(&planner_hears(fresh.clone(), SeedHash([1; 32]), 1)));
    assert!(!plans(&planner_hears(fresh, SEED, 99)), "an old report");
    let one = plan(1);
    assert!(plans(&planner_hears(
        [Standing::Fresh, founding(&one, false)],
        SEED,
        1
    )));
    for closed in [
        founding(&one, true),
        Standing::Member { plan: one.name() },
        Standing::Unknown { holds_go: None },
        Standing::Newer,
    ] {
        assert!(!plans(&planner_hears([Standing::Fresh, closed], SEED, 1)));
    }
    // The second lowest does not.
    let mut second = node(setup(2));
    second.step(NOW, report(1, 1, 2, Standing::Fresh));
    assert!(!plans(&second.step(NOW, report(3, 1, 2, Standing::Fresh))));
    // Nor does anybody when one has fallen silent meanwhile.
    let mut planner = node(setup(1));
    planner.step(NOW, report(2, 1, 1, Standing::Fresh));
    let later = NOW + std::time::Duration::from_secs(4);
    assert!(!plans(
        &planner.step(later, report(3, 1, 1, Standing::Fresh))
    ));
}

#[test]
fn go_needs_every_acknowledgement_by_the_machine_that_was_planned() {
    let one = plan(1);
    let hears = |third: Event| {
        let mut planner = node(Setup {
            state: state(&[&one], None, None),
            ..setup(1)
        });
        planner.step(NOW, report(2, 1, 1, founding(&one, false)));
        records(&planner.step(NOW, third))
    };
    let go = [Record::Go(one.hash())];
    assert_eq!(hears(report(3, 1, 1, founding(&one, false))), go);
    assert_eq!(hears(report(3, 1, 1, Standing::Fresh)), []);
    assert_eq!(hears(report(3, 1, 1, founding(&plan(2), false))), []);
    let Event::Received { message, .. } = report(3, 1, 1, founding(&one, false)) else {
        unreachable!("it is a report");
    };
    let from = Sender {
        key: KeyFingerprint([77; 32]),
        ..sender(3)
    };
    assert_eq!(hears(Event::Received { from, message }), []);
}

#[test]
fn a_plan_is_served_to_the_planned_key_alone() {
    let one = plan(1);
    let served = |from: Sender| {
        let mut planner = node(Setup {
            state: state(&[&one], None, None),
            ..setup(1)
        });
        let Event::Received { message, .. } = report(3, 1, 1, Standing::Fresh) else {
            unreachable!("it is a report");
        };
        let actions = planner.step(NOW, Event::Received { from, message });
        let key = |action: &Action| match action {
            Action::Send {
                to,
                message: Message::Plan(_),
            } => Some(to.key),
            _ => None,
        };
        actions.iter().filter_map(key).collect::<Vec<_>>()
    };
    assert_eq!(served(sender(3)), [Some(KeyFingerprint([3; 32]))]);
    let stranger = Sender {
        key: KeyFingerprint([77; 32]),
        ..sender(3)
    };
    assert_eq!(served(stranger), []);
}

#[test]
fn go_of_an_earlier_plan_is_taken_only_when_the_newer_one_is_dead() {
    let (one, two) = (plan(1), plan(2));
    let hears = |event: Event| {
        let mut follower = node(Setup {
            state: state(&[&one, &two], None, None),
            ..setup(2)
        });
        records(&follower.step(NOW, event))
    };
    assert_eq!(
        hears(report(3, 1, 2, founding(&two, true))),
        [Record::Go(two.hash())]
    );
    // m3 is a member of both: holding go of the first, it never acknowledges the second.
    assert_eq!(
        hears(report(3, 1, 2, founding(&one, true))),
        [Record::Go(one.hash())]
    );
    // Its own plan, of which it has not given go, the planner gives up for one that has go.
    let own = plan_of(&PlanDocument {
        members: [2, 3].map(member).into(),
        excluded: vec!["m1".into()],
        ..document(2)
    });
    let mut planner = node(Setup {
        state: state(&[&one, &own], None, None),
        ..setup(2)
    });
    assert_eq!(
        records(&planner.step(NOW, report(1, 1, 2, founding(&one, true)))),
        [Record::Go(one.hash())]
    );
    // Of a member that the newer plan left out, nothing follows.
    let without = plan_of(&PlanDocument {
        members: [1, 2].map(member).into(),
        excluded: vec!["m3".into()],
        ..document(2)
    });
    let mut follower = node(Setup {
        state: state(&[&one, &without], None, None),
        ..setup(2)
    });
    assert_eq!(
        records(&follower.step(NOW, report(3, 1, 2, founding(&one, true)))),
        []
    );
}

/// What a node tells people after the last of these.
fn reasons(node: &mut Formation, events: impl IntoIterator<Item = Event>) -> Vec<Reason> {
    let actions: Vec<Action> = events
        .into_iter()
        .flat_map(|event| node.step(NOW, event))
        .collect();
    let published = actions.into_iter().rev().find_map(|action| match action {
        Action::Publish(status) => Some(status.reasons),
        _ => None,
    });
    published.expect("a status")
}

#[test]
fn a_follower_names_who_has_not_acknowledged_the_plan() {
    let plan = plan(1);
    let mut follower = node(Setup {
        state: state(&[&plan], None, None),
        ..setup(2)
    });
    let has_it = |from, sequence| report(from, sequence, 2, founding(&plan, false));
    let missing = |names: &[&str]| Reason::Acknowledging {
        missing: names.iter().map(ToString::to_string).collect(),
    };
    let told = reasons(
        &mut follower,
        [has_it(1, 1), report(3, 1, 2, Standing::Fresh)],
    );
    assert_eq!(told, [missing(&["m3"])]);
    assert_eq!(reasons(&mut follower, [has_it(3, 2)]), [missing(&[])]);
    // Of another plan.
    let other = founding(&plan_of(&document(2)), false);
    let told = reasons(&mut follower, [report(1, 2, 2, other)]);
    assert_eq!(told, [missing(&["m1"])]);
}

#[test]
fn all_seeds_are_named_when_they_differ() {
    let mut fresh = node(setup(2));
    let same = |from| report(from, 1, 2, Standing::Fresh);
    let told = reasons(&mut fresh, [same(1), same(3)]);
    let differ = |told: &[Reason]| {
        let mut reasons = told.iter();
        reasons.find_map(|reason| match reason {
            Reason::SeedsDiffer { seeds } => Some(seeds.clone()),
            _ => None,
        })
    };
    assert_eq!(differ(&told), None);
    let Event::Received {
        from,
        message: Message::Report(mut other),
    } = report(3, 2, 2, Standing::Fresh)
    else {
        unreachable!()
    };
    other.seed = SeedHash([1; 32]);
    let message = Message::Report(other);
    let told = reasons(&mut fresh, [Event::Received { from, message }]);
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let expected = vec![
        (SeedHash([1; 32]), names(&["m3"])),
        (SEED, names(&["m1", "m2"])),
    ];
    assert_eq!(differ(&told), Some(expected));
}

#[test]
fn etcd_starts_when_a_majority_holds_go_marker_first() {
    let one = plan(1);
    let mut follower = node(Setup {
        state: state(&[&one], Some(&one), None),
        ..setup(2)
    });
    assert_eq!(
        records(&follower.step(NOW, report(3, 1, 2, founding(&one, false)))),
        []
    );
    let marker = follower.step(NOW, report(3, 2, 2, founding(&one, true)));
    assert!(matches!(records(&marker).as_slice(), [Record::Marker(_)]));
    let started = follower.step(NOW, Event::Persisted);
    assert!(matches!(
        records(&started).as_slice(),
        [Record::Started(Started {
            confirmed: false,
            ..
        })]
    ));
    let actions = follower.step(NOW, Event::Persisted);
    assert!(actions.contains(&Action::StartEtcd {
        plan: one,
        start: EtcdStart::New
    }));
    let confirmed = follower.step(NOW, Event::EtcdServed);
    assert!(matches!(
        records(&confirmed).as_slice(),
        [Record::Started(Started {
            confirmed: true,
            ..
        })]
    ));
}

/// What each combination of records means.
#[test]
fn disks_are_judged_by_both_witnesses() {
    let one = plan(1);
    let own = Some((CLUSTER, 2));
    let foreign = Some((ClusterId([1; 16]), 2));
    let started = |confirmed| state(&[&one], Some(&one), Some(("uuid", confirmed)));
    let gone = || state(&[&one], Some(&one), None);
    let planned = || state(&[&one], None, None);
    let cases = [
        (state(&[], None, None), etcd(None, false), Phase::Fresh),
        (state(&[], None, None), etcd(None, true), Phase::Amnesiac),
        (state(&[], None, None), etcd(own, false), Phase::Amnesiac),
        (planned(), etcd(None, false), Phase::Founding),
        (planned(), etcd(own, false), Phase::Amnesiac),
        (planned(), etcd(None, true), Phase::Amnesiac),
        (gone(), etcd(None, false), Phase::Founding),
        (gone(), etcd(own, false), Phase::Founding),
        (gone(), etcd(foreign, false), Phase::Amnesiac),
        (gone(), etcd(Some((CLUSTER, 3)), false), Phase::Amnesiac),
        (gone(), etcd(own, true), Phase::Amnesiac),
        (started(false), etcd(own, false), Phase::Member),
        (started(false), etcd(own, true), Phase::Member),
        (started(false), etcd(None, false), Phase::Amnesiac),
        (started(false), etcd(None, true), Phase::Amnesiac),
        (started(true), etcd(own, true), Phase::Member),
        (started(true), etcd(own, false), Phase::Amnesiac),
        (started(true), etcd(foreign, true), Phase::Amnesiac),
        (
            state(&[&one], Some(&one), Some(("other", false))),
            etcd(own, true),
            Phase::Amnesiac,
        ),
        (
            state(&[], Some(&one), None),
            etcd(None, false),
            Phase::Unknown,
        ),
        (
            state(&[&one], None, Some(("uuid", false))),
            etcd(own, true),
            Phase::Unknown,
        ),
        (
            StateHoldings::Unknown("gone".into()),
            etcd(None, false),
            Phase::Unknown,
        ),
        (gone(), EtcdHoldings::Unknown("gone".into()), Phase::Unknown),
    ];
    for (state, etcd, phase) in cases {
        let setup = Setup {
            state: state.clone(),
            etcd: etcd.clone(),
            ..setup(2)
        };
        let status = Formation::new(setup).status(NOW);
        assert_eq!(status.phase, phase, "{state:?} {etcd:?}");
        if matches!(phase, Phase::Amnesiac | Phase::Unknown) {
            assert!(!status.reasons[0].to_string().is_empty());
        }
    }
}

#[test]
fn an_amnesiac_or_unknown_node_starts_nothing_and_acknowledges_nothing() {
    let one = plan(1);
    for etcd in [etcd(None, false), EtcdHoldings::Unknown("gone".into())] {
        let mut node = node(Setup {
            state: state(&[&one], Some(&one), Some(("uuid", true))),
            etcd,
            ..setup(2)
        });
        assert!(!acknowledges(&mut node, sender(1), &plan(2)));
        let actions = node.step(NOW, report(1, 1, 2, Standing::Member { plan: one.name() }));
        assert!(
            !actions
                .iter()
                .any(|action| matches!(action, Action::StartEtcd { .. }))
        );
        // Others may still learn from it that go was given.
        assert_eq!(node.standing().holds_go(), Some(one.hash()));
    }
}

#[test]
fn a_list_of_several_needs_a_disk_and_a_list_of_one_does_not() {
    let in_memory = Setup {
        durable: false,
        ..setup(2)
    };
    let status = Formation::new(in_memory.clone()).status(NOW);
    assert_eq!(
        (status.phase, &status.reasons[0]),
        (Phase::Unknown, &Reason::NoDisk)
    );
    let mut alone = Formation::new(Setup {
        masters: vec![master(2)],
        ..in_memory
    });
    let actions = alone.step(NOW, Event::Woken);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::MakePlan { .. }))
    );
}

#[test]
fn go_that_failed_to_be_written_is_repeated_before_anything_else() {
    let one = plan(1);
    let mut follower = node(Setup {
        state: state(&[&one], None, None),
        ..setup(2)
    });
    follower.step(NOW, report(3, 1, 2, founding(&one, true)));
    let error = "no space".to_owned();
    let failed = follower.step(NOW, Event::PersistFailed { error });
    assert_eq!(records(&failed), []);
    assert_eq!(follower.standing(), founding(&one, false));
    assert!(!acknowledges(&mut follower, sender(1), &plan(2)));
    let later = NOW + std::time::Duration::from_secs(1);
    let again = follower.step(later, Event::Woken);
    assert_eq!(records(&again), [Record::Go(one.hash())]);
    follower.step(later, Event::Persisted);
    assert_eq!(follower.standing(), founding(&one, true));
}

#[test]
fn a_plan_that_failed_to_be_written_is_not_acknowledged_before_it_comes_again() {
    let mut follower = node(setup(2));
    assert!(acknowledges(&mut follower, sender(1), &plan(1)));
    let error = "no space".to_owned();
    follower.step(NOW, Event::PersistFailed { error });
    assert_eq!(follower.standing(), Standing::Fresh);
    assert!(!acknowledges(&mut follower, sender(1), &plan(1)), "a pause");
    let later = NOW + std::time::Duration::from_secs(1);
    assert_eq!(records(&follower.step(later, Event::Woken)), []);
    assert!(acknowledges(&mut follower, sender(1), &plan(1)));
}

#[test]
fn a_lost_volume_ends_everything_until_the_next_start() {
    let mut follower = node(setup(2));
    let lost = Event::VolumeLost {
        volume: Volume::Etcd,
        error: "gone".into(),
    };
    follower.step(NOW, lost);
    assert_eq!(follower.standing(), Standing::Unknown { holds_go: None });
    assert!(!acknowledges(&mut follower, sender(1), &plan(1)));
}

#[test]
fn only_listed_addresses_count_and_guests_are_answered() {
    let question = |name: &str, from: Sender| Event::Received {
        from,
        message: Message::Report(Report {
            name: name.into(),
            machine_id: MachineId([5; 16]),
            session: 50,
            sequence: 1,
            echo: None,
            question: true,
            seed: SeedHash([1; 32]),
            standing: Standing::Fresh,
        }),
    };
    let answers = |event| {
        let actions = node(setup(2)).step(NOW, event);
        let is_answer = |action: &&Action| matches!(action, Action::Send { to, .. } if to.key == Some(KeyFingerprint([5; 32])));
        actions.iter().filter(is_answer).count()
    };
    assert_eq!(answers(question("m5", sender(5))), 1);
    assert_eq!(answers(question("m3", sender(5))), 0, "a wrong address");
}

#[test]
fn an_operator_must_name_the_cluster_and_listed_masters() {
    let answer = |names: &[&str], cluster: &str| {
        let names: BTreeSet<String> = names.iter().map(|&name| name.into()).collect();
        let cluster = cluster.to_owned();
        let mut planner = node(setup(1));
        planner.step(NOW, report(2, 1, 1, Standing::Fresh));
        let actions = planner.step(NOW, Event::FoundWithout { names, cluster });
        actions.into_iter().find_map(|action| match action {
            Action::Answer(answer) => Some(answer.map_err(|error| error.to_string())),
            _ => None,
        })
    };
    assert_eq!(answer(&["m3"], "prod"), Some(Ok(())));
    for (names, cluster, part) in [
        (&["m3"][..], "test", "`prod`, not `test`"),
        (&[][..], "prod", "at least one"),
        (&["m9"][..], "prod", "does not list m9"),
        (&["m1"][..], "prod", "only m2 can"),
        (&["m2"][..], "prod", "m3 must answer"),
    ] {
        let error = answer(names, cluster).unwrap().unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn messages_go_there_and_back_and_newer_ones_are_read_when_they_allow_it() {
    let one = plan(1);
    let Event::Received { message, .. } = report(2, 1, 1, founding(&one, true)) else {
        unreachable!("it is a report");
    };
    for message in [message, Message::Plan(Arc::clone(&one))] {
        assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        let mut newer: serde_json::Value = serde_json::from_slice(&message.encode()).unwrap();
        newer["format"] = 7.into();
        newer["more"] = "of it".into();
        assert_eq!(
            Message::decode(newer.to_string().as_bytes()).unwrap(),
            message
        );
        newer["oldest_format"] = 7.into();
        assert!(matches!(
            Message::decode(newer.to_string().as_bytes()),
            Err(InvalidMessage::TooNew { oldest: 7 })
        ));
    }
    let mut unknown: serde_json::Value = serde_json::from_slice(
        &Message::Report(Report {
            standing: Standing::Fresh,
            ..report_of(2)
        })
        .encode(),
    )
    .unwrap();
    unknown["standing"]["state"] = "joining".into();
    let Message::Report(report) = Message::decode(unknown.to_string().as_bytes()).unwrap() else {
        panic!("it is a report");
    };
    assert_eq!(report.standing, Standing::Newer);
}

fn report_of(from: u8) -> Report {
    let Event::Received {
        message: Message::Report(report),
        ..
    } = report(from, 1, 1, Standing::Fresh)
    else {
        unreachable!("it is a report");
    };
    report
}

#[test]
fn a_plans_unknown_fields_survive_and_contradictions_are_refused() {
    let mut newer: serde_json::Value = serde_json::from_slice(plan(1).bytes()).unwrap();
    newer["format"] = 2.into();
    newer["later"] = "field".into();
    let bytes = newer.to_string().into_bytes();
    let read = Arc::new(Plan::read(bytes.clone()).unwrap());
    assert_eq!(read.bytes(), bytes);
    assert_ne!(read.hash(), plan(1).hash());
    let stored = Plan::from_record(&Record::Plan(Arc::clone(&read)).bytes()).unwrap();
    assert_eq!(stored, *read);
    newer["oldest_format"] = 2.into();
    assert!(matches!(
        Plan::read(newer.to_string().into_bytes()),
        Err(InvalidPlan::TooNew { oldest: 2 })
    ));
    let contradicts = |change: &dyn Fn(&mut PlanDocument)| {
        let mut document = document(1);
        change(&mut document);
        matches!(Plan::write(&document), Err(InvalidPlan::Contradiction(_)))
    };
    assert!(!contradicts(&|_| {}));
    assert!(contradicts(&|plan| plan.generation = 0));
    assert!(contradicts(&|plan| plan.members.clear()));
    assert!(contradicts(&|plan| plan.members.swap(0, 1)));
    assert!(contradicts(&|plan| plan.excluded = vec!["m1".into()]));
    assert!(contradicts(
        &|plan| plan.members[2].machine_id = plan.members[1].machine_id
    ));
    assert!(contradicts(
        &|plan| plan.members[2].key = plan.members[1].key
    ));
    assert!(contradicts(&|plan| plan.members[2].name = "m1".into()));
}

#[test]
fn a_flipped_bit_in_any_record_is_damage() {
    let bytes = Record::Plan(plan(1)).bytes();
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 4;
        assert!(Plan::from_record(&damaged).is_err(), "byte {index}");
        assert!(
            Plan::from_record(&bytes[..index]).is_err(),
            "cut at {index}"
        );
    }
    assert!(Plan::from_record(&bytes).is_ok());
}

#[test]
fn quorums_count_those_that_were_left_out() {
    let counts = |members: &[u8], excluded: &[&str]| {
        let plan = plan_of(&PlanDocument {
            members: members.iter().copied().map(member).collect(),
            excluded: excluded.iter().map(|&name| name.into()).collect(),
            ..document(1)
        });
        (plan.quorum(), plan.starters())
    };
    assert_eq!(counts(&[1], &[]), (1, 1));
    assert_eq!(counts(&[1, 2], &[]), (2, 2));
    assert_eq!(counts(&[1, 2, 3], &[]), (2, 2));
    assert_eq!(counts(&[1, 2, 3, 4], &[]), (3, 3));
    assert_eq!(counts(&[1, 2, 3], &["m4", "m5"]), (2, 3));
}
