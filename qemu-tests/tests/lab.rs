//! The `lab` program itself: that it leaves nothing behind, however it ends.

mod support;

use std::{
    fs,
    io::{PipeWriter, Read, pipe},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use masthead_lab::patience::{Look, Patience};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use support::{attached_loops, cluster_groups, stand_in_image};

/// A lab with a stand-in image, which never becomes ready, and stand-ins for its programs.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let image = stand_in_image(folder.path());
        fs::create_dir(image.join("components")).expect("make a folder");
        fs::write(image.join("components/kubectl"), "").expect("write a stand-in");
        // The lab looks for mastctl beside itself.
        fs::hard_link(env!("CARGO_BIN_EXE_lab"), folder.path().join("lab"))
            .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_lab"), folder.path().join("lab")).map(drop))
            .expect("place the lab");
        fs::copy(
            env!("CARGO_BIN_EXE_stand-in-mastctl"),
            folder.path().join("mastctl"),
        )
        .expect("place the stand-in for mastctl");
        Self { folder }
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join(".lab")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join("lab"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("run lab")
    }

    /// Starts `lab up`, and returns when the node runs; it waits for readiness in vain.
    fn up(&self) -> (Child, Value) {
        (self.spawn_up(), self.await_node())
    }

    fn spawn_up(&self) -> Child {
        self.command(&["up", "--provider", "namespace", "--image", "."])
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start lab up")
    }

    /// The same of a command that succeeds, with its result as JSON.
    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Executes one line of a script in a node that runs.
    fn inside(&self, node: &str, line: &str) -> String {
        let output = self.run(&["exec", node, "--", "/init", "--once", line]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the node runs, and returns what `lab status` says then.
    fn await_node(&self) -> Value {
        Patience::new(1.0)
            .wait_until("lab status", Duration::from_secs(10), || {
                let output = self.run(&["status", "--output", "json"]);
                match serde_json::from_slice(&output.stdout) {
                    Ok(status) => Look::Done(status),
                    Err(_) => Look::NotYet(String::from_utf8_lossy(&output.stderr).into_owned()),
                }
            })
            .expect("the cluster runs")
    }

    /// Waits until nothing of the cluster is left but what `folder` says. File systems end no sooner than the disk below
    /// them gets round to it, which others may keep busy.
    fn wait_until_gone(&self, init: i32, groups: &[PathBuf], folder_too: bool) {
        Patience::new(1.0)
            .wait_until("everything to be gone", Duration::from_secs(60), || {
                let process = Path::new(&format!("/proc/{init}")).exists();
                let loops = attached_loops(self.folder.path());
                let groups: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
                let folder = folder_too && self.directory().exists();
                Look::at(!process && loops == 0 && groups.is_empty() && !folder, || {
                    format!("PID 1 {process}, loop devices {loops}, groups {groups:?}, folder {folder}")
                })
            })
            .expect("nothing is left");
    }
}

/// A test that fails must not leave its daemon, which lives in a session of its own.
impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

fn init_process(status: &Value) -> i32 {
    let pid = status["nodes"][0]["init_process"]
        .as_i64()
        .expect("a process id");
    i32::try_from(pid).expect("a process id")
}

fn signal(process: i32, signal: Signal) {
    kill(Pid::from_raw(process), signal).expect("signal our own process");
}

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a process id")
}

#[test]
fn down_leaves_nothing_behind() {
    let lab = Lab::new();
    let (mut up, status) = lab.up();
    let (init, groups) = (init_process(&status), cluster_groups(init_process(&status)));
    assert!(attached_loops(lab.folder.path()) > 0);

    let again = lab.run(&["up", "--provider", "namespace", "--image", "."]);
    assert!(again.status.success(), "a second up is no failure");
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains("The cluster runs already"), "{text}");
    let configuration = lab.directory().canonicalize().expect("it is there");
    let line = format!(
        "export MASTCTL_CONFIG={}/mastctl.toml",
        configuration.display()
    );
    assert!(text.contains(&line), "good in every working folder: {text}");

    let namespace = ["up", "--provider", "namespace", "--image", "."];
    let others = [
        (
            [&namespace[..], &["--masters", "3"]].concat(),
            "has 1 master, not 3",
        ),
        (
            vec!["up", "--image", "."],
            "is of provider namespace, not vm",
        ),
        (
            [&namespace[..3], &["--image", "tree"]].concat(),
            "runs the image in",
        ),
    ];
    for (arguments, difference) in others {
        let other = lab.run(&arguments);
        assert!(!other.status.success(), "{arguments:?}: {other:?}");
        let text = String::from_utf8_lossy(&other.stderr);
        assert!(
            text.contains(difference) && text.contains("lab down"),
            "{text}"
        );
    }
    // What is written into a pipe that nobody reads any more is no failure.
    for stream in [Command::stdout::<PipeWriter>, Command::stderr] {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let mut status = lab.command(&["status", "--output", "json"]);
        stream(&mut status, writer);
        assert_eq!(status.status().expect("it ends").code(), Some(0));
    }

    let down = lab.run(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert!(
        !up.wait().expect("its end").success(),
        "up did not get its cluster"
    );
    lab.wait_until_gone(init, &groups, true);
    let none = lab.run(&["status"]);
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("no cluster runs"),
        "{none:?}"
    );
}

