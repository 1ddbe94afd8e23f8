//! An etcd that loses what it has acknowledged: the positive control of the power-cut tests.
//!
//! A test lays this program over `/bin/etcd` of a node. It adds `--unsafe-no-fsync` and becomes the real
//! etcd. The image itself has no switch for it.

use std::{os::unix::process::CommandExt, process::Command};

fn main() {
    let error = Command::new("/bin/masthead-components")
        .arg0("etcd")
        .args(std::env::args_os().skip(1))
        .arg("--unsafe-no-fsync")
        .exec();
    eprintln!("cannot execute /bin/masthead-components: {error}");
    std::process::exit(1);
}
