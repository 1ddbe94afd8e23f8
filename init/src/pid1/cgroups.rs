//! The control groups of PID 1 and the supervisor; those of the services are the supervisor's.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::log::say;

/// The mount point of cgroup2.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// What services are limited with.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// Moves PID 1 into `/init`, so that the root holds no process and may hand controllers down, and
/// makes `/supervisor`. Returns the latter's `cgroup.procs`, for the supervisor to be started in.
pub(super) fn prepare(root: &Path, supervisor_pids_max: Option<u64>) -> io::Result<OwnedFd> {
    let init = root.join("init");
    let supervisor = root.join("supervisor");
    for leaf in [&init, &supervisor] {
        match fs::create_dir(leaf) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    fs::write(init.join("cgroup.procs"), "0")?;
    enable_controllers(root)?;
    if let Some(most) = supervisor_pids_max
        && let Err(error) = fs::write(supervisor.join("pids.max"), most.to_string())
    {
        say!("the supervisor's number of processes is not limited: {error}");
    }
    let procs = File::options()
        .write(true)
        .open(supervisor.join("cgroup.procs"))?;
    Ok(procs.into())
}

/// Hands down what the kernel offers of [`CONTROLLERS`], and says what it does not.
fn enable_controllers(root: &Path) -> io::Result<()> {
    let offered = fs::read_to_string(root.join("cgroup.controllers"))?;
    let mut without = Vec::new();
    for controller in CONTROLLERS {
        let enabled = offered.split_whitespace().any(|name| name == controller)
            && fs::write(
                root.join("cgroup.subtree_control"),
                format!("+{controller}"),
            )
            .is_ok();
        if !enabled {
            without.push(controller);
        }
    }
    if !without.is_empty() {
        say!(
            "without the control group controllers: {}",
            without.join(", ")
        );
    }
    Ok(())
}
