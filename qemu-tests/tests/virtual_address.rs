//! The virtual address of three masters in namespaces, at real constants: whatever happens to its owner, clients go on, nothing that was
//! acknowledged is lost, and on the wire nobody answers for it but its owner.

#[path = "support/address.rs"]
mod address;
#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::time::Duration;

use address::{
    Leader::{Elsewhere, WithOwner},
    Story,
    Then::{IsTaken, Moves, Stays},
};
use fixture::{Fixture, SERVICES, other_init};
use masters::{THREE, bring_back, formed, node};
use masthead_lab::{
    partition::Direction,
    plan::DiskRole,
    provider::{DiskCondition, Link, ProviderKind, Signal},
};

/// The story that a gate must hold against: nobody is there to close it.
const STOPPED: &str = "supervisor and PID 1 of the owner stopped";

const SECOND: Duration = Duration::from_secs(1);

/// One story after the other on one cluster; only those whose name has the words of the environment's `MASTHEAD_STORY` in it, if there
/// are any.
#[test]
fn the_address_has_one_owner_at_a_time_and_clients_go_on() {
    let fixture = formed(3);
    let words = std::env::var("MASTHEAD_STORY").unwrap_or_default();
    for story in stories()
        .into_iter()
        .filter(|story| story.name.contains(&words))
    {
        let gap = story.tell(&fixture);
        println!("{}: {} ms without a write", story.name, gap.as_millis());
    }
}

/// In a build whose gate has no time, the owner answers on while another one has the address.
#[test]
fn a_gate_without_time_has_two_owners() {
    let fixture = Fixture::off(ProviderKind::Namespace, |plan, folder| {
        let init = env!("CARGO_BIN_EXE_init-without-gate");
        plan.masters = 3;
        plan.root_changes = Some(other_init(folder, init));
    });
    bring_back(&fixture);
    let story = stories()
        .into_iter()
        .find(|story| story.name == STOPPED)
        .expect("that story");
    println!("{STOPPED}: {}", story.tell_of_two_owners(&fixture));
}

fn stories() -> Vec<Story> {
    let story = |name, leader, happens, is_undone, then, seconds: u32| Story {
        name,
        leader,
        happens,
        is_undone,
        then,
        bound: SECOND * seconds,
    };
    vec![
        story(
            "power cut of the owner",
            Elsewhere,
            |it, owner, _| cut(it, owner),
            |it, owner, _| on(it, owner),
            Moves,
            5,
        ),
        story(
            "power cut of etcd's leader",
            Elsewhere,
            |it, _, leader| cut(it, leader),
            |it, _, leader| on(it, leader),
            Stays,
            10,
        ),
        story(
            "power cut of both in one",
            WithOwner,
            |it, owner, _| cut(it, owner),
            |it, owner, _| on(it, owner),
            Moves,
            12,
        ),
        story(
            "cable of the owner",
            Elsewhere,
            |it, owner, _| link(it, owner, Link::Down),
            |it, owner, _| link(it, owner, Link::Up),
            Moves,
            5,
        ),
        story(
            "owner cut off from the others",
            Elsewhere,
            |it, owner, _| split(it, owner, Direction::Both),
            heal,
            Moves,
            5,
        ),
        story(
            "owner that nobody hears",
            Elsewhere,
            |it, owner, _| split(it, owner, Direction::Mute),
            heal,
            Moves,
            5,
        ),
        story(
            "owner that hears nobody",
            Elsewhere,
            |it, owner, _| split(it, owner, Direction::Deaf),
            heal,
            Moves,
            5,
        ),
        story(
            "etcd of the owner killed",
            Elsewhere,
            |it, owner, _| send(it, owner, "etcd", Signal::Kill),
            nothing,
            IsTaken,
            5,
        ),
        story(
            "etcd of the owner stopped",
            Elsewhere,
            |it, owner, _| send(it, owner, "etcd", Signal::Stop),
            |it, owner, _| send(it, owner, "etcd", Signal::Continue),
            Moves,
            5,
        ),
        story(
            "apiserver of the owner killed",
            Elsewhere,
            |it, owner, _| send(it, owner, "kube-apiserver", Signal::Kill),
            nothing,
            IsTaken,
            10,
        ),
        story(
            "apiserver of the owner stopped",
            Elsewhere,
            |it, owner, _| send(it, owner, "kube-apiserver", Signal::Stop),
            |it, owner, _| send(it, owner, "kube-apiserver", Signal::Continue),
            Moves,
            5,
        ),
        story(
            "supervisor of the owner killed",
            Elsewhere,
            |it, owner, _| send(it, owner, "supervisor", Signal::Kill),
            nothing,
            IsTaken,
            5,
        ),
        story(
            "supervisor of the owner stopped",
            Elsewhere,
            |it, owner, _| send(it, owner, "supervisor", Signal::Stop),
            nothing,
            Moves,
            5,
        ),
        story(
            STOPPED,
            Elsewhere,
            |it, owner, _| send_all(it, owner, &["init", "supervisor"], Signal::Stop),
            |it, owner, _| send_all(it, owner, &["supervisor", "init"], Signal::Continue),
            Moves,
            5,
        ),
        story(
            "the whole owner stopped",
            Elsewhere,
            |it, owner, _| send_to_node(it, owner, Signal::Stop),
            |it, owner, _| send_to_node(it, owner, Signal::Continue),
            Moves,
            5,
        ),
        story(
            "disk of the owner's etcd stalled",
            Elsewhere,
            |it, owner, _| stall(it, owner, DiskCondition::Stalled),
            |it, owner, _| stall(it, owner, DiskCondition::Healthy),
            Moves,
            5,
        ),
    ]
}

fn cut(fixture: &Fixture, name: &str) {
    fixture.expect(node(fixture, name).cut_power());
}

fn on(fixture: &Fixture, name: &str) {
    fixture.expect(node(fixture, name).power_on());
}

fn link(fixture: &Fixture, name: &str, link: Link) {
    fixture.expect(node(fixture, name).set_link(link));
}

fn split(fixture: &Fixture, owner: &str, direction: Direction) {
    let group = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    let others = THREE.into_iter().filter(|name| *name != owner);
    let groups = [group(vec![owner]), group(others.collect())];
    fixture.expect(fixture.cluster.partition(&groups, direction));
}

fn heal(fixture: &Fixture, _: &str, _: &str) {
    fixture.expect(fixture.cluster.heal());
}

fn nothing(_: &Fixture, _: &str, _: &str) {}

fn send(fixture: &Fixture, name: &str, service: &str, signal: Signal) {
    fixture.expect(node(fixture, name).signal(service, signal));
}

fn send_all(fixture: &Fixture, name: &str, services: &[&str], signal: Signal) {
    for service in services {
        send(fixture, name, service, signal);
    }
}

fn send_to_node(fixture: &Fixture, name: &str, signal: Signal) {
    let all = [&["init", "supervisor"][..], &SERVICES].concat();
    send_all(fixture, name, &all, signal);
}

fn stall(fixture: &Fixture, name: &str, condition: DiskCondition) {
    fixture.expect(node(fixture, name).set_disk(DiskRole::Etcd, condition));
}
