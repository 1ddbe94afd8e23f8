//! Services are started with the rights they should have, and exactly once: with real control
//! groups, as root.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use caps::Capability;
use masthead_init::process::{
    Account, End, Launch, Leaf, Limits, ResourceLimit, Rights, Running, Services, StartError,
    adopt, start,
};
use masthead_machine::Random;
use nix::sys::resource::Resource;
use rustix::process::Signal;

/// How long a program may take to begin on a machine that does other things.
const TO_BEGIN: Duration = Duration::from_secs(10);

/// A control group of the test's own, gone with it.
struct Scratch {
    root: PathBuf,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields[2] == "cgroup2")
            .expect("cgroup2 is mounted")[1]
            .to_owned();
        let root = Path::new(&mount).join(format!("masthead-test-{name}-{}", std::process::id()));
        fs::create_dir(&root).unwrap();
        Self { root }
    }

    fn leaf(&self, limits: &Limits) -> Leaf {
        Services::prepare(&self.root)
            .unwrap()
            .leaf("sleeper", limits)
            .unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let leaf = self.leaf(&Limits::default());
        leaf.kill().unwrap();
        runtime().block_on(leaf.emptied()).unwrap();
        for directory in [leaf.directory(), &self.root.join("services"), &self.root] {
            fs::remove_dir(directory).unwrap();
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// `sleep`, without any right.
fn sleeper(output: &Path) -> Launch {
    Launch {
        program: "/bin/sleep".into(),
        arguments: vec!["100000".into()],
        environment: Vec::new(),
        directory: "/".into(),
        output: output.to_owned(),
        rights: Rights {
            account: Account {
                user: 4201,
                group: 4202,
                groups: Vec::new(),
            },
            capabilities: Vec::new(),
            resource_limits: Vec::new(),
            oom_score_adjust: 0,
        },
    }
}

fn shell(script: &str, output: &Path) -> Launch {
    let arguments = vec!["-c".into(), script.into()];
    Launch {
        program: "/bin/sh".into(),
        arguments,
        ..sleeper(output)
    }
}

/// `NAME: VALUE` lines of a file in /proc.
fn fields(pid: u32, file: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().replace('\t', " ")))
        .collect()
}

