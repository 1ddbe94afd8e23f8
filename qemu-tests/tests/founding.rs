//! Masters in namespaces, at real constants, found their cluster from one seed: exactly once, whatever is cut or wiped
//! meanwhile.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::{collections::BTreeMap, path::Path, process::Command};

use fixture::{Fixture, other_init};
use masters::{
    A_MINUTE, THREE, bring_back, clusters, cut_all, file, formed, kubectl_through, no_etcd_runs,
    node, off, read_seed, wait_for_reason, wait_for_voters,
};
use masthead_lab::{
    console,
    error::{Result, chain},
    patience::Look,
    plan::DiskRole,
    provider::{DiskCondition, Wipe},
    tools::run,
};
use masthead_peer_protocol::SPOKEN;
use serde_json::Value;

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

/// As in the middle of an upgrade: each pair speaks the highest version that both know.
#[test]
fn masters_of_two_releases_found_one_cluster() {
    let fixture = Fixture::ready_with(|plan, folder| {
        plan.masters = 3;
        let next = other_init(folder, env!("CARGO_BIN_EXE_init-of-next-release"));
        plan.root_changes_of = ["m2", "m3"]
            .map(|name| (name.to_owned(), next.clone()))
            .into();
    });
    wait_for_voters(&fixture, &THREE, 3);
    assert_eq!(clusters(&fixture, &THREE).len(), 1);
    let this = u64::from(SPOKEN.newest.0);
    for (name, spoken) in [
        ("m1", [("m2", this), ("m3", this)]),
        ("m2", [("m1", this), ("m3", this + 1)]),
    ] {
        fixture.wait_until("the versions that both speak", A_MINUTE, || {
            let seen = protocols(&fixture, name);
            let expected = spoken.map(|(peer, version)| (peer.to_owned(), Some(version)));
            Look::at(
                seen.as_ref().is_ok_and(|seen| *seen == expected.into()),
                || format!("{seen:?}"),
            )
        });
    }
}

