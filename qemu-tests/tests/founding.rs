//! Masters in namespaces, at real constants, found their cluster from one seed: exactly once, whatever is cut or wiped
//! meanwhile.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/masters.rs"]
mod masters;
mod support;

use masters::{
    A_MINUTE, THREE, bring_back, clusters, cut_all, file, formed, kubectl_through, no_etcd_runs,
    node, off, read_seed, wait_for_reason, wait_for_voters,
};
use masthead_lab::{patience::Look, plan::DiskRole, provider::Wipe};

#[test]
fn three_masters_found_one_cluster_and_serve_kubernetes() {
    let fixture = formed(3);
    wait_for_voters(&fixture, &THREE, 3);
    assert_eq!(clusters(&fixture, &THREE).len(), 1);
    for (name, reader) in [("m1", "m2"), ("m2", "m3"), ("m3", "m1")] {
        let ask = |node, arguments: &[&str]| kubectl_through(&fixture.cluster, node, arguments);
        fixture.expect(ask(name, &["create", "configmap", name]));
        fixture.expect(ask(reader, &["get", "configmap", name]));
    }
}

#[test]
fn five_masters_found_one_cluster() {
    const FIVE: [&str; 5] = ["m1", "m2", "m3", "m4", "m5"];
    let fixture = formed(5);
    wait_for_voters(&fixture, &FIVE, 5);
    assert_eq!(clusters(&fixture, &FIVE).len(), 1);
}

#[test]
fn a_late_third_machine_is_waited_for_by_name() {
    let fixture = off(3);
    fixture.expect(fixture.cluster.power_on_without(&["m3".to_owned()]));
    for name in ["m1", "m2"] {
        wait_for_reason(&fixture, name, "formation-peers-missing", &["m3"]);
    }
    assert!(no_etcd_runs(&fixture));
    bring_back(&fixture);
    wait_for_voters(&fixture, &THREE, 3);
}

/// A machine with another secret is refused, and both sides say so; nobody founds without it.
#[test]
fn a_wrong_secret_is_refused_on_both_consoles() {
    let fixture = off(3);
    let (seed, other) = (read_seed(&fixture), read_seed(&off(1)));
    let secret = |seed: &str| {
        let line = seed.lines().find(|line| line.starts_with("secret"));
        line.expect("a secret").to_owned()
    };
    let wrong = seed.replace(&secret(&seed), &secret(&other));
    fixture.expect(node(&fixture, "m3").set_seed(&wrong));
    fixture.expect(fixture.cluster.power_on());
    for name in ["m1", "m2"] {
        wait_for_reason(&fixture, name, "peer-other-secret", &["m3"]);
    }
    wait_for_reason(&fixture, "m3", "peer-other-secret", &["m1"]);
    wait_for_reason(&fixture, "m3", "peer-other-secret", &["m2"]);
    assert!(no_etcd_runs(&fixture));
}

#[test]
fn differing_seeds_are_shown_on_all_consoles() {
    let fixture = off(3);
    let other = format!(
        "{}\n[kubernetes]\npods = \"10.245.0.0/16\"\n",
        read_seed(&fixture)
    );
    fixture.expect(node(&fixture, "m2").set_seed(&other));
    fixture.expect(fixture.cluster.power_on());
    for name in THREE {
        wait_for_reason(&fixture, name, "formation-seeds-differ", &THREE);
    }
    assert!(no_etcd_runs(&fixture));
}

/// All power goes at once, at each step that formation takes, and comes back.
#[test]
fn a_power_cut_at_each_step_founds_one_cluster() {
    const STEPS: [(&str, &str); 6] = [
        ("m1", "/state/formation/plan-1"),
        ("m3", "/state/formation/plan-1"),
        ("m1", "/state/formation/go"),
        ("m3", "/etcd/started"),
        ("m3", "/state/formation/started"),
        ("m1", "/etcd/data/member/wal"),
    ];
    let fixture = off(3);
    for (name, path) in STEPS {
        fixture.expect(fixture.cluster.power_on());
        fixture.wait_until(&format!("{path} of {name}"), A_MINUTE, || {
            let there = file(&fixture, name, path).is_some_and(|path| path.exists());
            Look::at(there, || "it is not there".to_owned())
        });
        cut_all(&fixture);
    }
    bring_back(&fixture);
    wait_for_voters(&fixture, &THREE, 3);
    assert_eq!(clusters(&fixture, &THREE).len(), 1);
}

/// Two of three have lost their data, the third is off: nobody may found anything. With the third back nothing is
/// founded anew either.
#[test]
fn two_of_three_erased_etcd_partitions_start_no_etcd() {
    let fixture = formed(3);
    cut_all(&fixture);
    for name in ["m1", "m2"] {
        let node = node(&fixture, name);
        fixture.expect(node.wipe(Wipe::Disk(DiskRole::Etcd)));
        fixture.expect(node.power_on());
    }
    for name in ["m1", "m2"] {
        wait_for_reason(&fixture, name, "etcd-amnesiac", &[]);
    }
    assert!(no_etcd_runs(&fixture));
}
