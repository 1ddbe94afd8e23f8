//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use masthead_lab::{
    patience::{Look, Patience},
    provider::Node,
};

/// An image folder whose root holds nothing but mount points and the stand-in for `/init`.
pub(crate) fn stand_in_image(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    for name in [
        "proc", "sys", "dev", "run", "tmp", "host", "state", "etcd", "data",
    ] {
        fs::create_dir_all(tree.join(name)).expect("make a mount point");
    }
    fs::copy(env!("CARGO_BIN_EXE_stand-in-init"), tree.join("init")).expect("copy the stand-in");
    let status = Command::new("mkfs.erofs")
        .arg("--quiet")
        .arg(folder.join("root.erofs"))
        .arg(&tree)
        .status()
        .expect("mkfs.erofs is installed");
    assert!(status.success(), "mkfs.erofs: {status}");
    folder.to_owned()
}

/// All that a node has said on its console.
pub(crate) fn console(node: &dyn Node) -> String {
    fs::read_to_string(node.plan().console()).unwrap_or_default()
}

/// Waits until a node has said something `times` times.
pub(crate) fn wait_for_console(node: &dyn Node, text: &str, times: usize) {
    Patience::new(1.0)
        .wait_until(
            &format!("`{text}` on the console"),
            Duration::from_secs(10),
            || {
                let console = console(node);
                Look::at(console.matches(text).count() >= times, || console)
            },
        )
        .unwrap_or_else(|error| panic!("{error}\nhistory: {:?}", node.history()));
}

/// How many loop devices are attached to files below `folder`.
pub(crate) fn attached_loops(folder: &Path) -> usize {
    fs::read_dir("/sys/block")
        .expect("list the block devices")
        .flatten()
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok())
        .filter(|file| Path::new(file.trim()).starts_with(folder))
        .count()
}

/// The control groups of the cluster that a node's PID 1 belongs to: one.
pub(crate) fn cluster_groups(init: i32) -> Vec<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{init}/cgroup")).expect("read its groups");
    let path = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .expect("version 2");
    let mounts = fs::read_to_string("/proc/mounts").expect("read the mounts");
    let root = mounts
        .lines()
        .find_map(|line| {
            line.contains(" cgroup2 ")
                .then(|| line.split(' ').nth(1))
                .flatten()
        })
        .expect("control groups");
    let cluster = path.split('/').next().expect("the cluster's group");
    assert!(cluster.starts_with("masthead-lab-"), "{path}");
    vec![Path::new(root).join(cluster)]
}

/// The parent of a process.
pub(crate) fn parent(process: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .and_then(|parent| parent.trim().parse().ok())
        .expect("a parent")
}

/// The folder that `make image` has filled: of this repository, or where `MASTHEAD_IMAGE` says.
pub(crate) fn image() -> PathBuf {
    let path = std::env::var_os("MASTHEAD_IMAGE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/image"),
        PathBuf::from,
    );
    path.canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}; run make image first", path.display()))
}
