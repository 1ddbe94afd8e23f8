//! The driver of the services with real processes in real control groups, as root.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use masthead_control_plane::Request;
use masthead_init::link::{self, Ending, Exit as LinkExit, FromSupervisor, Pid1Link, Received};
use masthead_init::process::{Account, Launch, Leaf, Limits, Rights, Services};
use masthead_init::services::{self, AdoptedExits, Handle, Managed, boot_time};
use masthead_lifecycle::{BackOff, EndedBy, Exit, Phase, Policy, ProbePolicy, ServiceName, Story};
use masthead_machine::Scale;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Makes this program a service that listens at the address in it.
const STAND_IN: &str = "MASTHEAD_TEST_STAND_IN";

/// The service that the tests run: answers every request with 200, and ends on TERM like any
/// program that does not care.
#[test]
fn stand_in() {
    let Ok(address) = env::var(STAND_IN) else {
        return;
    };
    let listener = TcpListener::bind(address).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = [0; 1024];
        // A connection without a request is one that a probe gave up.
        if matches!(stream.read(&mut request), Ok(length) if length > 0) {
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
            // So is one that does not take the answer.
            drop(stream.write_all(answer));
        }
    }
}

/// A node's worth of surroundings: control groups and files, gone with the test.
struct Surroundings {
    root: PathBuf,
    groups: Services,
    leaves: Vec<Leaf>,
    files: tempfile::TempDir,
}

/// One supervisor's life.
struct Supervisor {
    runtime: Runtime,
    handle: Handle,
    exits: mpsc::UnboundedSender<LinkExit>,
    pid1: Pid1Link,
}

impl Surroundings {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut mounts = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts
            .find(|fields| fields[2] == "cgroup2")
            .expect("cgroup2 is mounted")[1];
        let root = format!("masthead-services-{name}-{}", std::process::id());
        let root = Path::new(mount).join(root);
        fs::create_dir(&root).unwrap();
        let groups = Services::prepare(&root).unwrap();
        Self {
            root,
            groups,
            leaves: Vec::new(),
            files: tempfile::tempdir().unwrap(),
        }
    }

    fn service(&mut self, name: &str, program: &str, arguments: &[&str]) -> Managed {
        let leaf = self.groups.leaf(name, &Limits::default()).unwrap();
        self.leaves.push(leaf.clone());
        Managed {
            name: name.into(),
            leaf,
            launch: Launch {
                program: program.into(),
                arguments: arguments.iter().map(Into::into).collect(),
                environment: vec![("PATH".into(), "/bin:/usr/bin".into())],
                directory: "/".into(),
                output: self.files.path().join(name),
                rights: Rights {
                    account: Account {
                        user: 0,
                        group: 0,
                        groups: Vec::new(),
                    },
                    capabilities: Vec::new(),
                    resource_limits: Vec::new(),
                    oom_score_adjust: 0,
                },
            },
            policy: policy(),
            readiness: None,
            liveness: None,
        }
    }

    fn shell(&mut self, name: &str, script: &str) -> Managed {
        self.service(name, "/bin/sh", &["-c", script])
    }

    /// This program as a service that can be asked.
    fn stand_in(&mut self, name: &str) -> Managed {
        let program = env::current_exe().unwrap();
        let arguments = ["stand_in", "--exact", "--nocapture"];
        let mut service = self.service(name, program.to_str().unwrap(), &arguments);
        let address = free_address();
        service
            .launch
            .environment
            .push((STAND_IN.into(), address.to_string().into()));
        let request = Request::Http {
            address,
            path: "/".to_owned(),
        };
        service.readiness = Some(request.clone());
        service.liveness = Some(request);
        let probe = ProbePolicy {
            interval: Duration::from_millis(100),
            startup_interval: Duration::from_millis(20),
            timeout: Duration::from_millis(500),
            failures: 2,
        };
        service.policy.readiness = Some(probe);
        service.policy.liveness = Some(probe);
        service
    }

    fn supervise(&self, services: Vec<Managed>) -> Supervisor {
        self.supervise_at(services, Scale::REAL, None)
    }

    fn supervise_at(
        &self,
        services: Vec<Managed>,
        scale: Scale,
        ending: Option<Ending>,
    ) -> Supervisor {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (exits, received) = mpsc::unbounded_channel();
        let (pid1, ours) = link::pair().unwrap();
        let records = self.files.path().join("records");
        let handle = runtime.block_on(async {
            let link = Arc::new(link::SupervisorLink::new(ours).unwrap());
            let exits = AdoptedExits {
                received,
                link,
                ending: watch::channel(ending).1,
            };
            services::spawn(services, exits, records, scale).unwrap()
        });
        Supervisor {
            runtime,
            handle,
            exits,
            pid1,
        }
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for leaf in &self.leaves {
            leaf.kill().unwrap();
            runtime.block_on(leaf.emptied()).unwrap();
            fs::remove_dir(leaf.directory()).unwrap();
        }
        fs::remove_dir(self.root.join("services")).unwrap();
        fs::remove_dir(&self.root).unwrap();
    }
}

