//! The namespace provider by itself: a stand-in for `/init` on the real launcher, wire and disks.

mod support;

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use masthead_lab::{
    namespace::NamespaceProvider,
    patience::{Look, Patience},
    plan::{ClusterPlan, DiskRole},
    provider::{DiskCondition, Effective, Link, Node, Power, PowerChange, Provider, Signal},
};
use support::{attached_loops, cluster_groups, console, stand_in_image, wait_for_console};

/// A node whose PID 1 executes `script`, powered on.
struct Fixture {
    node: Arc<dyn Node>,
    provider: NamespaceProvider,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(script: &str) -> Self {
        Self::with(script, |_, _| ())
    }

    /// The same of a changed plan; `change` also gets the folder of the test.
    fn with(script: &str, change: impl FnOnce(&mut ClusterPlan, &Path)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let image = stand_in_image(folder.path());
        let mut plan = ClusterPlan::new(1, folder.path().join("lab"), image);
        change(&mut plan, folder.path());
        let provider = NamespaceProvider::new(env!("CARGO_BIN_EXE_lab")).expect("namespaces");
        let node = provider.add_node(&plan.nodes()[0], script).expect("a node");
        node.power_on()
            .unwrap_or_else(|error| panic!("power on: {}", masthead_lab::error::chain(&error)));
        Self {
            node,
            provider,
            _folder: folder,
        }
    }

    fn wait_for(&self, text: &str, times: usize) {
        wait_for_console(self.node.as_ref(), text, times);
    }

    fn wait_for_power(&self, power: Power) {
        Patience::new(1.0)
            .wait_until("the power", Duration::from_secs(10), || {
                Look::at(self.node.power() == power, || {
                    format!("{:?}", self.node.power())
                })
            })
            .expect("power changes");
    }

    fn changes(&self) -> Vec<PowerChange> {
        self.node
            .history()
            .into_iter()
            .map(|event| event.change)
            .collect()
    }
}

const END: &str = "stand-in: end of the script";