#[test]
fn a_started_process_is_what_the_launch_says() {
    let scratch = Scratch::new("rights");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let (bind, chown) = (Capability::CAP_NET_BIND_SERVICE, Capability::CAP_CHOWN);
    let mask = format!("{:016x}", bind.bitmask() | chown.bitmask());
    // A descriptor that would be inherited.
    let _open = rustix::io::dup(std::io::stderr()).unwrap();
    runtime().block_on(async {
        let leaf = scratch.leaf(&Limits::default());
        let mut launch = sleeper(&output);
        launch.environment = vec![("ONLY".into(), "this".into())];
        launch.directory = "/usr".into();
        launch.rights.account.groups = vec![4203, 4204];
        launch.rights.capabilities = vec![bind, chown];
        launch.rights.oom_score_adjust = 321;
        launch.rights.resource_limits = vec![ResourceLimit {
            resource: Resource::RLIMIT_NOFILE,
            soft: 123,
            hard: 456,
        }];
        let mut running = start(&leaf, &launch).await.unwrap();
        let pid = running.key().pid;
        assert_eq!(leaf.processes().unwrap(), [pid]);

        let status = fields(pid, "status");
        for (name, expected) in [
            ("Name", "sleep"),
            ("Umask", "0027"),
            ("Uid", "4201 4201 4201 4201"),
            ("Gid", "4202 4202 4202 4202"),
            ("Groups", "4203 4204"),
            ("CapInh", &mask),
            ("CapPrm", &mask),
            ("CapEff", &mask),
            ("CapBnd", &mask),
            ("CapAmb", &mask),
            ("NoNewPrivs", "1"),
            ("SigBlk", "0000000000000000"),
            ("SigIgn", "0000000000000000"),
            ("SigCgt", "0000000000000000"),
            ("NSsid", &pid.to_string()),
        ] {
            assert_eq!(status[name], expected, "{name}");
        }
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let limits = fs::read_to_string(proc.join("limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..]
                .split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
        };
        assert_eq!(limit("Max open files"), ["123", "456"]);
        assert_eq!(limit("Max core file size"), ["0", "0"]);
        assert_eq!(
            fs::read_to_string(proc.join("oom_score_adj")).unwrap(),
            "321\n"
        );
        assert_eq!(
            fs::read_to_string(proc.join("environ")).unwrap(),
            "ONLY=this\0"
        );
        assert_eq!(
            fs::read_to_string(proc.join("cmdline")).unwrap(),
            "/bin/sleep\x00100000\0"
        );
        assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/usr"));
        // Its loader opens files, too, until the program itself sleeps.
        let asleep = || {
            let call = fs::read_to_string(proc.join("syscall")).unwrap();
            call.split(' ').next() == Some(&libc::SYS_clock_nanosleep.to_string())
        };
        let give_up = Instant::now() + TO_BEGIN;
        while !asleep() && Instant::now() < give_up {
            tokio::task::yield_now().await;
        }
        assert!(asleep(), "the program has not begun");
        let entries = fs::read_dir(proc.join("fd")).unwrap();
        let descriptors: BTreeMap<_, _> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), fs::read_link(entry.path()).unwrap()))
            .collect();
        assert_eq!(descriptors.len(), 3, "{descriptors:?}");
        for (number, target) in [
            ("0", Path::new("/dev/null")),
            ("1", &output),
            ("2", &output),
        ] {
            assert_eq!(descriptors[number.as_ref() as &std::ffi::OsStr], target);
        }

        running.signal(Signal::TERM).unwrap();
        let End::Status(status) = running.exited().await.unwrap() else {
            panic!("our own child")
        };
        assert_eq!(status.signal(), Some(15));
        leaf.emptied().await.unwrap();
    });
}

#[test]
fn output_is_appended_and_exit_codes_arrive() {
    let scratch = Scratch::new("output");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    runtime().block_on(async {
        let leaf = scratch.leaf(&Limits::default());
        for text in ["one", "two"] {
            let launch = shell(&format!("echo {text}; echo error >&2; exit 7"), &output);
            let mut running = start(&leaf, &launch).await.unwrap();
            for _ in 0..2 {
                let end = running.exited().await.unwrap();
                let End::Status(status) = end else {
                    panic!("our own child")
                };
                assert_eq!(status.code(), Some(7));
            }
            leaf.emptied().await.unwrap();
        }
    });
    assert_eq!(
        fs::read_to_string(&output).unwrap(),
        "one\nerror\ntwo\nerror\n"
    );
}

#[test]
fn a_populated_leaf_is_never_started_into() {
    let scratch = Scratch::new("populated");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    runtime().block_on(async {
        let leaf = scratch.leaf(&Limits::default());
        let mut first = start(&leaf, &sleeper(&output)).await.unwrap();
        let refused = start(&leaf, &sleeper(&output)).await;
        assert!(
            matches!(refused, Err(StartError::Populated { .. })),
            "{refused:?}"
        );
        assert_eq!(leaf.processes().unwrap(), [first.key().pid]);
        leaf.kill().unwrap();
        first.exited().await.unwrap();
        leaf.emptied().await.unwrap();
        // What is born after the kill is not killed with it.
        let mut second = start(&leaf, &sleeper(&output)).await.unwrap();
        second.signal(Signal::TERM).unwrap();
        let End::Status(status) = second.exited().await.unwrap() else {
            panic!("our own child")
        };
        assert_eq!(status.signal(), Some(15));
    });
}

