//! Upgrades over the network, in namespaces at real constants: the lab is firmware and boot loader there, and each node has a disk that it boots from.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use fixture::Fixture;
use masters::{THREE, node};
use masthead_imagebuild::bundle::generate_key;
use masthead_lab::{
    error::{Attempt as _, Result},
    image::{other_image, release, unified_kernel_image},
    plan::ClusterPlan,
    provider::{PowerChange, ProviderKind},
    writers::{Pace, Writers},
};
use serde_json::Value;

/// A client's patience with one try, as in `clients.rs`: the kernel sends a first segment that was lost again after a second.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Masters that boot from disks of their own, and the key whose signatures they trust.
struct Stage {
    fixture: Fixture,
    key: PathBuf,
    folder: tempfile::TempDir,
}

impl Stage {
    fn ready(change: impl FnOnce(&mut ClusterPlan)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("image.key");
        let public = generate_key(&key).expect("a key pair");
        let fixture = Fixture::off(ProviderKind::Namespace, |plan, _| {
            plan.boots_from_disk = true;
            plan.image_keys = vec![public.to_string()];
            change(plan);
        });
        fixture.expect(fixture.cluster.power_on());
        fixture.expect(fixture.cluster.wait_until_ready());
        Self {
            fixture,
            key,
            folder,
        }
    }

    /// The signed bundle of another image.
    fn bundle(&self, version: &str, change: impl FnOnce(&Path) -> Result<()>) -> String {
        let image = &self.fixture.m1().plan().image;
        let made = other_image(image, self.folder.path(), version, &self.key, change);
        self.fixture.expect(made).display().to_string()
    }

    fn mastctl(&self, arguments: &[&str]) -> Output {
        let mut mastctl = self.fixture.cluster.mastctl();
        let run = mastctl.args(["--timeout", "10s"]).args(arguments).output();
        let output = run.expect("mastctl runs");
        eprintln!(
            "mastctl {arguments:?}: {}\n{}",
            output.status,
            error_of(&output)
        );
        output
    }

