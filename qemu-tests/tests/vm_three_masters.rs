//! Three masters on machines: the real kernel, the real disks and the real network of each. What takes native speed is
//! tested in namespaces; this shows that the machines do the same.

#[path = "support/address.rs"]
mod address;
#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::collections::BTreeSet;

use address::wait_for_owner;
use fixture::Fixture;
use load::Load;
use masters::{A_MINUTE, THREE, availability, bring_back, node, others, wait_for_voters};
use masthead_lab::{
    partition::Direction,
    patience::Look,
    provider::{Link, ProviderKind},
    witness::Witness,
};

/// They found a cluster from blank disks; then etcd's leader has its power cut, and the next one its cable pulled, under
/// load through the others.
#[test]
#[ignore = "a quarter of an hour where machines are emulated; make soak runs it"]
fn three_machines_found_a_cluster_that_survives_a_power_cut_and_a_pulled_cable() {
    let fixture = Fixture::off(ProviderKind::Vm, |plan, _| plan.masters = 3);
    bring_back(&fixture);
    wait_for_voters(&fixture, &THREE, 3);
    let one = clusters(&fixture);
    assert_eq!(one.len(), 1, "{one:?}");

    let victim = leader(&fixture);
    let machine = node(&fixture, &victim);
    Load::unhurried(&fixture, &others(&victim)).survives(
        || fixture.expect(machine.cut_power()),
        || fixture.expect(machine.power_on()),
    );

    let victim = leader(&fixture);
    let link = |link| fixture.expect(node(&fixture, &victim).set_link(link));
    Load::unhurried(&fixture, &others(&victim)).survives(|| link(Link::Down), || link(Link::Up));
    assert_eq!(clusters(&fixture), one);

    the_address_has_one_owner_at_a_time(&fixture);
}

/// The kernels, clocks and cards are each machine's own here: its power is cut, its cable pulled, and it is cut off, and whoever follows is heard on
/// the wire alone.
fn the_address_has_one_owner_at_a_time(fixture: &Fixture) {
    let witness = fixture.expect(Witness::begin(&fixture.cluster));
    for (happens, is_undone) in DEATHS {
        wait_for_voters(fixture, &THREE, 3);
        let owner = wait_for_owner(fixture).owner.expect("an owner");
        happens(fixture, &owner);
        fixture.wait_until("another owner on the wire", A_MINUTE, || {
            let now = witness.owner();
            let moved = now.as_ref().is_some_and(|now| *now != owner);
            Look::at(moved, || format!("{now:?}"))
        });
        is_undone(fixture, &owner);
        wait_for_voters(fixture, &THREE, 3);
        fixture.expect(fixture.cluster.wait_until_ready());
    }
    let reigns = witness.end(&fixture.cluster);
    let reigns = reigns.unwrap_or_else(|why| panic!("{why}"));
    assert!(reigns.len() > DEATHS.len(), "{reigns:#?}");
}

/// What happens to an owner, and how it is undone.
type Death = (fn(&Fixture, &str), fn(&Fixture, &str));

const DEATHS: [Death; 3] = [
    (
        |it, owner| it.expect(node(it, owner).cut_power()),
        |it, owner| it.expect(node(it, owner).power_on()),
    ),
    (
        |it, owner| it.expect(node(it, owner).set_link(Link::Down)),
        |it, owner| it.expect(node(it, owner).set_link(Link::Up)),
    ),
    (
        |it, owner| {
            let group = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            let groups = [group(vec![owner]), group(others(owner))];
            it.expect(it.cluster.partition(&groups, Direction::Both));
        },
        |it, _| it.expect(it.cluster.heal()),
    ),
];

fn leader(fixture: &Fixture) -> String {
    let told = availability(fixture);
    told["leader"].as_str().expect("a leader").to_owned()
}

/// The clusters that the masters say they belong to.
fn clusters(fixture: &Fixture) -> BTreeSet<String> {
    let id = |name| fixture.expect(fixture.status_of(name))["cluster"]["id"].to_string();
    THREE.into_iter().map(id).collect()
}
