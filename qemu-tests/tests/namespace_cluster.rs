//! One master in namespaces: the real image, etcd and Kubernetes, at native speed. What a power cut leaves, and what a mistake in
//! the seed does.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::time::Duration;

use fixture::{Fixture, etcd_without_fsync};
use masthead_lab::{error::chain, patience::Look};

const SECONDS_10: Duration = Duration::from_secs(10);
/// Liveness probes must fail a few times before a hanging service is restarted.
const A_MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_power_cut_keeps_every_acknowledged_write() {
    let fixture = Fixture::ready();
    let acknowledged = fixture.write_until_cut(100, || fixture.expect(fixture.m1().cut_power()));
    fixture.expect(fixture.m1().power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
    let missing = fixture.expect(fixture.missing(&acknowledged));
    assert!(
        missing.is_empty(),
        "{} of {} lost: {missing:?}",
        missing.len(),
        acknowledged.len()
    );
}

/// The positive control: the test above can see a loss.
#[test]
fn a_power_cut_of_an_etcd_that_does_not_flush_loses_acknowledged_writes() {
    let fixture =
        Fixture::ready_with(|plan, folder| plan.root_changes = Some(etcd_without_fsync(folder)));
    let acknowledged = fixture.write_until_cut(100, || fixture.expect(fixture.m1().cut_power()));
    fixture.expect(fixture.m1().power_on());
    // An etcd that lost its very beginnings ends again and again, or waits for ever: it has lost
    // everything.
    let look = || {
        let nodes = fixture.cluster.look_at_all();
        let etcd = fixture.service("etcd").unwrap_or_default();
        match (nodes.iter().all(|node| node.ready), &etcd["crash_looping"]) {
            (true, _) => Look::Done(true),
            (false, looping) if looping == true => Look::Done(false),
            _ => Look::NotYet(etcd.to_string()),
        }
    };
    let patience = fixture.patience();
    let comes_back = patience.wait_until("etcd to be back", SECONDS_10 * 2, look);
    let missing = if let Ok(true) = comes_back {
        fixture.expect(fixture.missing(&acknowledged)).len()
    } else {
        acknowledged.len()
    };
    assert!(missing > 0, "a cut that loses nothing proves nothing");
}

#[test]
fn a_service_with_a_wrong_flag_crash_loops_and_the_others_do_not() {
    let fixture = Fixture::ready_with(|plan, _| {
        plan.seed_extra =
            "[kubernetes.flags]\nkube-scheduler = { no-such-flag = \"1\" }\n".to_owned();
    });
    let story = fixture.wait_until("the crash loop to be seen", A_MINUTE, || {
        match fixture.service("kube-scheduler") {
            Ok(story) if story["crash_looping"] == true => Look::Done(story),
            Ok(story) => Look::NotYet(story.to_string()),
            Err(error) => Look::NotYet(chain(&error)),
        }
    });
    let lines = story["last_lines"].to_string();
    assert!(lines.contains("no-such-flag"), "its last lines: {lines}");
    for service in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        let story = fixture.expect(fixture.service(service));
        assert_eq!(story["state"], "ready", "{story}");
    }
}
