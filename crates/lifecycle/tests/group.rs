//! What leads from one service to another.

use std::time::Duration;

use masthead_lifecycle::{
    Action, Event, Exit, Group, GroupAction, GroupError, GroupEvent, Phase, Policy, Process,
    ServiceName,
};
use masthead_machine::{BootTime, Machine, Wakes};

fn at(seconds: u64) -> BootTime {
    BootTime::from_boot(Duration::from_secs(seconds))
}

fn names(names: &[&str]) -> Vec<ServiceName> {
    names.iter().map(|&name| name.into()).collect()
}

fn service(name: &str, after: &[&str], needs: &[&str]) -> (ServiceName, Policy) {
    (
        name.into(),
        Policy {
            after: names(after),
            needs: names(needs),
            ..Policy::default()
        },
    )
}

/// Steps, and returns what is asked for as `NAME ACTION`, without looks into leaves and notes.
fn step(group: &mut Group, seconds: u64, event: GroupEvent) -> Vec<String> {
    group
        .step(at(seconds), event)
        .into_iter()
        .filter_map(|action| match action {
            GroupAction::Service(_, Action::Note(_)) | GroupAction::WakeAt(_) => None,
            GroupAction::Service(name, Action::Start) => Some(format!("{name} start")),
            GroupAction::Service(name, Action::Examine) => Some(format!("{name} examine")),
            GroupAction::Service(name, Action::Terminate { .. }) => Some(format!("{name} end")),
            GroupAction::Service(name, action) => Some(format!("{name} {action:?}")),
            GroupAction::AllStopped => Some("all stopped".to_owned()),
        })
        .collect()
}

fn tell(group: &mut Group, name: &str, event: Event) -> Vec<String> {
    step(group, 100, GroupEvent::Service(name.into(), event))
}

fn process(name: &str) -> Process {
    Process {
        pid: u32::try_from(name.len()).expect("short"),
        start_time: 1,
    }
}

fn run(group: &mut Group, name: &str) -> Vec<String> {
    tell(
        group,
        name,
        Event::Started {
            process: process(name),
        },
    )
}

fn end(group: &mut Group, name: &str) -> Vec<String> {
    let mut actions = tell(
        group,
        name,
        Event::Exited {
            process: process(name),
            exit: Exit::Code(0),
        },
    );
    actions.extend(tell(group, name, Event::LeafEmpty));
    actions
}

/// A store, a server that needs it, and two clients that wait for the server.
fn master() -> Group {
    let services = [
        service("store", &[], &[]),
        service("server", &[], &["store"]),
        service("client", &["server"], &[]),
        service("other client", &["server"], &[]),
    ];
    let mut group = Group::new(services, 1).expect("they fit");
    let all = ["store", "server", "client", "other client"];
    let looks = all.map(|name| format!("{name} examine"));
    assert_eq!(step(&mut group, 100, GroupEvent::Woken), looks);
    group
}

fn running() -> Group {
    let mut group = master();
    for name in ["store", "server", "client", "other client"] {
        tell(&mut group, name, Event::LeafEmpty);
    }
    for name in ["store", "server", "client", "other client"] {
        run(&mut group, name);
    }
    assert!(group.services().all(masthead_lifecycle::Service::is_ready));
    group
}

#[test]
fn starts_in_parallel_what_need_not_wait() {
    let mut group = master();
    assert_eq!(tell(&mut group, "store", Event::LeafEmpty), ["store start"]);
    assert_eq!(
        tell(&mut group, "server", Event::LeafEmpty),
        ["server start"]
    );
    for name in ["client", "other client"] {
        assert_eq!(tell(&mut group, name, Event::LeafEmpty), [""; 0]);
    }
    assert_eq!(
        run(&mut group, "server"),
        ["client start", "other client start"]
    );
    assert_eq!(run(&mut group, "client"), [""; 0]);
}

#[test]
fn readiness_is_told_also_to_one_that_asks_later() {
    let mut group = master();
    tell(&mut group, "server", Event::LeafEmpty);
    run(&mut group, "server");
    assert_eq!(
        tell(&mut group, "client", Event::LeafEmpty),
        ["client start"]
    );
}

