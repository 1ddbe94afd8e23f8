//! What operators of a cluster of several masters are told and can do, in namespaces at real constants.

#[path = "support/address.rs"]
mod address;
#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use address::wait_for_owner;
use fixture::Fixture;
use masters::{A_MINUTE, THREE, availability_by, formed, leader_and_owner, node, wait_for_leader};
use masthead_lab::{
    error::Result,
    patience::Look,
    provider::{Forward, Signal},
    tools::run,
};
use serde_json::{Value, json};

/// One after the other on one cluster, which the last one harms.
#[test]
fn operators_change_and_ask_a_cluster_through_any_master() {
    let fixture = formed(3);
    the_leader_of_etcd_moves(&fixture);
    the_virtual_address_moves(&fixture);
    a_stranger_reaches_what_is_for_everybody(&fixture);
    tokens_let_further_operators_in(&fixture);
    any_status_tells_what_the_cluster_survives(&fixture);
}

/// Any one master knows how the others are: also that one has died, which is what an operator asks it for.
fn any_status_tells_what_the_cluster_survives(fixture: &Fixture) {
    for asked in ["m1", "m2", "m3"] {
        wait_for_availability(fixture, asked, |told| {
            told["healthy"] == json!(["m1", "m2", "m3"]) && told["spare"] == 1
        });
    }
    let [leader, _] = leader_and_owner(fixture);
    wait_for_availability(fixture, "m1", |told| {
        told["leader"] == leader.as_str() && told["voters"] == json!(["m1", "m2", "m3"])
    });
    let text = fixture.expect(fixture.mastctl(&["--nodes", "m1", "status"]));
    let first = text.lines().next().unwrap_or_default();
    let said = format!("3 of 3 voters healthy, {leader} leads; survives 1 more failure");
    assert!(first.ends_with(&said), "{text}");

    let dead = if leader == "m1" { "m2" } else { "m1" };
    fixture.expect(node(fixture, dead).cut_power());
    wait_for_availability(fixture, "m3", |told| {
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

/// To each master in turn, through any of them, and to none that is not there.
fn the_virtual_address_moves(fixture: &Fixture) {
    let before = wait_for_owner(fixture);
    for (to, asked) in [("m2", "m1"), ("m3", "m1"), ("m1", "m2")] {
        let owner = wait_for_owner(fixture).owner.expect("an owner");
        let planned = fixture.expect(fixture.mastctl(&["-n", asked, "vip", "move", to, "--plan"]));
        let moved = fixture.expect(fixture.mastctl(&["-n", asked, "vip", "move", to]));
        if owner == to {
            assert!(moved.contains("already"), "{moved}");
            continue;
        }
        assert!(planned.starts_with(&format!("{owner} owns")), "{planned}");
        assert!(
            moved.starts_with(&format!("{owner} has handed over: {to} owns")),
            "{moved}"
        );
        assert_eq!(wait_for_owner(fixture).owner.as_deref(), Some(to));
        // Through the address.
        fixture.expect(fixture.kubectl(&["get", "namespace", "default"]));
    }
    let after = wait_for_owner(fixture);
    assert!(
        after.epoch >= before.epoch + 2,
        "{after:?} after {before:?}"
    );
    let refused = fixture.mastctl(&["-n", "m1", "vip", "move", "m9"]);
    let refused = refused.expect_err("there is no m9").to_string();
    assert!(refused.contains("the seed lists no master m9"), "{refused}");
    let status = fixture.expect(fixture.status_of("m2"));
    let told = &status["virtual_addresses"][0];
    assert_eq!(told["state"], "standby", "{told}");
    assert_eq!(told["owner"], "m1", "{told}");
}

/// The lab's gateway is no master. What it may not reach answers to the node itself.
fn a_stranger_reaches_what_is_for_everybody(fixture: &Fixture) {
    let m1 = node(fixture, "m1");
    let at = |port| SocketAddrV4::new(m1.plan().address(), port);
    let answers = |forward: Forward| {
        let patience = fixture.patience().of(Duration::from_secs(1));
        let mut stream = TcpStream::connect(forward.local).expect("a forwarder");
        stream.set_read_timeout(Some(patience)).expect("set");
        stream
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .expect("written");
        // An answer, or an end; not silence.
        let silent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        !stream.read(&mut [0]).as_ref().is_err_and(silent)
    };
    for port in [6443, 9440, 9441] {
        assert!(
            answers(fixture.expect(fixture.cluster.forward(at(port)))),
            "{port}"
        );
    }
    for port in [2379, 2380, 9442] {
        assert!(
            !answers(fixture.expect(fixture.cluster.forward(at(port)))),
            "{port}"
        );
        assert!(
            answers(fixture.expect(m1.forward_inside(port))),
            "{port} inside"
        );
    }
}

/// The leader hands over at an operator's word, through any master; what cannot be done is refused before anything is.
fn the_leader_of_etcd_moves(fixture: &Fixture) {
    wait_for_availability(fixture, "m1", |told| told["spare"] == 1);
    let [leader, owner] = &leader_and_owner(fixture);
    // One that keeps it.
    let next = THREE
        .into_iter()
        .find(|name| name != leader && name != owner);
    let next = next.expect("a third one");
    let ask = |arguments: &[&str]| {
        let words = ["--nodes", "m1", "etcd", "leader"];
        fixture.mastctl(&[&words, arguments].concat())
    };
    let planned = fixture.expect(ask(&[next, "--plan"]));
    assert!(
        planned.starts_with(&format!("{leader} leads etcd")),
        "{planned}"
    );
    assert_eq!(&wait_for_leader(fixture), leader, "it was only a plan");
    let refused = ask(&["m9"]).expect_err("m9 has no vote").to_string();
    assert!(refused.contains("m9 has no vote"), "{refused}");

    let moved = fixture.expect(ask(&[next]));
    assert_eq!(
        moved,
        format!("{leader} has handed over: {next} leads etcd.")
    );
    wait_for_availability(fixture, "m3", |told| {
        told["leader"] == next && told["spare"] == 1
    });
    let again = fixture.expect(ask(&[next]));
    assert_eq!(again, format!("{next} leads etcd already."));
}

/// A token lets in one, everywhere; who is taken out is out everywhere, with the tokens that this one made.
fn tokens_let_further_operators_in(fixture: &Fixture) {
    let token = |words: &[&str]| {
        let words = [&["token", "-o", "json"], words].concat();
        let made = fixture.expect(fixture.mastctl(&words));
        let made: Value = serde_json::from_str(&made).expect("JSON");
        made["token"].as_str().expect("a token").to_owned()
    };
    let [bob, carol, dave] = ["bob", "carol", "dave"].map(|name| Person::new(fixture, name));
    let refused = |result: Result<String>, why: &str| {
        let said = result.expect_err("it is refused").to_string();
        assert!(said.contains(why), "{said}");
    };
    refused(bob.login("m1", &[]), "did not come in by a token");

    // Two at once, at two masters.
    let first = token(&[]);
    let racers = [(&bob, "m1"), (&carol, "m2")];
    let came = std::thread::scope(|scope| {
        let racing = racers.map(|(person, at)| {
            let words = ["--token", &first];
            scope.spawn(move || person.login(at, &words))
        });
        racing.map(|racer| racer.join().expect("no panic"))
    });
    let (winner, loser) = match came {
        [Ok(_), Err(_)] => (&bob, &carol),
        [Err(_), Ok(_)] => (&carol, &bob),
        both => panic!("a token is good once: {both:?}"),
    };
    refused(loser.login("m3", &["--token", &first]), "no such token");
    for master in ["m1", "m2", "m3"] {
        winner.is_operator_of(fixture, master, true);
    }

    // Whose time is over, who was taken back, and whose maker is out.
    let short = token(&["--ttl", "1s"]);
    fixture.wait_until("a token to expire", A_MINUTE, || {
        let told = fixture.mastctl(&["operators", "list", "-o", "json"]);
        let told: Value = serde_json::from_str(&fixture.expect(told)).expect("JSON");
        Look::at(told["tokens"] == json!([]), || told["tokens"].to_string())
    });
    refused(loser.login("m1", &["--token", &short]), "has expired");
    let taken_back = token(&[]);
    let id = taken_back.split('-').nth(1).expect("an id");
    fixture.expect(fixture.mastctl(&["operators", "remove", id]));
    refused(
        loser.login("m1", &["--token", &taken_back]),
        "no such token",
    );
    let made = fixture.expect(winner.mastctl(&["token", "-o", "json"]));
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let made = made["token"].as_str().expect("a token");
    // A master whose own member hangs asks the others.
    fixture.expect(node(fixture, "m3").signal("etcd", Signal::Stop));
    let gone = fixture.expect(fixture.mastctl(&["operators", "remove", &winner.key, "-n", "m1"]));
    refused(
        winner.mastctl(&["token", "-n", "m3"]),
        "no operator's any more",
    );
    fixture.expect(node(fixture, "m3").signal("etcd", Signal::Continue));
    assert!(gone.contains("and the tokens"), "{gone}");
    refused(dave.login("m1", &["--token", made]), "no such token");
    for master in ["m1", "m2", "m3"] {
        winner.is_operator_of(fixture, master, false);
    }
    refused(winner.login("m2", &[]), "did not come in by a token");
}

/// Somebody with a key and a configuration of their own.
struct Person<'f> {
    fixture: &'f Fixture,
    configuration: PathBuf,
    private_key: PathBuf,
    key: String,
}

impl<'f> Person<'f> {
    fn new(fixture: &'f Fixture, name: &str) -> Self {
        let directory = fixture.cluster.directory();
        let configuration = directory.mastctl_configuration();
        let own = |kind: &str| configuration.with_file_name(format!("{name}.{kind}"));
        let mut person = Self {
            fixture,
            configuration: own("toml"),
            private_key: own("key"),
            key: String::new(),
        };
        // They know the masters and their authority.
        std::fs::copy(&configuration, &person.configuration).expect("a copy");
        let file = person.private_key.to_str().expect("text");
        let made = fixture.expect(person.mastctl(&["keygen", "--file", file]));
        let mut words = made.split_whitespace();
        let key = words.find(|word| word.starts_with("mk1-"));
        key.expect("a public key").clone_into(&mut person.key);
        person
    }

    fn mastctl(&self, words: &[&str]) -> Result<String> {
        let directory = self.fixture.cluster.directory();
        let mut command = Command::new(directory.programs().join("mastctl"));
        command.env("MASTCTL_CONFIG", &self.configuration);
        run(command.args(["--timeout", "10s"]).args(words))
    }

    fn login(&self, at: &str, words: &[&str]) -> Result<String> {
        let key = self.private_key.to_str().expect("text");
        self.mastctl(&[&["login", at, "--key", key], words].concat())
    }

    /// Waits until a master takes this one for an operator, or not.
    fn is_operator_of(&self, fixture: &Fixture, master: &str, wanted: bool) {
        let what = format!("{master} to take {} for an operator: {wanted}", self.key);
        fixture.wait_until(&what, A_MINUTE, || {
            let told = self.mastctl(&["certs", "-n", master]);
            Look::at(told.is_ok() == wanted, || format!("{told:?}"))
        });
    }
}

fn wait_for_availability(fixture: &Fixture, asked: &str, is_it: impl Fn(&Value) -> bool) {
    fixture.wait_until(&format!("what {asked} says of all"), A_MINUTE, || {
        let told = availability_by(fixture, asked);
        Look::at(is_it(&told), || told.to_string())
    });
}