#[test]
fn control_c_during_up_leaves_nothing_behind() {
    let lab = Lab::new();
    let (mut up, status) = lab.up();
    let (init, groups) = (init_process(&status), cluster_groups(init_process(&status)));
    signal(pid(&up), Signal::SIGINT);
    up.wait().expect("its end");
    lab.wait_until_gone(init, &groups, true);
}

#[test]
fn the_daemon_keeps_nothing_open_of_its_caller() {
    let lab = Lab::new();
    // As from a shell that reads the output through a pipe, and lets a copy of it slip through.
    let mut up = Command::new("sh")
        .args(["-c", "exec \"$0\" \"$@\" 7>&1"])
        .arg(lab.folder.path().join("lab"))
        .args(["up", "--provider", "namespace", "--image", "."])
        .current_dir(lab.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start lab up");
    let mut output = up.stdout.take().expect("a pipe");
    lab.await_node();
    assert!(lab.run(&["power-cut", "m1"]).status.success());
    up.wait().expect("up gives up when a node is off");
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(output.read_to_end(&mut Vec::new())));
    end.recv_timeout(Patience::new(1.0).of(Duration::from_secs(5)))
        .expect("the reader sees the end of the output")
        .expect("read the output");
    assert!(
        lab.run(&["status"]).status.success(),
        "the daemon lives meanwhile"
    );
    assert!(lab.run(&["down"]).status.success());
}

#[test]
fn a_crash_of_the_daemon_leaves_nothing_that_runs() {
    let lab = Lab::new();
    let (mut up, status) = lab.up();
    let (init, groups) = (init_process(&status), cluster_groups(init_process(&status)));
    signal(support::parent(support::parent(init)), Signal::SIGKILL);
    up.wait().expect("its end");
    // The cluster's own group is empty now, and the next lab removes it.
    let nodes: Vec<PathBuf> = groups.iter().map(|group| group.join("m1")).collect();
    lab.wait_until_gone(init, &nodes, false);

    let (mut up, status) = lab.up();
    assert_ne!(
        init_process(&status),
        init,
        "a new cluster in the stale folder"
    );
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    assert!(lab.run(&["down"]).status.success());
    up.wait().expect("its end");
}

#[test]
fn a_crash_of_daemon_and_launcher_leaves_nothing_that_runs() {
    let lab = Lab::new();
    let (mut up, status) = lab.up();
    let (init, groups) = (init_process(&status), cluster_groups(init_process(&status)));
    let launcher = support::parent(init);
    let daemon = support::parent(launcher);
    // Stopped first, so that neither sees the other go.
    signal(launcher, Signal::SIGSTOP);
    signal(daemon, Signal::SIGKILL);
    signal(launcher, Signal::SIGKILL);
    up.wait().expect("its end");
    lab.wait_until_gone(init, &[], false);
    assert!(
        lab.run(&["down"]).status.success(),
        "down cleans up after a dead lab"
    );
    assert!(!lab.directory().exists());
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}

