//! A node of PID 1 and a stand-in supervisor, in namespaces of its own.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a busy machine may add to any time.
pub(crate) const SLACK: Duration = Duration::from_secs(2);
/// How long anything may take at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often something that a busy machine may spoil is tried.
const ATTEMPTS: usize = 20;
/// `nobody`: the user of the host that is root in the node, so that a fault of ours harms nothing.
const HOST_USER: u32 = 65534;

pub(crate) struct Node {
    directory: PathBuf,
    control_group: PathBuf,
    /// unshare(1), which waits for PID 1 and then ends in the same way.
    launcher: Child,
    started: Instant,
}

impl Node {
    /// Starts a node whose supervisor behaves like this, at a timing scale of 0.1.
    pub(crate) fn start(behaviour: &str) -> Self {
        Self::start_with(behaviour, "0.1")
    }

    pub(crate) fn start_with(behaviour: &str, scale: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("masthead-pid1-{}-{number}", std::process::id());
        // PID 1 mounts over /tmp and /run, and the checkout may lie there: what the node needs must not.
        let directory = Path::new("/var/tmp").join(&name);
        fs::create_dir_all(&directory).expect("the test's directory");
        let program = directory.join("init");
        fs::copy(stand_in(), &program).expect("copied");
        fs::write(directory.join("behaviour"), behaviour).expect("written");
        fs::write(directory.join("report"), "").expect("written");
        for path in [directory.clone(), directory.join("report")] {
            chown(path, Some(HOST_USER), Some(HOST_USER)).expect("the node's own");
        }
        let control_group = make_control_group(&name);
        let log = File::create(directory.join("log")).expect("the node's log");
        let launcher = Command::new("/bin/sh")
            .args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""])
            .arg(&control_group)
            .args(["setpriv", "--clear-groups"])
            .args([
                format!("--reuid={HOST_USER}"),
                format!("--regid={HOST_USER}"),
            ])
            .args([
                "unshare",
                "--user",
                "--map-root-user",
                "--pid",
                "--fork",
                "--mount",
            ])
            .args([
                "--mount-proc",
                "--cgroup",
                "--net",
                "--uts",
                "--ipc",
                "--kill-child=KILL",
            ])
            .arg(program)
            .arg("--namespace")
            .arg(format!("--seed={}", directory.display()))
            .arg(format!("--timing-scale={scale}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .expect("setpriv and unshare of util-linux");
        Self {
            directory,
            control_group,
            launcher,
            started: Instant::now(),
        }
    }

    /// Starts a node and stops its PID 1 after its first words and before it has started a supervisor.
    pub(crate) fn stopped_early() -> Self {
        for _ in 0..ATTEMPTS {
            let node = Self::start("");
            // Not asleep in between: it gets there within milliseconds.
            while node.log().is_empty() {
                assert!(node.age() < PATIENCE, "PID 1 says nothing");
            }
            node.stop_pid1();
            if !node.log().contains("started the supervisor") {
                return node;
            }
        }
        panic!("PID 1 was never stopped in time");
    }

    /// Stops PID 1, and returns when it stands still.
    pub(crate) fn stop_pid1(&self) {
        send(self.pid1(), Signal::SIGSTOP);
        let pid1 = self.pid1();
        self.wait_until("PID 1 is stopped", || state_of(pid1) == Some('T'));
    }

    /// How the next supervisor behaves.
    pub(crate) fn behave(&self, behaviour: &str) {
        let new = self.directory.join("behaviour.new");
        fs::write(&new, behaviour).expect("written");
        fs::rename(new, self.directory.join("behaviour")).expect("renamed");
    }

    /// Lets supervisors and orphans go on that wait for it.
    pub(crate) fn let_go(&self) {
        File::create(self.directory.join("go")).expect("written");
    }

    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The rest of each line that a supervisor has reported with this beginning.
    pub(crate) fn reported(&self, beginning: &str) -> Vec<String> {
        let report = fs::read_to_string(self.directory.join("report")).expect("the report");
        report
            .lines()
            .filter_map(|line| line.strip_prefix(beginning))
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn wait_for_report(&self, beginning: &str) {
        self.wait_until(beginning, || !self.reported(beginning).is_empty());
    }

    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "waited in vain until {what}\nreport:\n{}\nlog:\n{}",
                self.reported("").join("\n"),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What PID 1 said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).expect("the log")
    }

    /// PID 1, as the host counts.
    pub(crate) fn pid1(&self) -> u32 {
        let children = children(self.launcher.id());
        *children.first().expect("PID 1 runs")
    }

    /// Descriptors that PID 1 has open, and KiB of memory that nobody shares with it.
    pub(crate) fn cost_of_pid1(&self) -> (usize, u64) {
        let process = Path::new("/proc").join(self.pid1().to_string());
        let open = fs::read_dir(process.join("fd")).expect("PID 1 runs");
        let status = fs::read_to_string(process.join("status")).expect("PID 1 runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let own = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let own = own.and_then(|own| own.parse().ok());
        (open.count(), own.expect("the kernel tells RssAnon"))
    }

    /// The children of PID 1, as the host counts.
    pub(crate) fn children_of_pid1(&self) -> Vec<u32> {
        children(self.pid1())
    }

    /// The supervisor, as the host counts.
    pub(crate) fn supervisor(&self) -> u32 {
        let is_supervisor = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"supervisor")
        };
        self.children_of_pid1()
            .into_iter()
            .find(is_supervisor)
            .expect("a supervisor runs")
    }

    /// Waits until PID 1 has ended, and says how.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.launcher.try_wait().expect("waited") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the node does not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The control groups of PID 1 and of the supervisor, below the node's root.
    pub(crate) fn control_groups(&self) -> (Vec<String>, Vec<String>) {
        let root = self
            .control_group
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let of = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("readable");
            let lines = text.lines().filter_map(|line| line.strip_prefix("0::"));
            lines
                .filter_map(|path| path.split_once(&root))
                .map(|(_, rest)| rest.into())
                .collect()
        };
        (of(self.pid1()), of(self.supervisor()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::write(self.control_group.join("cgroup.kill"), "1");
        let _ = self.launcher.wait();
        let deadline = Instant::now() + PATIENCE;
        let children = ["init", "supervisor", "services"].map(|name| self.control_group.join(name));
        for group in children.iter().chain([&self.control_group]) {
            while group.exists() && fs::remove_dir(group).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// `examples/stand_in.rs`, which cargo builds with the tests.
fn stand_in() -> PathBuf {
    let test = env::current_exe().expect("this test");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("cargo's directories");
    let program = profile.join("examples/stand_in");
    assert!(
        program.exists(),
        "build it first: cargo build -p masthead-init --example stand_in"
    );
    program
}

/// A control group that belongs to the node's user, on a host with cgroup v2 alone or beside v1.
fn make_control_group(name: &str) -> PathBuf {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let root = roots
        .into_iter()
        .find(|root| root.join("cgroup.procs").exists());
    let group = root.expect("a mounted cgroup v2").join(name);
    fs::create_dir(&group).expect("a control group");
    for file in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    ] {
        chown(group.join(file), Some(HOST_USER), Some(HOST_USER)).expect("the node's own");
    }
    fs::set_permissions(&group, PermissionsExt::from_mode(0o755)).expect("permissions");
    group
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .map(|pid| pid.parse().expect("a number"))
        .collect()
}

/// The state of a process, as proc_pid_stat(5) names it: `Z` when it is dead and not reaped; nothing when it is gone.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Sends a signal to a process of a node, as the host counts.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("signalled");
}