impl Supervisor {
    /// Waits until a service's story is like this.
    fn until(&self, name: &str, like: impl Fn(&Story) -> bool) -> Story {
        let mut stories = self.handle.watch();
        let find = |stories: &Vec<Story>| {
            stories
                .iter()
                .find(|story| story.name.as_str() == name)
                .cloned()
                .unwrap()
        };
        self.runtime.block_on(async {
            let reached = stories.wait_for(|stories| like(&find(stories)));
            match tokio::time::timeout(PATIENCE, reached).await {
                Ok(stories) => find(&stories.unwrap()),
                Err(elapsed) => {
                    panic!(
                        "{name} is still {:#?}: {elapsed}",
                        find(&self.handle.watch().borrow())
                    )
                }
            }
        })
    }

    /// Waits until something outside of the stories is so.
    fn until_true(&self, is_so: impl Fn() -> bool) {
        self.runtime.block_on(async {
            let wait = async {
                while !is_so() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.unwrap();
        });
    }

    fn until_ready(&self, name: &str) -> Story {
        self.until(name, |story| story.phase == Phase::Ready)
    }

    fn stop_all(&self) {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.handle.stop_all())
                .await
                .unwrap();
        });
    }

    fn stories(&self) -> Vec<Story> {
        self.handle.watch().borrow().clone()
    }
}