/// Whoever started the lab is killed before the daemon listens, and `lab down` comes at once.
#[test]
fn a_cluster_can_be_ended_while_it_is_being_started() {
    let lab = Lab::new();
    for _ in 0..3 {
        let mut up = lab.spawn_up();
        Patience::new(1.0)
            .wait_until("the folder", Duration::from_secs(10), || {
                Look::at(lab.directory().exists(), || "not there".to_owned())
            })
            .expect("the daemon begins");
        signal(pid(&up), Signal::SIGKILL);
        up.wait().expect("its end");
        let down = lab.run(&["down"]);
        assert!(down.status.success(), "{down:?}");
        Patience::new(1.0)
            .wait_until("everything to be gone", Duration::from_secs(10), || {
                let loops = attached_loops(lab.folder.path());
                let folder = lab.directory().exists();
                Look::at(loops == 0 && !folder, || {
                    format!("loop devices {loops}, folder {folder}")
                })
            })
            .expect("nothing is left");
    }
}

#[test]
fn power_link_disk_and_services_can_be_changed_and_inspected() {
    let lab = Lab::new();
    let (mut up, _) = lab.up();
    let done = |arguments: &[&str]| lab.done(arguments);
    done(&["link", "m1", "down"]);
    done(&["link", "m1", "up"]);
    done(&["disk", "m1", "etcd", "stall"]);
    assert_eq!(done(&["disk", "m1", "etcd", "restore"])["effective"], "now");
    assert_eq!(
        done(&["disk", "m1", "data", "read-only"])["effective"],
        "now"
    );
    assert_eq!(
        done(&["disk", "m1", "data", "restore"])["effective"],
        "next-power-on"
    );
    let refused = lab.run(&["kill", "m1", "etcd"]);
    assert!(!refused.status.success(), "the stand-in runs no etcd");

    let saved = lab.directory().join("saved");
    let refused = lab.run(&["save", saved.to_str().expect("a name")]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        words.contains("a namespace node cannot be saved"),
        "{words}"
    );
    assert!(!refused.status.success() && !saved.exists());

    let inside = lab.run(&[
        "exec",
        "m1",
        "--",
        "/init",
        "--once",
        "show /host/seed.toml",
    ]);
    assert!(
        String::from_utf8_lossy(&inside.stdout).contains("mh1-stand-in"),
        "{inside:?}"
    );

    done(&["power-cut", "m1"]);
    assert_eq!(done(&["status"])["nodes"][0]["power"], "off");
    up.wait().expect("up gives up when a node is off");
    done(&["power-on", "m1"]);
    assert_eq!(done(&["status"])["nodes"][0]["power"], "on");
    Patience::new(1.0)
        .wait_until("the console of both boots", Duration::from_secs(10), || {
            let console = lab.run(&["console", "m1"]);
            let text = String::from_utf8_lossy(&console.stdout).into_owned();
            Look::at(text.matches("stand-in: arguments").count() == 2, || text)
        })
        .expect("the console shows both boots");
    done(&["down"]);
}

/// Three nodes that know their addresses and say hello on port 7000; they are never ready, and nobody waits.
fn three_nodes() -> Lab {
    let lab = Lab::new();
    let up = ["up", "--provider", "namespace", "--image", ".", "--no-wait"];
    let machines = ["--masters", "3", "--spares", "1"];
    let off = ["--off", "m1", "--off", "m2", "--off", "m3"];
    let status = lab.done(&[&up[..], &machines, &off].concat());
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(4));
    for number in 1..=3 {
        assert_eq!(status["nodes"][number - 1]["power"], "off");
        let (node, script) = (format!("m{number}"), lab.folder.path().join("script"));
        let lines = format!("mount\nup 10.20.0.1{number}\nlisten 7000\nlist /state\n");
        fs::write(&script, lines).expect("write a script");
        lab.done(&["seed", &node, script.to_str().expect("a path")]);
        lab.done(&["power-on", &node]);
    }
    for node in ["m1", "m2", "m3"] {
        lab.wait_for_boots(node, 1);
    }
    lab
}

