//! Masters out of service on purpose, in namespaces at real constants: one at a time, and never one too many.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use fixture::Fixture;
use masters::{A_MINUTE, THREE, formed, leader_and_owner, node, wait_for_leader, wait_for_voters};
use masthead_lab::{
    patience::Look,
    provider::{Power, PowerChange},
};
use serde_json::Value;

const REFUSED: i32 = 2;
/// For a reboot on a machine that has much else to do.
const LONG: &str = "5m";

/// mastctl with these words, long enough for masters that do not answer.
fn mastctl(fixture: &Fixture, words: &[&str]) -> Command {
    let mut command = fixture.cluster.mastctl();
    command.args(words).args(["--timeout", "60s"]);
    command
}

fn run(fixture: &Fixture, words: &[&str]) -> Output {
    let output = mastctl(fixture, words).stdin(Stdio::null()).output();
    output.expect("mastctl runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn done(fixture: &Fixture, words: &[&str]) -> String {
    let output = run(fixture, words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    stdout(&output)
}

/// What it says to a word that it refuses.
fn refused(fixture: &Fixture, words: &[&str]) -> String {
    let output = run(fixture, words);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(REFUSED), "{words:?}: {stderr}");
    stderr
}

/// What a master says of itself.
fn status(fixture: &Fixture, name: &str) -> Value {
    let words = ["status", "--nodes", name, "--output", "json"];
    let text = stdout(&run(fixture, &words));
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    answer["nodes"][0]["status"].clone()
}

/// Waits until a master says so of who holds the disruption lock.
fn wait_for_holder(fixture: &Fixture, asked: &str, holder: Option<&str>) {
    let what = format!("{asked} to say that {holder:?} holds the disruption lock");
    fixture.wait_until(&what, A_MINUTE, || {
        let etcd = &status(fixture, asked)["etcd"];
        let is_it = etcd.is_object() && etcd["disruption"]["holder"].as_str() == holder;
        Look::at(is_it, || etcd.to_string())
    });
}

fn has_rebooted(fixture: &Fixture, name: &str) -> bool {
    let mut history = node(fixture, name).history().into_iter();
    history.any(|event| event.change == PowerChange::Rebooted)
}

/// One after the other on one cluster, which ends without a quorum.
#[test]
fn masters_go_down_one_at_a_time_unless_an_operator_accepts_an_outage() {
    let fixture = formed(3);
    masters_reboot_one_at_a_time(&fixture);
    who_dies_with_the_lock_keeps_it_until_it_is_back_or_an_operator_says_otherwise(&fixture);
    a_quorum_is_lost_only_at_an_operators_word(&fixture);
}

/// etcd's leader goes, and hands over first; a second master that shall go at once is refused; when the first one serves
/// again, the second one may go.
fn masters_reboot_one_at_a_time(fixture: &Fixture) {
    wait_for_voters(fixture, &THREE, 3);
    let [leader, _] = leader_and_owner(fixture);
    let second = if leader == "m1" { "m2" } else { "m1" };

    let plan = done(fixture, &["reboot", &leader, "--plan"]);
    for said in [
        "takes the disruption lock, which is free".to_owned(),
        format!("{leader} leads etcd, and hands over to "),
        "stops kube-scheduler, kube-controller-manager, kube-apiserver, etcd".to_owned(),
        format!("while {leader} is down: the cluster survives no more failure"),
    ] {
        assert!(plan.contains(&said), "{said}: {plan}");
    }
    assert_eq!(wait_for_leader(fixture), leader);

    // Waits in the background until the leader is back.
    let words = ["reboot", &leader, "--wait", "--wait-timeout", LONG];
    let mut first = mastctl(fixture, &words);
    first.stdin(Stdio::null()).stdout(Stdio::null());
    let mut first = first.spawn().expect("mastctl runs");
    wait_for_holder(fixture, second, Some(&leader));
    let why = refused(fixture, &["reboot", second]);
    let said = format!("{leader} holds the disruption lock since");
    assert!(why.contains(&said), "{why}");
    let plan = run(fixture, &["reboot", second, "--plan"]);
    assert_eq!(plan.status.code(), Some(REFUSED));
    assert!(stdout(&plan).contains("REFUSED: disruption-under-way"));
    let told = status(fixture, second)["degraded"].to_string();
    assert!(told.contains("disruption-under-way"), "{told}");

    assert!(first.wait().expect("it ends").success());
    assert!(has_rebooted(fixture, &leader));
    assert_ne!(wait_for_leader(fixture), leader);
    // It says that it is back when the next one may go.
    done(
        fixture,
        &["reboot", second, "--wait", "--wait-timeout", LONG],
    );
    assert!(has_rebooted(fixture, second));
    wait_for_holder(fixture, &leader, None);
    assert!(!has_rebooted(fixture, "m3") || leader == "m3");
}

/// The lock has no time to run out: one that dies with it keeps it, all say so, and there are two ways on.
fn who_dies_with_the_lock_keeps_it_until_it_is_back_or_an_operator_says_otherwise(
    fixture: &Fixture,
) {
    wait_for_voters(fixture, &THREE, 3);
    let dies = || {
        done(fixture, &["reboot", "m1"]);
        fixture.expect(node(fixture, "m1").cut_power());
        wait_for_holder(fixture, "m2", Some("m1"));
    };
    dies();
    let text = stdout(&run(fixture, &["status"]));
    assert!(
        text.contains("m1 holds the disruption lock since"),
        "{text}"
    );
    let why = refused(fixture, &["reboot", "m2"]);
    for said in ["m1 holds the disruption lock", "would be left"] {
        assert!(why.contains(said), "{why}");
    }
    fixture.expect(node(fixture, "m1").power_on());
    wait_for_holder(fixture, "m2", None);

    fixture.expect(fixture.cluster.wait_until_ready());
    dies();
    let why = refused(fixture, &["unlock", "m3", "--nodes", "m2"]);
    assert!(
        why.contains("m1 holds the disruption lock, not m3"),
        "{why}"
    );
    let why = refused(fixture, &["unlock", "m1", "--id", "0none", "--nodes", "m2"]);
    assert!(why.contains("another one was meant"), "{why}");
    // As the remedy in the status says.
    let text = stdout(&run(fixture, &["status"]));
    let told = text.split("--id").nth(1);
    let told = told.unwrap_or_else(|| panic!("{text}")).trim_start();
    let id: String = told.chars().take_while(char::is_ascii_hexdigit).collect();
    assert_eq!(id.len(), 8, "{text}");
    done(fixture, &["unlock", "m1", "--id", &id, "--nodes", "m2"]);
    wait_for_holder(fixture, "m3", None);
}

/// m1 is down already: another one goes only when the outage is accepted, and then the cluster comes back with it.
fn a_quorum_is_lost_only_at_an_operators_word(fixture: &Fixture) {
    let why = refused(fixture, &["reboot", "m2"]);
    let said = "Without m2, 1 of 3 voters would be left, and 2 are needed";
    assert!(
        why.contains(said) && !why.contains("disruption lock"),
        "{why}"
    );
    let words = [
        "reboot",
        "m2",
        "--accept-outage",
        "--wait",
        "--wait-timeout",
        LONG,
    ];
    done(fixture, &words);
    wait_for_holder(fixture, "m3", None);

    // No quorum at all: there is nobody to ask for the lock, and still a way.
    fixture.expect(node(fixture, "m3").cut_power());
    fixture.wait_until("m2 to miss the quorum", A_MINUTE, || {
        let plan = run(fixture, &["poweroff", "m2", "--plan"]);
        let plan = stdout(&plan);
        Look::at(plan.contains("REFUSED: quorum-lost"), || plan)
    });
    done(fixture, &["poweroff", "m2", "--accept-outage"]);
    wait_for_power(fixture, "m2", Power::Off);
}

fn wait_for_power(fixture: &Fixture, name: &str, power: Power) {
    let nominal = Duration::from_secs(60);
    fixture.wait_until(&format!("{name} to be {power:?}"), nominal, || {
        let now = node(fixture, name).power();
        Look::at(now == power, || format!("{now:?}"))
    });
}