fn policy() -> Policy {
    Policy {
        back_off: BackOff {
            first: Duration::from_millis(50),
            ceiling: Duration::from_millis(200),
            ..BackOff::default()
        },
        hung_grace: Duration::from_millis(200),
        straggler_grace: Duration::from_millis(200),
        ..Policy::default()
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn signal(story: &Story, signal: Signal) {
    let pid = i32::try_from(story.process.unwrap().pid).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn is_another(before: &Story) -> impl Fn(&Story) -> bool {
    let process = before.process;
    move |story| story.phase == Phase::Ready && story.process != process
}

#[test]
fn a_killed_service_is_back_at_once() {
    let mut surroundings = Surroundings::new("killed");
    let service = surroundings.stand_in("victim");
    let supervisor = surroundings.supervise(vec![service]);
    let before = supervisor.until_ready("victim");
    assert_eq!((before.restarts, before.last_exit), (0, None));
    let killed_at = boot_time();
    signal(&before, Signal::KILL);
    let after = supervisor.until("victim", is_another(&before));
    let last_exit = after.last_exit.unwrap();
    assert_eq!(
        (last_exit.exit, last_exit.ended_by),
        (Exit::Signal(9), None)
    );
    assert_eq!((after.restarts, after.crash_looping), (1, false));
    // 100 ms is the goal on an idle machine, which `make bench` measures.
    let gap = after.started.unwrap().since(killed_at);
    assert!(gap < Duration::from_secs(2), "{gap:?}");
    supervisor.stop_all();
}

#[test]
fn a_hung_service_is_killed_and_started_again() {
    let mut surroundings = Surroundings::new("hung");
    let service = surroundings.stand_in("sleeper");
    let supervisor = surroundings.supervise(vec![service]);
    let before = supervisor.until_ready("sleeper");
    // It has to have answered the liveness probe once: until then it may be starting.
    supervisor.until("sleeper", |story| story.liveness.is_some());
    signal(&before, Signal::STOP);
    let after = supervisor.until("sleeper", is_another(&before));
    let last_exit = after.last_exit.unwrap();
    assert_eq!(
        last_exit.exit,
        Exit::Signal(9),
        "a stopped process does not act on TERM"
    );
    assert_eq!(last_exit.ended_by, Some(EndedBy::Liveness));
    supervisor.stop_all();
}

#[test]
fn a_crash_loop_is_shown_and_harms_no_other() {
    let mut surroundings = Surroundings::new("loop");
    let services = vec![
        surroundings.stand_in("healthy"),
        surroundings.shell("broken", "exit 3"),
        surroundings.service("absent", "/nonexistent/program", &[]),
    ];
    let supervisor = surroundings.supervise(services);
    let healthy = supervisor.until_ready("healthy");
    let broken = supervisor.until("broken", |story| story.crash_looping && story.restarts > 3);
    assert_eq!(broken.last_exit.unwrap().exit, Exit::Code(3));
    let absent = supervisor.until("absent", |story| {
        story.crash_looping && story.phase == Phase::BackingOff
    });
    let error = absent.start_error.unwrap();
    assert!(
        error.contains("/nonexistent/program") && error.contains("No such file"),
        "{error}"
    );
    assert_eq!(supervisor.until_ready("healthy").process, healthy.process);
    supervisor.stop_all();
}

#[test]
fn what_a_service_leaves_behind_is_killed_before_the_next_start() {
    let mut surroundings = Surroundings::new("stragglers");
    let service = surroundings.shell("parent", "sleep 100000 & exit 4");
    let leaf = service.leaf.clone();
    let supervisor = surroundings.supervise(vec![service]);
    supervisor.until("parent", |story| story.restarts >= 2);
    supervisor.stop_all();
    assert!(!leaf.is_populated().unwrap());
}

#[test]
fn a_restart_is_of_one_only() {
    let mut surroundings = Surroundings::new("restart");
    let services = vec![surroundings.stand_in("one"), surroundings.stand_in("other")];
    let supervisor = surroundings.supervise(services);
    let one = supervisor.until_ready("one");
    let other = supervisor.until_ready("other");
    supervisor.handle.restart("one").unwrap();
    let error = supervisor.handle.restart("third").unwrap_err();
    assert!(error.to_string().contains("`third`"), "{error}");
    let again = supervisor.until("one", is_another(&one));
    assert_eq!(again.last_exit.unwrap().ended_by, Some(EndedBy::Restart));
    assert_eq!(supervisor.until_ready("other").process, other.process);
    supervisor.stop_all();
}

#[test]
fn services_stop_in_order_and_stay_so() {
    let mut surroundings = Surroundings::new("order");
    // TERM is taken by the shell once its present `sleep` has ended.
    let slow = "trap 'sleep 0.3; exit 0' TERM; while :; do sleep 0.05; done";
    let deaf = "trap '' TERM; while :; do sleep 0.05; done";
    let mut store = surroundings.shell("store", slow);
    let mut server = surroundings.shell("server", deaf);
    let mut client = surroundings.shell("client", slow);
    server.policy.needs = vec!["store".into()];
    client.policy.after = vec!["server".into()];
    for service in [&mut store, &mut server, &mut client] {
        service.policy.stop_grace = Duration::from_secs(1);
    }
    let supervisor = surroundings.supervise(vec![store, server, client]);
    for name in ["store", "server", "client"] {
        supervisor.until_ready(name);
    }
    // The traps have to be set, and no condition tells: so let the shells run their first loop.
    for leaf in &surroundings.leaves {
        while leaf.processes().unwrap().len() < 2 {
            std::thread::yield_now();
        }
    }
    supervisor.stop_all();
    let stories = supervisor.stories();
    let ends: Vec<_> = stories
        .iter()
        .map(|story| story.last_exit.unwrap())
        .collect();
    assert!(
        stories.iter().all(|story| story.phase == Phase::Stopped),
        "{stories:#?}"
    );
    assert!(
        ends.iter().all(|end| end.ended_by == Some(EndedBy::Stop)),
        "{ends:?}"
    );
    let [store, server, client] = ends[..] else {
        panic!("three services")
    };
    assert!(client.at < server.at && server.at < store.at, "{ends:?}");
    assert_eq!([store.exit, client.exit], [Exit::Code(0); 2]);
    assert_eq!(server.exit, Exit::Signal(9), "killed after its grace");
    assert!(
        surroundings
            .leaves
            .iter()
            .all(|leaf| !leaf.is_populated().unwrap())
    );
    // Asked again, as by a supervisor that was told twice, it answers at once.
    supervisor.stop_all();
}

#[test]
fn a_new_supervisor_adopts_and_goes_on() {
    let mut surroundings = Surroundings::new("adopt");
    let first = surroundings.stand_in("survivor");
    let request = first.readiness.clone();
    let environment = first.launch.environment.clone();
    let supervisor = surroundings.supervise(vec![first]);
    let before = supervisor.until_ready("survivor");
    drop(supervisor);

    let mut second = surroundings.stand_in("survivor");
    second.readiness.clone_from(&request);
    second.liveness = request;
    second.launch.environment = environment;
    surroundings.leaves.pop();
    let supervisor = surroundings.supervise(vec![second]);
    let after = supervisor.until_ready("survivor");
    assert_eq!(after.process, before.process);
    assert_eq!(after.restarts, 0);
    // It is told with the resolution of the kernel's clock ticks.
    let difference = after.started.unwrap().since(before.started.unwrap());
    assert!(difference < Duration::from_millis(50), "{difference:?}");
    signal(&after, Signal::KILL);
    let again = supervisor.until("survivor", is_another(&after));
    assert_eq!(again.last_exit.unwrap().exit, Exit::Signal(9));
    assert!(again.last_exit.unwrap().ran_for.is_some());
    supervisor.stop_all();
}

/// The first supervisor dies in the middle of a stop. The second one goes on with it: it starts nothing, and repeats no
/// TERM, at which some programs end without their orderly end.
#[test]
fn a_stop_is_gone_on_with_and_not_begun_again() {
    let mut surroundings = Surroundings::new("stopping");
    let end = surroundings.files.path().join("end");
    let script = format!(
        "trap 'echo told' TERM; echo begun; while [ ! -e {} ]; do sleep 0.01; done",
        end.display()
    );
    let services = |surroundings: &mut Surroundings| {
        surroundings.leaves.clear();
        let slow = surroundings.shell("slow", &script);
        let mut quick = surroundings.service("quick", "/bin/sleep", &["100000"]);
        quick.policy.needs = vec!["slow".into()];
        vec![slow, quick]
    };
    let output = surroundings.files.path().join("slow");
    let said = || fs::read_to_string(&output).unwrap_or_default();
    let first = services(&mut surroundings);
    let supervisor = surroundings.supervise(first);
    supervisor.until_ready("quick");
    supervisor.until_true(|| said() == "begun\n");
    let handle = supervisor.handle.clone();
    let stopping = supervisor
        .runtime
        .spawn(async move { handle.stop_all().await });
    let record = surroundings.files.path().join("records/slow");
    let noted = || fs::read_to_string(&record).is_ok_and(|text| text.contains("told-to-end"));
    supervisor.until_true(|| said() == "begun\ntold\n" && noted());
    drop((stopping, supervisor));

    let second = services(&mut surroundings);
    let supervisor = surroundings.supervise_at(second, Scale::REAL, Some(Ending::PowerOff));
    supervisor.until("slow", |story| story.phase == Phase::Stopping);
    fs::write(end, "").unwrap();
    supervisor.stop_all();
    let [slow, quick] = &supervisor.stories()[..] else {
        panic!("two services")
    };
    assert_eq!(slow.last_exit.unwrap().exit, Exit::Code(0));
    assert_eq!(said(), "begun\ntold\n");
    assert_eq!((quick.restarts, quick.last_exit), (0, None), "{quick:#?}");
}

/// Starts a process in a leaf that is no child of this one, and whose parent never reaps it.
fn start_as_a_stranger(leaf: &Leaf) -> Child {
    let script = "setsid sh -c 'echo $$ > \"$0/cgroup.procs\"; exec sleep 100000' \"$0\" & exec sleep 100000";
    let child = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(leaf.directory())
        .spawn()
        .unwrap();
    while leaf.processes().unwrap().is_empty() {
        std::thread::yield_now();
    }
    child
}

#[test]
fn pid_1_tells_how_an_adopted_service_ended() {
    let mut surroundings = Surroundings::new("strange");
    let service = surroundings.service("orphan", "/bin/sleep", &["100000"]);
    let mut parent = start_as_a_stranger(&service.leaf);
    let supervisor = surroundings.supervise(vec![service]);
    let before = supervisor.until_ready("orphan");
    let process = before.process.unwrap();
    signal(&before, Signal::KILL);
    let key = link::ProcessKey {
        pid: process.pid,
        start_time: process.start_time,
    };
    supervisor
        .exits
        .send(LinkExit {
            process: key,
            wait_status: 9,
        })
        .unwrap();
    let after = supervisor.until("orphan", is_another(&before));
    assert_eq!(after.last_exit.unwrap().exit, Exit::Signal(9));
    // One that nobody knows is acknowledged too, so that PID 1 can forget it.
    let stranger = link::ProcessKey {
        pid: 1,
        start_time: 2,
    };
    supervisor
        .exits
        .send(LinkExit {
            process: stranger,
            wait_status: 0,
        })
        .unwrap();
    for expected in [key, stranger] {
        let acknowledged = supervisor.runtime.block_on(async {
            loop {
                match supervisor.pid1.receive().unwrap() {
                    Received::Nothing => tokio::task::yield_now().await,
                    other => break other,
                }
            }
        });
        assert_eq!(
            acknowledged,
            Received::Message(FromSupervisor::Acknowledge(expected))
        );
    }
    supervisor.stop_all();
    parent.kill().unwrap();
    parent.wait().unwrap();
}

#[test]
fn a_silent_pid_1_does_not_keep_a_service_down() {
    let mut surroundings = Surroundings::new("silent");
    let service = surroundings.service("orphan", "/bin/sleep", &["100000"]);
    let mut parent = start_as_a_stranger(&service.leaf);
    let supervisor = surroundings.supervise_at(vec![service], Scale::new(0.05).unwrap(), None);
    let before = supervisor.until_ready("orphan");
    signal(&before, Signal::KILL);
    let after = supervisor.until("orphan", is_another(&before));
    assert_eq!(after.last_exit.unwrap().exit, Exit::Unknown);
    supervisor.stop_all();
    parent.kill().unwrap();
    parent.wait().unwrap();
}

#[test]
fn an_exit_that_nobody_saw_is_told_of_the_right_service() {
    let mut surroundings = Surroundings::new("unseen");
    let records = surroundings.files.path().join("records");
    fs::create_dir(&records).unwrap();
    fs::write(records.join("late"), "4000001 17 1\n").unwrap();
    let services = vec![
        surroundings.service("late", "/bin/sleep", &["100000"]),
        surroundings.service("other", "/bin/sleep", &["100000"]),
    ];
    let supervisor = surroundings.supervise(services);
    let process = link::ProcessKey {
        pid: 4_000_001,
        start_time: 17,
    };
    supervisor
        .exits
        .send(LinkExit {
            process,
            wait_status: 6,
        })
        .unwrap();
    let late = supervisor.until("late", |story| story.last_exit.is_some());
    assert_eq!(late.last_exit.unwrap().exit, Exit::Signal(6));
    assert_eq!(late.last_exit.unwrap().ran_for, None);
    assert_eq!(supervisor.until_ready("other").last_exit, None);
    supervisor.stop_all();
}

#[test]
fn services_that_do_not_fit_together_are_refused() {
    let mut surroundings = Surroundings::new("refused");
    let mut service = surroundings.shell("one", "exit 0");
    service.policy.after = vec![ServiceName::from("two")];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_, received) = mpsc::unbounded_channel();
    let (_pid1, ours) = link::pair().unwrap();
    let error = runtime.block_on(async {
        let link = Arc::new(link::SupervisorLink::new(ours).unwrap());
        let exits = AdoptedExits {
            received,
            link,
            ending: watch::channel(None).1,
        };
        services::spawn(vec![service], exits, "/nonexistent".into(), Scale::REAL).unwrap_err()
    });
    assert!(error.to_string().contains("`two`"), "{error}");
}