#[test]
fn pid_1_finds_itself_at_home() {
    let fixture = Fixture::new(
        "mount\nshow /proc/self/uid_map\nshow /sys/class/net/eth0/address\nlist /dev\n\
         write-synced /etcd/file\nopen-for-writing /proc/sys/kernel/panic\nlist /proc/1/fd\n\
         join init\nshow /proc/self/cgroup\nwrite /new\n",
    );
    fixture.wait_for(END, 1);
    let console = console(fixture.node.as_ref());
    for expected in [
        "arguments [\"--namespace\", \"--seed=/host/seed.toml\", \"--timing-scale=1\"]",
        "mount: done",
        "show /proc/self/uid_map: 0    1000000      65536",
        "show /sys/class/net/eth0/address: 52:54:00:10:00:11",
        "list /dev: .lab fd full null random stderr stdin stdout tty urandom zero",
        "write-synced /etcd/file: done",
        "join init: done",
        "show /proc/self/cgroup: ",
        "write /new: error: Read-only file system",
        // The host's kernel settings are out of reach by the kernel's word.
        "open-for-writing /proc/sys/kernel/panic: error: Permission denied",
        // No descriptor of the host leaks in; 3 is the listing itself.
        "list /proc/1/fd: 0 1 2 3\n",
    ] {
        let spaces = |text: &str| {
            text.split(' ')
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(
            spaces(&console).contains(&spaces(expected)),
            "no `{expected}` in:\n{console}"
        );
    }
    assert!(console.contains("0::/init\n"), "{console}");
    assert_eq!(
        fixture.node.processes("init").expect("its processes").len(),
        1
    );
}

#[test]
fn a_power_cut_loses_what_was_not_synced_and_nothing_else() {
    let fixture =
        Fixture::new("list /etcd\nwrite-synced /etcd/kept\nwrite /etcd/lost\nlist /etcd\n");
    fixture.wait_for(END, 1);
    fixture.node.cut_power().expect("cut");
    assert_eq!(fixture.node.power(), Power::Off);
    fixture.node.power_on().expect("power on again");
    fixture.wait_for(END, 2);
    let console = console(fixture.node.as_ref());
    let lists: Vec<&str> = console
        .lines()
        .filter_map(|line| line.strip_prefix("stand-in: list /etcd: "))
        .collect();
    assert_eq!(
        lists,
        [
            "lost+found",
            "kept lost lost+found",
            "kept lost+found",
            "kept lost lost+found"
        ],
        "{console}"
    );
    assert_eq!(
        fixture.changes(),
        [
            PowerChange::PoweredOn,
            PowerChange::Cut,
            PowerChange::PoweredOn
        ]
    );
}

#[test]
fn files_can_be_laid_over_the_root() {
    let fixture = Fixture::with(
        "show /etc/greeting\nlist /etcd\nwrite /etc/new\n",
        |plan, folder| {
            let changes = folder.join("changes");
            std::fs::create_dir_all(changes.join("etc")).expect("make a folder");
            std::fs::write(changes.join("etc/greeting"), "hello").expect("write");
            plan.root_changes = Some(changes);
        },
    );
    fixture.wait_for(END, 1);
    let console = console(fixture.node.as_ref());
    assert!(console.contains("show /etc/greeting: hello\n"), "{console}");
    assert!(console.contains("list /etcd: lost+found\n"), "{console}");
    assert!(
        console.contains("write /etc/new: error: Read-only file system"),
        "{console}"
    );
}

#[test]
fn a_reboot_starts_the_node_again_and_a_power_off_does_not() {
    let fixture =
        Fixture::new("reboot-once /state/rebooted\npower-off-once /state/off\nlist /state\n");
    fixture.wait_for_power(Power::Off);
    assert_eq!(
        fixture.changes(),
        [
            PowerChange::PoweredOn,
            PowerChange::Rebooted,
            PowerChange::PoweredOff
        ]
    );
    fixture.node.power_on().expect("power on again");
    fixture.wait_for("list /state: lost+found off rebooted", 1);
}

#[test]
fn an_end_of_pid_1_without_a_word_is_a_crash() {
    let fixture = Fixture::new("exit 3\n");
    fixture.wait_for_power(Power::Off);
    assert_eq!(
        fixture.changes().last(),
        Some(&PowerChange::Crashed {
            how: "PID 1 ended with status 3".to_owned()
        })
    );
}

#[test]
fn a_node_that_only_reboots_is_left_off() {
    let fixture = Fixture::new("reboot\n");
    fixture.wait_for_power(Power::Off);
    let changes = fixture.changes();
    assert_eq!(changes.len(), 6, "{changes:?}");
    assert!(
        matches!(changes.last(), Some(PowerChange::Crashed { .. })),
        "{changes:?}"
    );
}

#[test]
fn a_disk_can_be_read_only_removed_or_stalled() {
    let fixture = Fixture::new(
        "write-synced /etcd/a\nwrite-synced /data/a\nwrite-synced /state/a\nlist /data\n",
    );
    let set = |role, condition| {
        fixture
            .node
            .set_disk(role, condition)
            .expect("set the disk")
    };
    fixture.wait_for(END, 1);
    assert_eq!(set(DiskRole::Etcd, DiskCondition::ReadOnly), Effective::Now);
    assert_eq!(set(DiskRole::Data, DiskCondition::Removed), Effective::Now);
    assert_eq!(set(DiskRole::State, DiskCondition::Stalled), Effective::Now);

    // They last over a power cut.
    fixture.node.cut_power().expect("cut with a stalled disk");
    fixture.node.power_on().expect("power on with bad disks");
    fixture.wait_for("write-synced /etcd/a: error: Read-only file system", 1);
    fixture.wait_for("write-synced /data/a: error: Read-only file system", 1);
    // The write to the stalled disk waits.
    assert_eq!(
        console(fixture.node.as_ref())
            .matches("write-synced /state/a")
            .count(),
        1
    );
    assert_eq!(set(DiskRole::State, DiskCondition::Healthy), Effective::Now);
    fixture.wait_for(END, 2);

    assert_eq!(
        set(DiskRole::Etcd, DiskCondition::Healthy),
        Effective::NextPowerOn
    );
    assert_eq!(
        set(DiskRole::Data, DiskCondition::Healthy),
        Effective::NextPowerOn
    );
    fixture.node.cut_power().expect("cut");
    fixture.node.power_on().expect("power on with good disks");
    fixture.wait_for(END, 3);
    assert!(console(fixture.node.as_ref()).ends_with(
        "stand-in: write-synced /etcd/a: done\nstand-in: write-synced /data/a: done\n\
         stand-in: write-synced /state/a: done\nstand-in: list /data: a lost+found\n\
         stand-in: end of the script\n"
    ));
}

#[test]
fn processes_can_be_killed_by_the_name_of_their_service() {
    let fixture = Fixture::new("mount\njoin services/etcd\n");
    fixture.wait_for(END, 1);
    assert!(
        fixture.node.signal("kube-apiserver", Signal::Kill).is_err(),
        "nothing to kill"
    );
    let killed = fixture.node.signal("etcd", Signal::Kill).expect("kill");
    assert_eq!(killed, [fixture.node.init_process().unwrap_or(killed[0])]);
    fixture.wait_for_power(Power::Off);
}

#[test]
fn a_forwarded_port_leads_into_the_cluster_while_the_cable_is_plugged_in() {
    let fixture = Fixture::new("mount\nup 10.20.0.11\nlisten 6443\n");
    fixture.wait_for(END, 1);
    let forward = fixture
        .provider
        .forward(fixture.node.plan().kubernetes())
        .expect("forward");
    assert!(forward.local.ip().is_loopback());
    assert_eq!(greeting(forward.local), "hello from the node\n");

    fixture
        .node
        .set_link(Link::Down)
        .expect("pull the cable out");
    Patience::new(1.0)
        .wait_until(
            "the node to lose its carrier",
            Duration::from_secs(5),
            || {
                let (sender, receiver) = std::sync::mpsc::channel();
                let to = forward.local;
                std::thread::spawn(move || sender.send(greeting(to)));
                let answer = receiver.recv_timeout(Duration::from_millis(200));
                Look::at(answer.is_err(), || "it answers".to_owned())
            },
        )
        .expect("no cable, no answer");
    fixture.node.set_link(Link::Up).expect("plug the cable in");
    assert_eq!(greeting(forward.local), "hello from the node\n");

    let local = forward.local;
    drop(forward);
    Patience::new(1.0)
        .wait_until("the port to close", Duration::from_secs(5), || {
            Look::at(TcpStream::connect(local).is_err(), || "open".to_owned())
        })
        .expect("the forwarder ends with its handle");
}

fn greeting(to: SocketAddr) -> String {
    let mut text = String::new();
    TcpStream::connect(to)
        .and_then(|mut stream| stream.read_to_string(&mut text))
        .expect("the forwarder accepts");
    text
}

#[test]
fn nothing_is_left_behind() {
    let fixture = Fixture::new("mount\njoin services/etcd\n");
    fixture.wait_for(END, 1);
    let pid = fixture.node.init_process().expect("it runs");
    let images = fixture.node.plan().directory.clone();
    assert!(attached_loops(&images) > 0, "the disks are on loop devices");
    let groups = cluster_groups(pid);
    drop(fixture);
    assert!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "PID 1 is gone"
    );
    assert_eq!(attached_loops(&images), 0);
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}