#[test]
fn a_failed_step_is_named_and_leaves_nothing_behind() {
    let scratch = Scratch::new("failed");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let closed = folder.path().join("closed");
    fs::DirBuilder::new().mode(0o700).create(&closed).unwrap();
    let good = sleeper(&output);
    let mut broken = vec![
        (
            Launch {
                program: "/bin/absent".into(),
                ..good.clone()
            },
            "execute `/bin/absent`",
            2,
        ),
        (
            Launch {
                directory: closed.clone(),
                ..good.clone()
            },
            "enter the directory",
            13,
        ),
    ];
    for (limit, expected) in [
        (
            ResourceLimit {
                resource: Resource::RLIMIT_NOFILE,
                soft: 2,
                hard: 1,
            },
            "RLIMIT_NOFILE",
        ),
        (
            ResourceLimit {
                resource: Resource::RLIMIT_NPROC,
                soft: 9,
                hard: 8,
            },
            "RLIMIT_NPROC",
        ),
    ] {
        let mut launch = good.clone();
        launch.rights.resource_limits = vec![limit];
        broken.push((launch, expected, 22));
    }
    let mut launch = good;
    launch.rights.oom_score_adjust = 2000;
    broken.push((launch, "set oom_score_adj to 2000", 22));
    runtime().block_on(async {
        let leaf = scratch.leaf(&Limits::default());
        for (launch, expected, number) in broken {
            let error = start(&leaf, &launch).await.expect_err(expected);
            let StartError::Step {
                service, source, ..
            } = &error
            else {
                panic!("{error:?}")
            };
            assert_eq!(
                (service.as_str(), source.raw_os_error()),
                ("sleeper", Some(number))
            );
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!leaf.is_populated().unwrap());
        }
    });
}

#[test]
fn limits_without_a_controller_are_told() {
    let scratch = Scratch::new("limits");
    let limits = Limits {
        pids_max: Some(77),
        cpu_weight: Some(33),
        ..Limits::default()
    };
    let leaf = scratch.leaf(&limits);
    let offered = fs::read_to_string(scratch.root.join("cgroup.controllers")).unwrap();
    for (file, controller, value) in [("pids.max", "pids", "77\n"), ("cpu.weight", "cpu", "33\n")] {
        let without = leaf
            .without()
            .iter()
            .find(|without| without.setting == file);
        if offered.split_whitespace().any(|name| name == controller) {
            assert_eq!(
                fs::read_to_string(leaf.directory().join(file)).unwrap(),
                value
            );
            assert_eq!(without, None);
        } else {
            assert!(without.unwrap().reason.contains(&format!("`{controller}`")));
        }
    }
    assert!(leaf.without().len() <= 2);
}

#[test]
fn adoption_chooses_the_leader_and_sees_its_end() {
    let scratch = Scratch::new("adoption");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let mut supervisor = Supervisor::spawn(&scratch.root, &output, "once");
    let started = supervisor.line();
    runtime().block_on(async {
        let leaf = scratch.leaf(&Limits::default());
        supervisor.kill();
        let mut adopted = adopt(&leaf).unwrap().unwrap();
        assert_eq!(format!("{:?}", adopted.leader.key()), started);
        // The shell's child is there, too; it is younger and leads no session.
        let helper = adopted.others.clone();
        assert_eq!(helper.len(), 1, "{adopted:?}");
        adopted.leader.signal(Signal::KILL).unwrap();
        assert_eq!(adopted.leader.exited().await.unwrap(), End::KnownToPid1);
        assert!(leaf.is_populated().unwrap());
        assert_eq!(adopt(&leaf).unwrap().unwrap().leader.key().pid, helper[0]);
        leaf.kill().unwrap();
        leaf.emptied().await.unwrap();
        assert!(adopt(&leaf).unwrap().is_none());
    });
}