impl Lab {
    fn wait_for_boots(&self, node: &str, boots: usize) {
        Patience::new(1.0)
            .wait_until("the boot", Duration::from_secs(10), || {
                let console = self.run(&["console", node]);
                let text = String::from_utf8_lossy(&console.stdout).into_owned();
                let ends = text.matches("stand-in: end of the script").count();
                Look::at(ends == boots, || text)
            })
            .expect("the script was executed");
    }

    fn hears(&self, listener: &str, speaker: u8) -> bool {
        let heard = self.inside(listener, &format!("connect 10.20.0.1{speaker}:7000"));
        assert!(heard.contains("Ok") || heard.contains("Err"), "{heard}");
        heard.contains("hello")
    }

    /// That all of `pairs` hear each other, in that direction. The first try after a cut may fail: a neighbour whom
    /// nobody could ask for seconds is asked once a second, and what waited for the third question is thrown away
    /// (arp(7), `retrans_time_ms`, `mcast_solicit`).
    fn hear_again(&self, pairs: &[(&str, u8)]) {
        for (listener, speaker) in pairs {
            Patience::new(1.0)
                .wait_until("the wire", Duration::from_secs(10), || {
                    Look::at(self.hears(listener, *speaker), || {
                        format!("{listener} does not hear m{speaker}")
                    })
                })
                .expect("nothing is between them");
        }
    }
}

#[test]
fn a_partition_cuts_groups_apart_until_it_is_healed() {
    let lab = three_nodes();
    lab.hear_again(&[("m1", 2), ("m2", 3), ("m3", 1)]);
    lab.done(&["partition", "m1", "m2,m3"]);
    assert!(!lab.hears("m1", 2) && !lab.hears("m2", 1) && !lab.hears("m3", 1));
    lab.hear_again(&[("m2", 3), ("m3", 2)]);
    // Not transitive: the third hears both.
    lab.done(&["partition", "m1", "m2"]);
    assert!(!lab.hears("m1", 2));
    lab.hear_again(&[("m1", 3), ("m2", 3)]);
    // It outlives a boot.
    lab.done(&["power-cut", "m1"]);
    lab.done(&["power-on", "m1"]);
    lab.wait_for_boots("m1", 2);
    assert!(!lab.hears("m1", 2));
    lab.done(&["heal"]);
    lab.hear_again(&[("m1", 2), ("m2", 1)]);
    // Nothing that needs an answer works in either direction then.
    for direction in ["mute", "deaf"] {
        lab.done(&["partition", "m1", "m2", "--direction", direction]);
        assert!(!lab.hears("m1", 2) && !lab.hears("m2", 1), "{direction}");
        lab.hear_again(&[("m1", 3), ("m2", 3)]);
    }
    lab.done(&["heal"]);

    lab.done(&["cable", "m2", "--loss", "100"]);
    assert!(!lab.hears("m1", 2));
    lab.hear_again(&[("m1", 3)]);
    lab.done(&["cable", "m2"]);
    lab.hear_again(&[("m1", 2)]);
    for wrong in [&["m1"][..], &["m1", "m9"], &["m1", "m1"]] {
        let refused = lab.run(&[&["partition"], wrong].concat());
        assert!(!refused.status.success(), "{wrong:?}");
    }
}

#[test]
fn a_node_that_is_off_can_get_blank_disks() {
    let lab = three_nodes();
    for file in ["/state/file", "/etcd/file"] {
        let written = lab.inside("m1", &format!("write-synced {file}"));
        assert!(written.contains("Ok"), "{written}");
    }
    let refused = lab.run(&["wipe", "m1", "state"]);
    assert!(!refused.status.success(), "it is on");
    lab.done(&["power-cut", "m1"]);
    lab.done(&["wipe", "m1", "state"]);
    lab.done(&["power-on", "m1"]);
    lab.wait_for_boots("m1", 2);
    assert!(!lab.inside("m1", "list /state").contains("file"));
    assert!(lab.inside("m1", "list /etcd").contains("file"));
    lab.done(&["power-cut", "m1"]);
    lab.done(&["wipe", "m1", "all"]);
    lab.done(&["power-on", "m1"]);
    lab.wait_for_boots("m1", 3);
    assert!(!lab.inside("m1", "list /etcd").contains("file"));
}
