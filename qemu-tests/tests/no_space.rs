//! etcd without space: it takes no writes, and the virtual address is owned all the same, moves all the same, and leads deletions to an apiserver. When
//! there is something to reclaim, etcd takes writes again by itself.

#[path = "support/address.rs"]
mod address;
#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use address::wait_for_owner;
use fixture::Fixture;
use masters::{A_MINUTE, THREE, node, wait_for_voters};
use masthead_lab::{patience::Look, witness::Witness};
use serde_json::json;

/// What one master's database may take.
const QUOTA: usize = 40 << 20;
/// What one ConfigMap takes of it: a little less than Kubernetes takes at most.
const FILLING: usize = 1_000_000;
/// At an owner, while etcd has no space.
const LOOKS: usize = 10;

#[test]
fn an_etcd_without_space_keeps_the_address_and_is_mended_by_deletions() {
    let fixture = Fixture::ready_with(|plan, _| {
        plan.masters = 3;
        plan.seed_extra =
            format!("[kubernetes.flags]\netcd = {{ quota-backend-bytes = {QUOTA} }}\n");
    });
    let owner = wait_for_owner(&fixture).owner.expect("an owner");
    let witness = fixture.expect(Witness::begin(&fixture.cluster));
    let filled = fill(&fixture);
    assert!(filled > 10, "full after {filled} ConfigMaps");
    wait_for_reason(&fixture, &owner, Some("etcd-no-space"));

    // Each look takes longer than the hold that its last renewal had.
    for _ in 0..LOOKS {
        let now = fixture.cluster.vip();
        assert_eq!(now.owner.as_ref(), Some(&owner), "it owns on");
        fixture.expect(fixture.kubectl(&["get", "namespace", "default"]));
    }
    let refused = fixture.mastctl(&["vip", "move", other_than(&owner)]);
    let refused = refused.expect_err("nobody can be named").to_string();
    assert!(refused.contains("etcd has no space"), "{refused}");

    // Its death costs the address another owner, and no more.
    fixture.expect(node(&fixture, &owner).cut_power());
    fixture.wait_until("another owner on the wire", A_MINUTE, || {
        let now = witness.owner();
        let moved = now.as_ref().is_some_and(|now| *now != owner);
        Look::at(moved, || format!("{now:?}"))
    });
    reads_through_the_address(&fixture);
    fixture.expect(node(&fixture, &owner).power_on());
    wait_for_voters(&fixture, &THREE, 3);

    let deleted = ["delete", "configmaps", "--selector", "filling=yes"];
    fixture.wait_until(
        "deletions through the address",
        A_MINUTE,
        || match fixture.kubectl(&deleted) {
            Ok(_) => Look::Done(()),
            Err(error) => Look::NotYet(error.to_string()),
        },
    );
    fixture.wait_until("writes", 5 * A_MINUTE, || {
        match fixture.kubectl(&["create", "configmap", "after"]) {
            Ok(_) => Look::Done(()),
            Err(error) if error.to_string().contains("already exists") => Look::Done(()),
            Err(error) => Look::NotYet(error.to_string()),
        }
    });
    fixture.expect(fixture.cluster.wait_until_ready());
    for name in THREE {
        wait_for_reason(&fixture, name, None);
    }
    // The record is written again, so that a successor can be named.
    let to = other_than(&wait_for_owner(&fixture).owner.expect("an owner"));
    fixture.wait_until("the address to move", A_MINUTE, || {
        match fixture.mastctl(&["vip", "move", to]) {
            Ok(_) => Look::Done(()),
            Err(error) => Look::NotYet(error.to_string()),
        }
    });
    assert_eq!(wait_for_owner(&fixture).owner.as_deref(), Some(to));
    let reigns = witness.end(&fixture.cluster);
    let reigns = reigns.unwrap_or_else(|why| panic!("{why}"));
    assert!(reigns.len() >= 3, "{reigns:#?}");
}

/// Makes ConfigMaps through the address until etcd has no space, and says how many there are. Each is written once, so that nothing can be reclaimed.
fn fill(fixture: &Fixture) -> usize {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("filling.json");
    for number in 0..2 * QUOTA / FILLING {
        let filling = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("filling-{number}"), "labels": { "filling": "yes" } },
            "data": { "filling": "x".repeat(FILLING) },
        });
        std::fs::write(&file, filling.to_string()).expect("write the filling");
        match fixture.kubectl(&["create", "--filename", &file.display().to_string()]) {
            Ok(_) => {}
            Err(error) if error.to_string().contains("space exceeded") => return number,
            Err(error) => panic!("filling {number}: {error}"),
        }
    }
    panic!("etcd has space for twice its quota");
}

fn reads_through_the_address(fixture: &Fixture) {
    fixture.wait_until("reads through the address", A_MINUTE, || {
        match fixture.kubectl(&["get", "namespace", "default"]) {
            Ok(_) => Look::Done(()),
            Err(error) => Look::NotYet(error.to_string()),
        }
    });
}

/// Waits until a master says that etcd's space is short, or that it is not.
fn wait_for_reason(fixture: &Fixture, name: &str, code: Option<&str>) {
    fixture.wait_until(&format!("{code:?} of {name}"), A_MINUTE, || {
        let status = fixture.expect(fixture.status_of(name));
        let degraded = status["degraded"].as_array().cloned().unwrap_or_default();
        let mut codes = degraded.iter().filter_map(|reason| reason["code"].as_str());
        let said = codes.find(|code| ["etcd-space-low", "etcd-no-space"].contains(code));
        Look::at(said == code, || format!("{degraded:?}"))
    });
}

fn other_than(owner: &str) -> &'static str {
    let mut others = THREE.into_iter().filter(|name| *name != owner);
    others.next().expect("another one")
}
