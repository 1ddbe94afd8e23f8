//! The power of all three masters goes at once, at random moments of formation and of load, and comes back: one
//! cluster, and nothing that was acknowledged is lost.
//!
//! The moments follow from a number that is printed; `MASTHEAD_SEED` sets it.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::{
    env, thread,
    time::{Duration, Instant, SystemTime},
};

use fixture::{Fixture, etcd_without_fsync};
use load::{Load, nothing_is_lost};
use masters::{THREE, bring_back, clusters, cut_all, formed, off, wait_for_voters};
use masthead_lab::{patience::Look, writers::Written};
use masthead_machine::Random;

#[test]
fn power_cuts_of_all_at_random_moments_lose_nothing() {
    let mut random = random();
    let (fixture, formation) = formed_in();
    cut_under_load(&fixture, 2, &mut random);
    drop(fixture);
    cut_while_founding(2, formation, &mut random);
}

/// Twenty of them.
#[test]
#[ignore = "some minutes; make soak runs it"]
fn twenty_power_cuts_of_all_at_random_moments_lose_nothing() {
    let mut random = random();
    let (mut fixture, formation) = formed_in();
    cut_under_load(&fixture, 5, &mut random);
    for _ in 0..3 {
        fixture = cut_while_founding(2, formation, &mut random);
        cut_under_load(&fixture, 3, &mut random);
    }
}

/// The source of all that is left to chance, from `MASTHEAD_SEED` or the clock.
fn random() -> Random {
    let seed = match env::var("MASTHEAD_SEED") {
        Ok(text) => text.parse().expect("MASTHEAD_SEED is a number"),
        Err(_) => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("a clock")
            .as_secs(),
    };
    println!("MASTHEAD_SEED={seed}");
    Random::new(seed)
}

/// Three masters, and how long they have taken here from the making of their disks to a cluster.
fn formed_in() -> (Fixture, Duration) {
    let started = Instant::now();
    let fixture = formed(3);
    wait_for_voters(&fixture, &THREE, 3);
    (fixture, started.elapsed())
}

/// Cuts the power of all while they found their cluster, and again while they go on with it.
fn cut_while_founding(cuts: u32, formation: Duration, random: &mut Random) -> Fixture {
    let fixture = off(3);
    for _ in 0..cuts {
        let moment = random.up_to(formation);
        println!("all cut {moment:?} after power on");
        fixture.expect(fixture.cluster.power_on());
        // Not a condition: at whatever moment that is.
        thread::sleep(moment);
        cut_all(&fixture);
    }
    bring_back(&fixture);
    wait_for_voters(&fixture, &THREE, 3);
    let one = clusters(&fixture, &THREE);
    assert_eq!(one.len(), 1, "{one:?}");
    fixture
}

fn cut_under_load(fixture: &Fixture, cuts: u32, random: &mut Random) {
    let one = clusters(fixture, &THREE);
    for _ in 0..cuts {
        let enough = 100 + random.below(400);
        println!("all cut after {enough} writes");
        let written = write_and_cut_all(fixture, enough);
        bring_back(fixture);
        nothing_is_lost(fixture, &written);
        assert_eq!(clusters(fixture, &THREE), one);
    }
}

/// Writes through all masters, and cuts the power of all when `enough` writes are acknowledged.
fn write_and_cut_all(fixture: &Fixture, enough: u64) -> Written {
    let load = Load::through(fixture, &THREE);
    load.reaches(usize::try_from(enough).expect("a few hundred"));
    cut_all(fixture);
    load.stop()
}

/// The positive control: the tests above can see a loss.
#[test]
fn a_power_cut_of_all_masters_that_do_not_flush_loses_writes() {
    let fixture = Fixture::ready_with(|plan, folder| {
        plan.masters = 3;
        plan.root_changes = Some(etcd_without_fsync(folder));
    });
    let written = write_and_cut_all(&fixture, 200);
    fixture.expect(fixture.cluster.power_on());
    // A master whose etcd has lost the beginning of its log does not come back: it has lost everything.
    let ready =
        fixture
            .patience()
            .wait_until("all masters to be back", Duration::from_secs(20), || {
                let nodes = fixture.cluster.look_at_all();
                Look::at(nodes.iter().all(|node| node.ready), String::new)
            });
    let lost = if ready.is_ok() {
        let missing = fixture.expect(written.missing(&fixture.cluster, "m1"));
        missing.len()
    } else {
        written.count()
    };
    assert!(lost > 0, "a cut that loses nothing proves nothing");
}