/// Which version of the peer protocol a node speaks with each of the others.
fn protocols(fixture: &Fixture, name: &str) -> Result<BTreeMap<String, Option<u64>>> {
    let peers = fixture.status_of(name)?["formation"]["peers"].clone();
    let peers = peers.as_array().cloned().unwrap_or_default();
    let name = |peer: &Value| peer["name"].as_str().unwrap_or_default().to_owned();
    Ok(peers
        .iter()
        .map(|peer| (name(peer), peer["protocol"].as_u64()))
        .collect())
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

/// One master cannot acknowledge, one has, and the planner loses everything: its plan must not block for ever.
#[test]
fn a_planner_wiped_after_one_acknowledgement_blocks_nobody() {
    let fixture = off(3);
    fixture.expect(node(&fixture, "m3").power_on());
    wait_for_reason(&fixture, "m3", "formation-peers-missing", &["m1", "m2"]);
    let stalled = node(&fixture, "m3").set_disk(DiskRole::State, DiskCondition::Stalled);
    fixture.expect(stalled);
    fixture.expect(fixture.cluster.power_on());
    fixture.wait_until("the acknowledgement of m2", A_MINUTE, || {
        let plan = file(&fixture, "m2", "/state/formation/plan-1");
        let there = plan.is_some_and(|plan| plan.exists());
        Look::at(there, || "it is not there".to_owned())
    });
    assert!(no_etcd_runs(&fixture));
    cut_all(&fixture);
    fixture.expect(node(&fixture, "m1").wipe(Wipe::All));
    let healthy = node(&fixture, "m3").set_disk(DiskRole::State, DiskCondition::Healthy);
    fixture.expect(healthy);
    bring_back(&fixture);
    wait_for_voters(&fixture, &THREE, 3);
    assert_eq!(clusters(&fixture, &THREE).len(), 1);
}

/// Two of three have lost their data, the third is off: nobody may found anything.
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

/// A person founds without m3, which then comes with the disk of a former cluster: refused, and named by all.
#[test]
fn a_cluster_founded_without_one_refuses_the_disk_of_a_former_one() {
    let fixture = formed(3);
    let former = clusters(&fixture, &["m3"]);
    cut_all(&fixture);
    for name in ["m1", "m2"] {
        let node = node(&fixture, name);
        fixture.expect(node.wipe(Wipe::All));
        fixture.expect(node.power_on());
        wait_for_reason(&fixture, name, "formation-peers-missing", &["m3"]);
    }
    let config = tempfile::tempdir().expect("a folder");
    let config = config.path().join("mastctl.toml");
    let found = |without: &str, cluster: &str| {
        let arguments = ["found", "--without", without, "--cluster", cluster];
        mastctl(&fixture, &config, &arguments)
    };
    log_in_provisionally(&fixture, &config, "m1");
    for (without, cluster) in [("m3", "another"), ("m2,m3", "lab"), ("m2", "lab")] {
        let refused = found(without, cluster);
        assert!(refused.is_err(), "{without} {cluster}: {refused:?}");
    }
    fixture.expect(found("m3", "lab"));
    wait_for_voters(&fixture, &["m1", "m2"], 2);
    let founded = clusters(&fixture, &["m1", "m2"]);
    assert_eq!(founded.len(), 1);
    assert!(founded.is_disjoint(&former), "{founded:?} {former:?}");

    fixture.expect(node(&fixture, "m3").power_on());
    // Each side names the other; m3's etcd has nobody to agree with.
    for (name, named) in [("m3", &["m1", "m2"][..]), ("m1", &["m3"]), ("m2", &["m3"])] {
        wait_for_peers_of_another_cluster(&fixture, name, named);
    }
    let leader = fixture
        .cluster
        .etcd_status("m3")
        .map(|status| status.leader);
    assert!(!matches!(leader, Ok(Some(_))), "{leader:?}");
    assert_eq!(clusters(&fixture, &["m1", "m2"]), founded);
    wait_for_voters(&fixture, &["m1", "m2"], 2);
}

/// Waits until a node's console says that these belong to another cluster.
fn wait_for_peers_of_another_cluster(fixture: &Fixture, name: &str, named: &[&str]) {
    fixture.wait_until(&format!("{name} to name another cluster"), A_MINUTE, || {
        let console = console::text(&node(fixture, name).plan().console());
        let screen = console.rsplit("\nMasthead ").next().unwrap_or_default();
        let said: Vec<&str> = screen
            .lines()
            .filter(|line| line.contains("is a member of another cluster"))
            .collect();
        let all = named
            .iter()
            .all(|peer| said.iter().any(|line| line.trim_start().starts_with(peer)));
        Look::at(all, || screen.to_owned())
    });
}

fn mastctl(fixture: &Fixture, config: &Path, arguments: &[&str]) -> Result<String> {
    // Not with the lab's configuration, which knows the former cluster.
    let mut mastctl = Command::new(fixture.cluster.mastctl().get_program());
    mastctl.args(["--timeout", "10s", "--config"]).arg(config);
    run(mastctl.args(arguments))
}

/// Logs in to a node that belongs to no cluster, with what its console shows.
fn log_in_provisionally(fixture: &Fixture, config: &Path, name: &str) {
    let plan = node(fixture, name).plan();
    let nodes = fixture.cluster.describe().nodes;
    let described = nodes.into_iter().find(|node| node.name == name);
    let endpoint = described.and_then(|node| node.management);
    let endpoint = endpoint.expect("the node's management API");
    let address = plan.address().to_string();
    let key = fixture.cluster.directory().operator_key();
    let key = key.to_str().expect("a path of letters");
    fixture.wait_until("a login before there is a cluster", A_MINUTE, || {
        let console = console::text(&plan.console());
        let words: Vec<&str> = console.split_whitespace().collect();
        let login = words.windows(2).rev().find(|pair| pair[0] == "login");
        let Some(fingerprint) = login.map(|pair| pair[1]) else {
            return Look::NotYet("no fingerprint on the console".to_owned());
        };
        let arguments = [
            "login",
            &endpoint,
            "--fingerprint",
            fingerprint,
            "--name",
            &address,
            "--key",
            key,
        ];
        match mastctl(fixture, config, &arguments) {
            Ok(_) => Look::Done(()),
            Err(error) => Look::NotYet(chain(&error)),
        }
    });
}
