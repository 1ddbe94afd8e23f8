//! Clusters of several masters in namespaces, and questions to them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use masthead_lab::{
    cluster::Cluster,
    console,
    error::{Result, chain},
    patience::Look,
    provider::{Node, Power, ProviderKind},
    tools::run,
};

use serde_json::Value;

use super::fixture::Fixture;

pub(crate) const A_MINUTE: Duration = Duration::from_secs(60);
pub(crate) const THREE: [&str; 3] = ["m1", "m2", "m3"];

/// So many masters, ready.
pub(crate) fn formed(masters: u8) -> Fixture {
    Fixture::ready_with(|plan, _| plan.masters = masters)
}

/// So many masters, never switched on.
pub(crate) fn off(masters: u8) -> Fixture {
    Fixture::off(ProviderKind::Namespace, |plan, _| plan.masters = masters)
}

pub(crate) fn node<'a>(fixture: &'a Fixture, name: &str) -> &'a dyn Node {
    fixture.expect(fixture.cluster.node(name))
}

/// Those of three that are not the one.
pub(crate) fn others(name: &str) -> Vec<&'static str> {
    let others = THREE.into_iter().filter(|other| *other != name);
    others.collect()
}

/// Cuts the power of all that are on, at once.
pub(crate) fn cut_all(fixture: &Fixture) {
    std::thread::scope(|scope| {
        for node in fixture.cluster.masters() {
            if node.power() == Power::On {
                scope.spawn(|| fixture.expect(node.cut_power()));
            }
        }
    });
}

/// Switches all on, and waits until they serve.
pub(crate) fn bring_back(fixture: &Fixture) {
    fixture.expect(fixture.cluster.power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
}

/// Who leads etcd, once somebody says that it does: between two leaders nobody may, and masters hand over on their own.
pub(crate) fn wait_for_leader(fixture: &Fixture) -> String {
    fixture.wait_until("a leader of etcd", A_MINUTE, || {
        match fixture.cluster.etcd_leader(&THREE) {
            Ok(leader) => Look::Done(leader),
            Err(error) => Look::NotYet(chain(&error)),
        }
    })
}

/// Who leads etcd, and who owns the virtual address, once the owner has handed leadership over if it had to.
pub(crate) fn leader_and_owner(fixture: &Fixture) -> [String; 2] {
    fixture.wait_until("a leader that is not the owner", A_MINUTE, || {
        let seen = fixture
            .cluster
            .etcd_leader(&THREE)
            .and_then(|leader| Ok([leader, fixture.cluster.vip_owner()?]));
        match seen {
            Ok([leader, owner]) if leader != owner => Look::Done([leader, owner]),
            Ok(both) => Look::NotYet(format!("{both:?}")),
            Err(error) => Look::NotYet(chain(&error)),
        }
    })
}

pub(crate) fn wait_for_voters(fixture: &Fixture, nodes: &[&str], voters: usize) {
    fixture.wait_until("a leader and all voters", A_MINUTE, || {
        match fixture.cluster.describe().provider {
            ProviderKind::Namespace => fixture.cluster.look_at_voters(nodes, voters),
            // etcd's certificates are out of the lab's reach there: mastctl's word must do.
            ProviderKind::Vm => {
                let told = availability(fixture);
                let healthy = told["healthy"].as_array().map_or(0, Vec::len);
                let led = told["leader"].is_string() && healthy == voters;
                Look::at(led, || told.to_string())
            }
        }
    });
}

/// What one master says that the cluster survives. It answers also when it is cut off.
pub(crate) fn availability_by(fixture: &Fixture, asked: &str) -> Value {
    let status = fixture.mastctl(&["--nodes", asked, "status", "--output", "json"]);
    let status: Value = serde_json::from_str(&fixture.expect(status)).expect("mastctl prints JSON");
    status["availability"].clone()
}

/// What the masters say that the cluster survives, by mastctl; nothing while none answers.
pub(crate) fn availability(fixture: &Fixture) -> Value {
    let mut status = fixture.cluster.mastctl();
    status.args(["--timeout", "60s", "status", "--output", "json"]);
    // It fails when one master does not answer, and still tells what the others say.
    let output = status.output().expect("mastctl runs");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status["availability"].clone()
}

/// Waits until a node's console gives this reason to wait, and says all these words of what it waits for.
pub(crate) fn wait_for_reason(fixture: &Fixture, name: &str, code: &str, words: &[&str]) {
    fixture.wait_until(&format!("{name} to say {code}"), A_MINUTE, || {
        let console = console::text(&node(fixture, name).plan().console());
        let seen = console::waiting(&console).unwrap_or_default();
        let said =
            seen.contains(&format!("{code}:")) && words.iter().all(|word| seen.contains(word));
        Look::at(said, || format!("{seen:?}"))
    });
}

pub(crate) fn no_etcd_runs(fixture: &Fixture) -> bool {
    let mut nodes = fixture.cluster.masters();
    nodes.all(|node| node.processes("etcd").unwrap_or_default().is_empty())
}

/// etcd's ids of the cluster, by each node's word; one means one cluster.
pub(crate) fn clusters(fixture: &Fixture, nodes: &[&str]) -> BTreeSet<u64> {
    let id = |node: &&str| fixture.expect(fixture.cluster.etcd_status(node)).cluster;
    nodes.iter().map(id).collect()
}

/// A file of a running node, as the host sees it.
pub(crate) fn file(fixture: &Fixture, name: &str, path: &str) -> Option<PathBuf> {
    let process = node(fixture, name).init_process().ok()?;
    Some(format!("/proc/{process}/root{path}").into())
}

pub(crate) fn read_seed(fixture: &Fixture) -> String {
    std::fs::read_to_string(fixture.cluster.directory().seed()).expect("the lab's seed")
}

/// kubectl through the apiserver of one master.
pub(crate) fn kubectl_through(cluster: &Cluster, node: &str, arguments: &[&str]) -> Result<String> {
    let server = format!("--server=https://{}", cluster.apiserver(node)?);
    let mut kubectl = cluster.kubectl();
    run(kubectl
        .args([&server, "--request-timeout=10s"])
        .args(arguments))
}
