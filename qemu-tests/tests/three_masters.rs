//! Three masters in namespaces, at real constants, run as one cluster: what is acknowledged stays, whoever dies.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::time::Duration;

use fixture::{Fixture, etcd_without_fsync};
use masters::{
    A_MINUTE, THREE, bring_back, clusters, cut_all, formed, kubectl_through, node, others,
    wait_for_voters,
};
use masthead_lab::{
    error::{Result, chain},
    patience::Look,
    provider::Link,
    writers::{Writers, Written},
};

/// What a client waits for an answer before it tries again.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Runs writers through both other masters while `fault` strikes one, and on after `repair` has undone it.
fn writers_survive(fixture: &Fixture, victim: &str, fault: impl FnOnce(), repair: impl FnOnce()) {
    let others = others(victim);
    let writers = fixture.expect(Writers::start(&fixture.cluster, &others, 2, TIMEOUT));
    let acknowledged = || {
        let through = others.iter().map(|node| writers.acknowledged_through(node));
        through.collect::<Vec<usize>>()
    };
    let go_on = || {
        let before = acknowledged();
        fixture.wait_until("writes through both others", A_MINUTE, || {
            let now = acknowledged();
            let mut pairs = now.iter().zip(&before);
            let on = pairs.all(|(now, before)| *now >= before + 20);
            Look::at(on, || format!("{now:?} after {before:?}"))
        });
    };
    go_on();
    fault();
    go_on();
    repair();
    wait_for_voters(fixture, &THREE, 3);
    fixture.expect(fixture.cluster.wait_until_ready());
    let written = writers.stop();
    // Through the returned master too: it has caught up by itself.
    for name in THREE {
        let missing = fixture.expect(written.missing(&fixture.cluster, name));
        let count = written.count();
        assert!(missing.is_empty(), "{name} lacks {missing:?} of {count}");
    }
}

#[test]
fn a_power_cut_of_each_master_in_turn_loses_nothing() {
    let fixture = formed(3);
    for victim in THREE {
        let node = node(&fixture, victim);
        let cut = || fixture.expect(node.cut_power());
        let on = || fixture.expect(node.power_on());
        writers_survive(&fixture, victim, cut, on);
    }
}

/// That of etcd's leader, where it costs an election.
#[test]
fn a_pulled_cable_loses_nothing() {
    let fixture = formed(3);
    wait_for_voters(&fixture, &THREE, 3);
    let leader = fixture.expect(fixture.cluster.etcd_leader(&THREE));
    let node = node(&fixture, &leader);
    let link = |link| fixture.expect(node.set_link(link));
    writers_survive(&fixture, &leader, || link(Link::Down), || link(Link::Up));
}

/// Writes through all masters, and cuts the power of all when `enough` writes are acknowledged.
fn write_and_cut_all(fixture: &Fixture, enough: usize) -> Written {
    let writers = fixture.expect(Writers::start(&fixture.cluster, &THREE, 2, TIMEOUT));
    fixture.wait_until("writes", A_MINUTE, || {
        let written = writers.acknowledged();
        Look::at(written >= enough, || written.to_string())
    });
    cut_all(fixture);
    writers.stop()
}

#[test]
fn power_cuts_of_all_masters_lose_nothing() {
    let fixture = formed(3);
    let one = clusters(&fixture, &THREE);
    assert_eq!(one.len(), 1);
    for enough in [100, 250, 400] {
        let written = write_and_cut_all(&fixture, enough);
        bring_back(&fixture);
        for name in THREE {
            let missing = fixture.expect(written.missing(&fixture.cluster, name));
            let count = written.count();
            assert!(missing.is_empty(), "{name} lacks {missing:?} of {count}");
        }
        assert_eq!(clusters(&fixture, &THREE), one);
    }
}

/// The positive control: the test above can see a loss.
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

/// Who leads: the identities that kube-scheduler and kube-controller-manager hold their leases by.
fn leaders(fixture: &Fixture, through: &str) -> Result<[String; 2]> {
    let holder = |name| {
        let what = ["get", "lease", name, "--namespace=kube-system"];
        let path = ["--output=jsonpath={.spec.holderIdentity}"];
        kubectl_through(&fixture.cluster, through, &[&what[..], &path].concat())
    };
    Ok([
        holder("kube-scheduler")?,
        holder("kube-controller-manager")?,
    ])
}

/// Both lead somewhere else then, and clients in the cluster are told of living apiservers only.
#[test]
fn kubernetes_goes_on_when_a_leader_s_machine_dies() {
    let fixture = formed(3);
    let before = fixture.wait_until("leaders", A_MINUTE, || match leaders(&fixture, "m1") {
        Ok(holders) if holders.iter().all(|holder| holder.contains('_')) => Look::Done(holders),
        Ok(holders) => Look::NotYet(format!("{holders:?}")),
        Err(error) => Look::NotYet(chain(&error)),
    });
    let (victim, _) = before[1].split_once('_').expect("the node's name");
    let through = others(victim)[0];
    fixture.expect(node(&fixture, victim).cut_power());
    fixture.wait_until("other leaders", A_MINUTE, || {
        match leaders(&fixture, through) {
            Ok(now) => {
                let moved = now.iter().all(|holder| !holder.starts_with(victim));
                Look::at(moved, || format!("{now:?}"))
            }
            Err(error) => Look::NotYet(chain(&error)),
        }
    });
    let slice = [
        "get",
        "endpointslices",
        "kubernetes",
        "--output=jsonpath={.endpoints[*].addresses[0]}",
    ];
    let address = node(&fixture, victim).plan().address().to_string();
    fixture.wait_until("the EndpointSlice to follow", A_MINUTE, || {
        let slice = kubectl_through(&fixture.cluster, through, &slice);
        let slice = slice.unwrap_or_else(|error| chain(&error));
        let addresses: Vec<&str> = slice.split(' ').collect();
        let follows = addresses.len() == 2 && !addresses.contains(&address.as_str());
        Look::at(follows, || slice.clone())
    });
}
