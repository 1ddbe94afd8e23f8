//! Upgrades over the network, in namespaces at real constants: the lab is firmware and boot loader there, and each node has a disk that it boots from.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    thread,
    time::Duration,
};

use fixture::Fixture;
use masters::{A_MINUTE, THREE, node};
use masthead_imagebuild::bundle::generate_key;
use masthead_lab::{
    error::{Attempt as _, Result, chain},
    image::{other_image, release, unified_kernel_image},
    patience::Look,
    plan::ClusterPlan,
    provider::{PowerChange, ProviderKind},
    writers::{Pace, Writers},
};
use serde_json::Value;

/// A client's patience with one try.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Power cuts, spread over what an upgrade takes, and denser at its beginning.
const CUTS: u32 = 20;
/// An upload, a boot and the trial, at short deadlines.
const LONGEST_UPGRADE: Duration = Duration::from_secs(25);

/// Of every deadline: a minute is twelve seconds.
const SHORT: f64 = 0.2;

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

    /// mastctl at work.
    fn begin(&self, arguments: &[&str]) -> Child {
        let mut mastctl = self.fixture.cluster.mastctl();
        mastctl
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        mastctl.spawn().expect("mastctl runs")
    }

    fn wait_for(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.fixture
            .wait_until(what, 3 * A_MINUTE, || match self.fixture.status_of(name) {
                Ok(status) if is_so(&status) => Look::Done(status),
                Ok(status) => Look::NotYet(format!(
                    "{} {}",
                    status["installation"], status["etcd"]["disruption"]
                )),
                Err(error) => Look::NotYet(chain(&error)),
            })
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

fn lock_is_free(status: &Value) -> bool {
    status["etcd"].is_object() && status["etcd"]["disruption"].is_null()
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
        let status = stage.wait_for(name, "the lock to be free", lock_is_free);
        assert_eq!(status["node"]["version"], "0.1.1", "{status}");
        assert_eq!(status["installation"]["slot"], "B", "{status}");
        assert_eq!(status["installation"]["on_trial"], false, "{status}");
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

/// One master, whose deadlines are short: what it refuses, an image that never comes up, and there and back.
#[test]
fn a_master_comes_back_from_whatever_it_is_sent() {
    let stage = Stage::ready(|plan| plan.timing_scale = SHORT);
    let image = unified_kernel_image(&stage.fixture.m1().plan().image);
    let first = stage.fixture.expect(release(&stage.fixture.expect(image)));
    bundles_that_are_not_for_it_are_refused(&stage);
    one_whose_pid_1_ends_is_tried_twice(&stage);

    let good = stage.bundle("0.1.1", |_| Ok(()));
    stage.done(&["upgrade", "m1", &good, "--accept-outage"]);
    let status = stage.status("m1");
    assert_eq!(status["node"]["version"], "0.1.1", "{status}");
    assert_eq!(status["installation"]["failed"], Value::Null, "{status}");

    let back = stage.done(&["rollback", "m1", "--accept-outage"]);
    assert_eq!(back, format!("m1: back to Masthead {}\n", first.version));
    assert_eq!(stage.status("m1")["node"]["image"], first.image);
}

/// The gate's patience is ten minutes, and two at these deadlines; PID 1's with supervisors that end is five.
#[test]
#[ignore = "some minutes, in which a master waits in vain; make soak runs it"]
fn an_image_that_does_not_serve_is_given_up_and_good_ones_follow_each_other() {
    let stage = Stage::ready(|plan| plan.timing_scale = SHORT);
    one_whose_apiserver_does_not_start_is_given_up(&stage);
    one_whose_supervisor_ends_reboots_by_itself(&stage);
    let good = stage.bundle("0.1.1", |_| Ok(()));
    stage.done(&["upgrade", "m1", &good, "--accept-outage"]);
    stage.done(&["rollback", "m1", "--accept-outage"]);
    stage.done(&["upgrade", "m1", &good, "--accept-outage"]);
    // What runs, once more.
    stage.done(&["upgrade", "m1", &good, "--accept-outage", "--again"]);
    let status = stage.status("m1");
    assert_eq!(status["node"]["version"], "0.1.1", "{status}");
    // The first, there, back, there, and there again: what was not good leaves no generation behind.
    assert_eq!(status["installation"]["generation"], 5, "{status}");
}

/// Whoever asks second is refused, whoever goes away in the middle is not needed, and nobody goes while it would be one too many.
#[test]
#[ignore = "some minutes of trials; make soak runs it"]
fn two_upgrades_at_once_a_lost_client_and_a_master_that_is_down() {
    let stage = Stage::ready(|plan| plan.masters = 3);
    let fixture = &stage.fixture;
    let bundle = stage.bundle("0.1.1", |_| Ok(()));

    node(fixture, "m3").cut_power().expect("it is on");
    let refused = stage.mastctl(&["upgrade", "m1", &bundle]);
    assert_eq!(refused.status.code(), Some(2), "{}", error_of(&refused));
    assert!(
        error_of(&refused).contains("2 are needed"),
        "{}",
        error_of(&refused)
    );
    assert_eq!(stage.status("m1")["node"]["version"], "0.1.0");
    fixture.expect(fixture.cluster.power_on());
    fixture.expect(fixture.cluster.wait_until_ready());

    let mut first = stage.begin(&["upgrade", "m1", &bundle]);
    stage.wait_for("m1", "a trial", |status| {
        status["installation"]["on_trial"] == true
    });
    let refused = stage.mastctl(&["upgrade", "m2", &bundle]);
    assert_eq!(refused.status.code(), Some(2), "{}", error_of(&refused));
    assert!(
        error_of(&refused).contains("m1 holds the disruption lock"),
        "{}",
        error_of(&refused)
    );
    // Nor is an image written over its way back.
    let refused = stage.mastctl(&["upgrade", "m1", &bundle, "--again"]);
    assert!(
        error_of(&refused).contains("on trial itself"),
        "{}",
        error_of(&refused)
    );
    first
        .kill()
        .and_then(|()| first.wait())
        .expect("it goes away");

    // The same once more, which waits for what was begun, and goes on with the others.
    stage.done(&["upgrade", "m1", "m2", &bundle]);
    for (name, version) in [("m1", "0.1.1"), ("m2", "0.1.1"), ("m3", "0.1.0")] {
        // What a master says of etcd is some seconds old.
        let status = stage.wait_for(name, "the lock to be free", lock_is_free);
        assert_eq!(status["node"]["version"], version, "{name}: {status}");
    }
}

/// Whenever it comes, the master is back with one of the two images, which is good in the end, and nothing is left of the upgrade.
#[test]
#[ignore = "some minutes of power cuts; make soak runs it"]
fn a_power_cut_at_any_moment_of_an_upgrade_leaves_a_master_that_comes_back() {
    let stage = Stage::ready(|plan| plan.timing_scale = SHORT);
    let bundles = ["0.1.1", "0.1.2"].map(|version| stage.bundle(version, |_| Ok(())));
    let mut upgraded = 0;
    for round in 0..CUTS {
        let before = stage.status("m1")["node"]["image"].clone();
        let bundle = &bundles[usize::from(round % 2 == 1)];
        let mut upgrade = stage.begin(&["upgrade", "m1", bundle, "--accept-outage", "--again"]);
        // From the upload, which takes a second, to the end of the trial.
        let part = f64::from(round) / f64::from(CUTS);
        thread::sleep(LONGEST_UPGRADE.mul_f64(part * part));
        stage.fixture.expect(stage.fixture.m1().cut_power());
        upgrade
            .kill()
            .and_then(|()| upgrade.wait())
            .expect("it goes away");
        stage.fixture.expect(stage.fixture.cluster.power_on());
        stage
            .fixture
            .expect(stage.fixture.cluster.wait_until_ready());
        let status = stage.wait_for("m1", "a good image, and the lock given back", |status| {
            status["installation"]["on_trial"] == false
                && status["etcd"]["disruption"].is_null()
                && status["etcd"].is_object()
        });
        let after = &status["node"]["image"];
        println!(
            "cut {round}: {before} to {after}, {}",
            status["installation"]
        );
        upgraded += u32::from(*after != before);
        stage
            .fixture
            .expect(stage.fixture.kubectl(&["get", "namespace", "default"]));
    }
    assert!(
        (1..CUTS).contains(&upgraded),
        "{upgraded} of {CUTS} went through"
    );
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

fn one_whose_supervisor_ends_reboots_by_itself(stage: &Stage) {
    let bundle = stage.bundle("0.2.3", |tree| {
        fs::copy(
            env!("CARGO_BIN_EXE_init-without-supervisor"),
            tree.join("init"),
        )
        .map(drop)
        .attempt(|| "replace /init")
    });
    let shown = support::console(stage.fixture.m1()).len();
    let output = stage.mastctl(&["upgrade", "m1", &bundle, "--accept-outage"]);
    let error = error_of(&output);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("it was started 2 times"), "{error}");
    let console = support::console(stage.fixture.m1());
    let gave_up = console[shown..].matches("no supervisor has said anything for too long");
    assert_eq!(gave_up.count(), 2, "{}", &console[shown..]);
    is_back(stage);
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
