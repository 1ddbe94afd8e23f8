//! Three masters on machines: the real kernel, the real disks and the real network of each. What takes native speed is
//! tested in namespaces; this shows that the machines do the same.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::collections::BTreeSet;

use fixture::Fixture;
use load::Load;
use masters::{THREE, availability, bring_back, node, others, wait_for_voters};
use masthead_lab::provider::{Link, ProviderKind};

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
}

fn leader(fixture: &Fixture) -> String {
    let told = availability(fixture);
    told["leader"].as_str().expect("a leader").to_owned()
}

/// The clusters that the masters say they belong to.
fn clusters(fixture: &Fixture) -> BTreeSet<String> {
    let id = |name| fixture.expect(fixture.status_of(name))["cluster"]["id"].to_string();
    THREE.into_iter().map(id).collect()
}
