//! Three masters in namespaces, at real constants, run as one cluster: what is acknowledged stays, whoever dies.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use fixture::Fixture;
use load::Load;
use masters::{
    A_MINUTE, THREE, formed, kubectl_through, node, others, wait_for_leader, wait_for_voters,
};
use masthead_lab::{
    error::{Result, chain},
    patience::Look,
    provider::Link,
};

#[test]
fn a_power_cut_of_each_master_in_turn_loses_nothing() {
    let fixture = formed(3);
    for victim in THREE {
        let node = node(&fixture, victim);
        let cut = || fixture.expect(node.cut_power());
        let on = || fixture.expect(node.power_on());
        Load::through(&fixture, &others(victim)).survives(cut, on);
    }
}

/// That of etcd's leader, where it costs an election.
#[test]
fn a_pulled_cable_loses_nothing() {
    let fixture = formed(3);
    wait_for_voters(&fixture, &THREE, 3);
    let leader = wait_for_leader(&fixture);
    let node = node(&fixture, &leader);
    let link = |link| fixture.expect(node.set_link(link));
    let load = Load::through(&fixture, &others(&leader));
    load.survives(|| link(Link::Down), || link(Link::Up));
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