#[test]
fn a_death_concerns_nobody_else() {
    let mut group = running();
    assert_eq!(
        end(&mut group, "server"),
        ["server examine", "server start"]
    );
    assert_eq!(
        group
            .services()
            .filter(|service| service.is_ready())
            .count(),
        3
    );
}

#[test]
fn stops_each_before_those_that_it_needs() {
    let mut group = running();
    assert!(!group.is_stopping());
    assert_eq!(
        step(&mut group, 100, GroupEvent::StopAll),
        ["client end", "other client end"]
    );
    assert!(group.is_stopping());
    assert_eq!(end(&mut group, "client"), ["client examine"]);
    assert_eq!(
        end(&mut group, "other client"),
        ["other client examine", "server end"]
    );
    // The operator's word does not bring anything back.
    assert_eq!(tell(&mut group, "client", Event::RunRequested), [""; 0]);
    assert_eq!(tell(&mut group, "store", Event::RestartRequested), [""; 0]);
    assert_eq!(end(&mut group, "server"), ["server examine", "store end"]);
    assert_eq!(end(&mut group, "store"), ["store examine", "all stopped"]);
    assert_eq!(
        step(&mut group, 200, GroupEvent::StopAll),
        [""; 0],
        "said once"
    );
    let phases: Vec<Phase> = group.stories().iter().map(|story| story.phase).collect();
    assert_eq!(phases, [Phase::Stopped; 4]);
}

#[test]
fn what_does_not_run_is_stopped_in_one_step() {
    let mut group = master();
    for name in ["client", "other client"] {
        tell(&mut group, name, Event::LeafEmpty);
    }
    tell(&mut group, "store", Event::StopRequested);
    tell(&mut group, "store", Event::LeafEmpty);
    tell(&mut group, "server", Event::StopRequested);
    tell(&mut group, "server", Event::LeafEmpty);
    assert_eq!(step(&mut group, 100, GroupEvent::StopAll), ["all stopped"]);
}

#[test]
fn wakes_at_the_earliest_deadline_and_only_whom_it_concerns() {
    let mut group = Group::new([service("a", &[], &[]), service("b", &[], &[])], 1).expect("fits");
    let deadline = |actions: Vec<GroupAction>| {
        let deadlines: Vec<_> = actions.iter().filter_map(Wakes::wake_at).collect();
        assert!(deadlines.len() <= 1, "{deadlines:?}");
        deadlines.first().copied()
    };
    group.step(at(10), GroupEvent::Woken);
    let patience = Policy::default().patience.as_secs();
    let actions = group.step(at(12), GroupEvent::Service("a".into(), Event::LeafEmpty));
    assert_eq!(deadline(actions), Some(at(10 + patience)), "that of b");
    assert_eq!(
        step(&mut group, 10 + patience, GroupEvent::Woken),
        ["b examine"]
    );
    tell(
        &mut group,
        "a",
        Event::Started {
            process: process("a"),
        },
    );
    tell(&mut group, "b", Event::LeafEmpty);
    let started = Event::Started {
        process: process("b"),
    };
    let actions = group.step(at(200), GroupEvent::Service("b".into(), started));
    assert_eq!(deadline(actions), None, "both run, without probes");
    assert_eq!(tell(&mut group, "c", Event::LeafEmpty), [""; 0], "nobody");
}

#[test]
fn refuses_services_that_do_not_fit() {
    let group = |services: &[(ServiceName, Policy)]| Group::new(services.to_vec(), 1).err();
    let two = [service("a", &[], &[]), service("a", &[], &[])];
    assert_eq!(group(&two), Some(GroupError::Duplicate("a".into())));
    for unknown in [service("a", &["x"], &[]), service("a", &[], &["x"])] {
        let expected = GroupError::Unknown {
            service: "a".into(),
            needs: "x".into(),
        };
        assert_eq!(group(&[unknown]), Some(expected));
    }
    let circle = [
        service("z", &[], &[]),
        service("a", &["b"], &[]),
        service("b", &[], &["a"]),
    ];
    assert_eq!(group(&circle), Some(GroupError::Circle("a".into())));
    assert_eq!(
        group(&[service("a", &[], &["a"])]),
        Some(GroupError::Circle("a".into()))
    );
}