    /// The same, which must succeed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.mastctl(arguments);
        assert!(output.status.success(), "{}", error_of(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn status(&self, name: &str) -> Value {
        self.fixture.expect(self.fixture.status_of(name))
    }
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Three masters go from one image to the next, one after the other, and clients of the virtual address notice nothing that one retry does not mend.
#[test]
fn three_masters_are_upgraded_one_after_the_other_and_clients_go_on() {
    let stage = Stage::ready(|plan| plan.masters = 3);
    let fixture = &stage.fixture;
    let bundle = stage.bundle("0.1.1", |_| Ok(()));
    let planned = stage.done(&["upgrade", "--all", "--plan", &bundle]);
    assert!(planned.contains("m1: from Masthead"), "{planned}");
    assert!(planned.contains("takes the disruption lock"), "{planned}");
    let owner = fixture.expect(fixture.cluster.vip_owner());
    assert!(
        planned
            .lines()
            .rfind(|line| line.contains(": from Masthead"))
            .is_some_and(|line| line.starts_with(&owner)),
        "the owner is the last one: {planned}"
    );

    let pace = Pace {
        timeout: TIMEOUT,
        pause: Duration::from_millis(100),
        retry: Pace::CALM,
    };
    let writers = fixture.expect(Writers::through_endpoint(&fixture.cluster, 8, pace));
    stage.done(&["upgrade", "--all", &bundle]);
    let written = writers.stop();
    println!(
        "{} writes, longest gap {:?}",
        written.count(),
        written.longest_gap(None)
    );
    let twice = written.failed_twice();
    assert!(
        twice.is_empty(),
        "of {} writes: {twice:#?}",
        written.count()
    );
    for name in THREE {
        let missing = fixture.expect(written.missing(&fixture.cluster, name));
        assert!(missing.is_empty(), "{name} has lost {missing:?}");
        let status = stage.status(name);
        assert_eq!(status["node"]["version"], "0.1.1", "{status}");
        assert_eq!(status["installation"]["slot"], "B", "{status}");
        assert_eq!(status["installation"]["on_trial"], false, "{status}");
        assert_eq!(status["etcd"]["disruption"], Value::Null, "{status}");
        let history = node(fixture, name).history();
        let reboots = history
            .iter()
            .filter(|event| event.change == PowerChange::Rebooted);
        assert_eq!(reboots.count(), 1, "{name}: {history:?}");
        let process = fixture.expect(node(fixture, name).init_process());
        let snapshots = fs::read_dir(format!("/proc/{process}/root/data/snapshots"));
        let snapshots: Vec<_> = snapshots.expect("a folder").flatten().collect();
        assert_eq!(snapshots.len(), 1, "{name}: {snapshots:?}");
    }

    // Taken up again, there is nothing left to do.
    let again = stage.done(&["-o", "json", "upgrade", "--all", &bundle]);
    let again: Value = serde_json::from_str(&again).expect("JSON");
    let outcomes: Vec<_> = again["nodes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|node| &node["outcome"])
        .collect();
    assert_eq!(outcomes, ["unchanged"; 3]);
    let told = stage.done(&["upgrade", "status"]);
    assert_eq!(told.matches("good").count(), 3, "{told}");
}

/// There and back, with images that are not good in between: one after the other on one master, whose deadlines are short.
#[test]
fn a_master_comes_back_from_whatever_it_is_sent() {
    let stage = Stage::ready(|plan| plan.timing_scale = 0.2);
    let image = unified_kernel_image(&stage.fixture.m1().plan().image);
    let first = stage.fixture.expect(release(&stage.fixture.expect(image)));
    bundles_that_are_not_for_it_are_refused(&stage);
    one_whose_pid_1_ends_is_tried_twice(&stage);
    one_whose_apiserver_does_not_start_is_given_up(&stage);

    let good = stage.bundle("0.1.1", |_| Ok(()));
    stage.done(&["upgrade", "m1", &good, "--accept-outage"]);
    let status = stage.status("m1");
    assert_eq!(status["node"]["version"], "0.1.1", "{status}");
    assert_eq!(status["installation"]["failed"], Value::Null, "{status}");

    let back = stage.done(&["rollback", "m1", "--accept-outage"]);
    assert_eq!(back, format!("m1: back to Masthead {}\n", first.version));
    assert_eq!(stage.status("m1")["node"]["image"], first.image);

    // Again, and what runs once more.
    stage.done(&["upgrade", "m1", &good, "--accept-outage"]);
    stage.done(&["upgrade", "m1", &good, "--accept-outage", "--again"]);
    let status = stage.status("m1");
    assert_eq!(status["node"]["version"], "0.1.1", "{status}");
    // The first, there, back, there, and there again: what was not good leaves no generation behind.
    assert_eq!(status["installation"]["generation"], 5, "{status}");
}

fn bundles_that_are_not_for_it_are_refused(stage: &Stage) {
    let good = stage.bundle("0.1.1", |_| Ok(()));
    let bytes = fs::read(&good).expect("there");
    let refused = |why: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        fs::write(&good, changed).expect("written");
        let output = stage.mastctl(&["upgrade", "m1", &good, "--accept-outage"]);
        let error = error_of(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(why), "{error}");
    };
    refused("its header says that it has", &|bytes| {
        bytes.truncate(bytes.len() / 2);
    });
    refused("not signed by any of the keys", &|bytes| bytes[300] ^= 1);
    refused("of the bundle's image is damaged", &|bytes| {
        let at = bytes.len() % (1 << 20) + (21 << 20);
        bytes[at - 1] ^= 1;
    });
    let other = stage.folder.path().join("other.key");
    generate_key(&other).expect("a key pair");
    let image = &stage.fixture.m1().plan().image;
    let bundle = stage.folder.path().join("other.bundle");
    let image = stage.fixture.expect(unified_kernel_image(image));
    masthead_imagebuild::bundle::make(&image, &other, &bundle).expect("made");
    let output = stage.mastctl(&["upgrade", "m1", &bundle.display().to_string(), "--again"]);
    assert_eq!(output.status.code(), Some(2), "{}", error_of(&output));
    // Nothing was written over but what nobody starts.
    let output = stage.mastctl(&["rollback", "m1", "--accept-outage"]);
    assert_eq!(output.status.code(), Some(2), "{}", error_of(&output));
    let status = stage.status("m1");
    assert_eq!(status["installation"]["slot"], "A", "{status}");
    assert_eq!(status["etcd"]["disruption"], Value::Null, "{status}");
}

fn one_whose_pid_1_ends_is_tried_twice(stage: &Stage) {
    let bundle = stage.bundle("0.2.1", |tree| {
        // Some program that ends by itself.
        fs::copy(tree.join("sbin/e2fsck"), tree.join("init"))
            .map(drop)
            .attempt(|| "replace /init")
    });
    let output = stage.mastctl(&["upgrade", "m1", &bundle, "--accept-outage"]);
    let error = error_of(&output);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("it was started 2 times"), "{error}");
    is_back(stage);
}

fn one_whose_apiserver_does_not_start_is_given_up(stage: &Stage) {
    let bundle = stage.bundle("0.2.2", |tree| {
        let path = tree.join("bin/kube-apiserver");
        fs::remove_file(&path)
            .and_then(|()| fs::copy(tree.join("sbin/e2fsck"), &path))
            .map(drop)
            .attempt(|| "replace kube-apiserver")
    });
    let output = stage.mastctl(&["upgrade", "m1", &bundle, "--accept-outage"]);
    let error = error_of(&output);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("kube-apiserver is"), "{error}");
    is_back(stage);
    let told = stage.done(&["upgrade", "status"]);
    assert!(
        told.contains("Masthead 0.2.2 was tried and was not good"),
        "{told}"
    );
}

fn is_back(stage: &Stage) {
    let status = stage.status("m1");
    assert_eq!(status["installation"]["slot"], "A", "{status}");
    assert_eq!(status["installation"]["on_trial"], false, "{status}");
    assert_eq!(status["etcd"]["disruption"], Value::Null, "{status}");
    stage
        .fixture
        .expect(stage.fixture.kubectl(&["get", "namespace", "default"]));
}