/// The supervisor is killed 250 times while it starts, kills and starts again; each time its
/// successor finds none, and starts one, or finds one, and adopts it.
#[test]
fn killed_at_any_step_of_a_start_there_are_never_two_nor_none() {
    let scratch = Scratch::new("killed");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    // Tells our processes, inside the leaf and outside of it, from all others.
    let token = scratch
        .root
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let seed = u64::from(std::process::id());
    let mut random = Random::new(seed);
    let (mut adopted, mut started) = (0, 0);
    for round in 0..250 {
        let mut supervisor = Supervisor::spawn(&scratch.root, &output, "loop");
        supervisor.line();
        // The fault's instant: nothing is waited for.
        thread::sleep(random.up_to(Duration::from_millis(8)));
        supervisor.kill();
        runtime().block_on(async {
            let context = format!("round {round}, seed {seed}");
            let leaf = scratch.leaf(&Limits::default());
            let inside: BTreeSet<_> = leaf.processes().unwrap().into_iter().collect();
            assert!(inside.len() <= 1, "{context}: two: {inside:?}");
            let outside: Vec<_> = ours(&token)
                .into_iter()
                .filter(|pid| !inside.contains(pid))
                .collect();
            assert!(
                outside.is_empty(),
                "{context}: outside of the leaf: {outside:?}"
            );
            let (mut running, mut new) = adopt_or_start(&leaf, &output).await;
            let mut inside = leaf.processes().unwrap();
            if inside.is_empty() {
                // Its supervisor had killed it just before: it was adopted while it died.
                assert_eq!(
                    running.exited().await.unwrap(),
                    End::KnownToPid1,
                    "{context}, new: {new}"
                );
                (running, new) = adopt_or_start(&leaf, &output).await;
                inside = leaf.processes().unwrap();
            }
            assert_eq!(inside, [running.key().pid], "{context}");
            if new {
                started += 1;
            } else {
                adopted += 1;
            }
            leaf.kill().unwrap();
            running.exited().await.unwrap();
            leaf.emptied().await.unwrap();
        });
    }
    println!("adopted {adopted}, started {started}");
    assert!(
        adopted > 10 && started > 10,
        "not random enough: {adopted} and {started}"
    );
}

async fn adopt_or_start(leaf: &Leaf, output: &Path) -> (Running, bool) {
    if let Some(adopted) = adopt(leaf).unwrap() {
        assert!(adopted.others.is_empty(), "{adopted:?}");
        return (adopted.leader, false);
    }
    let mut launch = sleeper(output);
    launch.environment = vec![("TOKEN".into(), leaf.directory().into())];
    (start(leaf, &launch).await.unwrap(), true)
}

/// Processes, other than this one, whose environment holds the token; no zombies, which have none.
fn ours(token: &str) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != std::process::id())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .windows(token.len())
                .any(|window| window == token.as_bytes())
        })
        .collect()
}

/// Another process of this test: [`supervisor_role`].
struct Supervisor {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Supervisor {
    fn spawn(root: &Path, output: &Path, what: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "supervisor_role",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .envs([
                ("TEST_ROOT", root),
                ("TEST_OUTPUT", output),
                ("TEST_WHAT", what.as_ref()),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it says to us, without its mark.
    fn line(&mut self) -> String {
        self.lines
            .find_map(|line| Some(line.unwrap().split_once("says: ")?.1.to_owned()))
            .expect("the supervisor ended")
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.kill();
    }
}

/// No test: what [`Supervisor`] runs.
#[test]
fn supervisor_role() {
    let [Some(root), Some(output), Some(what)] =
        ["TEST_ROOT", "TEST_OUTPUT", "TEST_WHAT"].map(env::var_os)
    else {
        return;
    };
    let leaf = Services::prepare(root.as_ref())
        .unwrap()
        .leaf("sleeper", &Limits::default())
        .unwrap();
    runtime().block_on(async {
        if what == "once" {
            let script = "/bin/sleep 100000 & wait";
            let running = start(&leaf, &shell(script, output.as_ref())).await.unwrap();
            while leaf.processes().unwrap().len() < 2 {
                tokio::task::yield_now().await;
            }
            println!("says: {:?}", running.key());
            std::future::pending::<()>().await;
        }
        // A thread that holds the allocator's lock most of the time, as blocking tasks might.
        thread::spawn(|| {
            loop {
                std::hint::black_box(vec![0_u8; 100_000]);
            }
        });
        println!("says: ready");
        loop {
            let (mut running, _) = adopt_or_start(&leaf, output.as_ref()).await;
            leaf.kill().unwrap();
            running.exited().await.unwrap();
            leaf.emptied().await.unwrap();
        }
    });
}
