//! What operators of a cluster of several masters are told and can do, in namespaces at real constants.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/masters.rs"]
mod masters;
mod support;

use fixture::Fixture;
use masters::{A_MINUTE, formed, node};
use masthead_lab::patience::Look;
use serde_json::{Value, json};

/// Any one master knows how the others are: also that one has died, which is what an operator asks it for.
#[test]
fn the_status_of_any_master_tells_what_the_cluster_survives() {
    let fixture = formed(3);
    for asked in ["m1", "m2", "m3"] {
        wait_for_availability(&fixture, asked, |told| {
            told["healthy"] == json!(["m1", "m2", "m3"]) && told["spare"] == 1
        });
    }
    let told = availability(&fixture, "m1");
    assert_eq!(told["voters"], json!(["m1", "m2", "m3"]));
    let leader = told["leader"].as_str().expect("a leader").to_owned();
    let text = fixture.expect(fixture.mastctl(&["--nodes", "m1", "status"]));
    let first = text.lines().next().unwrap_or_default();
    let said = format!("3 of 3 voters healthy, {leader} leads; survives 1 more failure");
    assert!(first.ends_with(&said), "{text}");

    let dead = if leader == "m1" { "m2" } else { "m1" };
    fixture.expect(node(&fixture, dead).cut_power());
    wait_for_availability(&fixture, "m3", |told| {
        told["spare"] == 0
            && told["healthy"]
                .as_array()
                .is_some_and(|names| names.len() == 2 && !names.contains(&json!(dead)))
    });
    let text = fixture.expect(fixture.mastctl(&["--nodes", "m3", "status"]));
    assert!(text.contains("survives no more failure"), "{text}");
    let row = text
        .lines()
        .find(|line| line.starts_with(dead))
        .unwrap_or_default();
    assert!(row.ends_with("silent"), "{text}");
}

/// The leader hands over at an operator's word, through any master; what cannot be done is refused before anything is.
#[test]
fn the_leader_of_etcd_moves_at_an_operators_word() {
    let fixture = formed(3);
    wait_for_availability(&fixture, "m1", |told| told["spare"] == 1);
    let leader = availability(&fixture, "m1")["leader"].clone();
    let leader = leader.as_str().expect("a leader");
    let next = if leader == "m2" { "m3" } else { "m2" };
    let ask = |arguments: &[&str]| {
        let words = ["--nodes", "m1", "etcd", "leader"];
        fixture.mastctl(&[&words, arguments].concat())
    };
    let planned = fixture.expect(ask(&[next, "--plan"]));
    assert!(
        planned.starts_with(&format!("{leader} leads etcd")),
        "{planned}"
    );
    assert_eq!(availability(&fixture, "m1")["leader"], leader);
    let refused = ask(&["m9"]).expect_err("m9 has no vote").to_string();
    assert!(refused.contains("m9 has no vote"), "{refused}");

    let moved = fixture.expect(ask(&[next]));
    assert_eq!(
        moved,
        format!("{leader} has handed over: {next} leads etcd.")
    );
    wait_for_availability(&fixture, "m3", |told| {
        told["leader"] == next && told["spare"] == 1
    });
    let again = fixture.expect(ask(&[next]));
    assert_eq!(again, format!("{next} leads etcd already."));
}

fn availability(fixture: &Fixture, asked: &str) -> Value {
    let status = fixture.mastctl(&["--nodes", asked, "status", "--output", "json"]);
    let status: Value = serde_json::from_str(&fixture.expect(status)).expect("mastctl prints JSON");
    status["availability"].clone()
}

fn wait_for_availability(fixture: &Fixture, asked: &str, is_it: impl Fn(&Value) -> bool) {
    fixture.wait_until(&format!("what {asked} says of all"), A_MINUTE, || {
        let told = availability(fixture, asked);
        Look::at(is_it(&told), || told.to_string())
    });
}
