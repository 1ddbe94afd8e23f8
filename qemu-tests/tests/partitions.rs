//! A wire that is cut between three masters, in both directions or in one: the cut off master acknowledges nothing,
//! the others go on, and all of it heals by itself.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::collections::BTreeSet;

use fixture::Fixture;
use load::{Load, nothing_is_lost};
use masters::{
    A_MINUTE, THREE, availability_by, clusters, formed, others, wait_for_leader, wait_for_voters,
};
use masthead_lab::{partition::Direction, patience::Look};

/// etcd's leader is cut off, which costs an election; clients reach it, and all others, all the while.
#[test]
fn a_master_that_is_cut_off_acknowledges_nothing() {
    let fixture = formed(3);
    let one = clusters(&fixture, &THREE);
    for direction in [Direction::Both, Direction::Mute, Direction::Deaf] {
        wait_for_voters(&fixture, &THREE, 3);
        let leader = wait_for_leader(&fixture);
        let others = others(&leader);
        let (own, contended) = (Load::through(&fixture, &THREE), Load::contending(&fixture));
        let groups = [
            BTreeSet::from([leader.clone()]),
            others.iter().map(|name| (*name).to_owned()).collect(),
        ];
        fixture.expect(fixture.cluster.partition(&groups, direction));
        own.goes_on_through(&others);
        // An answer that was on its way has arrived since.
        let acknowledged =
            || own.acknowledged_through(&leader) + contended.acknowledged_through(&leader);
        let before = acknowledged();
        wait_for_word_of_the_cut(&fixture, &leader);
        own.goes_on_through(&others);
        assert_eq!(acknowledged(), before, "{leader} has no majority");

        fixture.expect(fixture.cluster.heal());
        own.goes_on();
        wait_for_voters(&fixture, &THREE, 3);
        fixture.expect(fixture.cluster.wait_until_ready());
        nothing_is_lost(&fixture, &own.stop());
        nothing_is_lost(&fixture, &contended.stop());
        assert_eq!(clusters(&fixture, &THREE), one);
    }
}

/// Waits until the master that is cut off says that nobody leads, and the others that they survive nothing more.
fn wait_for_word_of_the_cut(fixture: &Fixture, victim: &str) {
    fixture.wait_until(&format!("{victim} to know no leader"), A_MINUTE, || {
        let told = availability_by(fixture, victim);
        let alone = told["leader"].is_null() && told["spare"].as_i64() < Some(0);
        Look::at(alone, || told.to_string())
    });
    for other in others(victim) {
        fixture.wait_until(&format!("{other} to miss {victim}"), A_MINUTE, || {
            let told = availability_by(fixture, other);
            let missed =
                told["spare"] == 0 && told["leader"].is_string() && told["leader"] != victim;
            Look::at(missed, || told.to_string())
        });
    }
}
