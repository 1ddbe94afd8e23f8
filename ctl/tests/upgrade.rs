//! `mastctl upgrade` over real TLS: what is sent, what is refused, and what is said of it.

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::fs;

use support::images::{bundle, uuid};
use support::{Mastctl, TestNode};

/// Larger than what is under way in sockets and channels.
const BYTES: usize = 24 << 20;

/// A node, an operator who is logged in, and a bundle of that version in a file.
fn stage(version: &str) -> (TestNode, Mastctl, String) {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    let run = mastctl.login(&node);
    assert_eq!(run.code, 0, "{run:?}");
    let file = mastctl.path("image.bundle");
    fs::write(&file, bundle(version, BYTES)).expect("written");
    (node, mastctl, file.display().to_string())
}

#[test]
fn a_bundle_is_sent_whole_and_the_node_goes_into_it() {
    let (node, mastctl, file) = stage("0.2.0");
    let run = mastctl.run(&["upgrade", "--plan", "--accept-outage", "m1", &file]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("to 0.2.0 with v1.36.4"), "{run:?}");
    assert!(node.seen.lock().unwrap().images.is_empty(), "it is a plan");

    let run = mastctl.run(&["upgrade", "m1", &file]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("m1: is good"), "{run:?}");
    assert_eq!(node.seen.lock().unwrap().images, [uuid("0.2.0")]);

    // To take it up again is to do nothing.
    let run = mastctl.run(&["upgrade", "m1", &file, "-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.json()["nodes"][0]["outcome"], "unchanged");
    assert_eq!(node.seen.lock().unwrap().images.len(), 1);

    let run = mastctl.run(&["upgrade", "status"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains(&uuid("0.2.0")), "{run:?}");
    assert!(run.stdout.contains("good"), "{run:?}");
}

#[test]
fn a_node_that_is_back_with_its_last_image_says_why() {
    let (_node, mastctl, file) = stage("0.3.0");
    let run = mastctl.run(&["upgrade", "m1", &file, "-o", "json"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(run.error()["code"], "image-failed", "{run:?}");
    assert!(
        run.stderr.contains("kube-apiserver is backing-off"),
        "{run:?}"
    );
    let run = mastctl.run(&["upgrade", "status"]);
    assert!(run.stdout.contains("was tried and was not good"), "{run:?}");
}

#[test]
fn a_bundle_that_is_not_whole_or_not_signed_changes_nothing() {
    let (node, mastctl, file) = stage("0.2.0");
    let whole = fs::read(&file).expect("there");
    let run = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&file, bytes).expect("written");
        mastctl.run(&["upgrade", "m1", &file, "-o", "json"])
    };
    let cut = run(&|bytes| bytes.truncate(BYTES / 2));
    assert_eq!(
        (cut.code, cut.error()["code"].as_str()),
        (2, Some("bad-bundle")),
        "{cut:?}"
    );
    let foreign = run(&|bytes| bytes.truncate(0));
    assert_eq!(foreign.error()["code"], "bad-bundle", "{foreign:?}");
    let signature = run(&|bytes| {
        let at = bytes.len() - BYTES - 1;
        bytes[at] ^= 1;
    });
    assert_eq!(signature.code, 2, "{signature:?}");
    assert!(
        signature.stderr.contains("not signed by any of the keys"),
        "{signature:?}"
    );
    let payload = run(&|bytes| *bytes.last_mut().expect("some") ^= 1);
    assert_eq!(payload.code, 2, "{payload:?}");
    assert!(payload.stderr.contains("block 23"), "{payload:?}");
    let seen = node.seen.lock().unwrap();
    assert!(seen.images.is_empty() && seen.power.is_empty(), "{seen:?}");
}

#[test]
fn a_refusal_is_heard_while_the_rest_is_still_on_its_way() {
    let (_node, mastctl, file) = stage("9.9.9");
    let run = mastctl.run(&["upgrade", "m1", &file]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("nobody wants that one"), "{run:?}");
}

#[test]
fn masters_are_named_once() {
    let (_node, mastctl, file) = stage("0.2.0");
    for arguments in [
        &["upgrade", file.as_str()][..],
        &["upgrade", "m1", &file, "--all"],
        &["upgrade", "m1", &file, "-n", "m1"],
    ] {
        let run = mastctl.run(arguments);
        assert_eq!(run.code, 2, "{run:?}");
    }
    let run = mastctl.run(&["upgrade"]);
    assert_eq!(run.code, 2, "{run:?}");
}
