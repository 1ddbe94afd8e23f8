//! What the tests of this crate share.

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
