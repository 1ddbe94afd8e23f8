//! Control groups (v2): one subtree per node, which the node owns.

use std::{
    fs, io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::error::{Attempt, Error, Result};

/// Where the host has mounted control groups v2: at `/sys/fs/cgroup`, or beside version 1.
pub(super) fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").attempt(|| "read /proc/self/mounts")?;
    find_cgroup2(&mounts).ok_or_else(|| {
        Error::Refused(
            "no cgroup2 file system is mounted: mount one at /sys/fs/cgroup/unified".to_owned(),
        )
    })
}

fn find_cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_source, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(target))
    })
}

/// Makes the group of a node and gives it to the node's root user.
pub(super) fn delegate(group: &Path, owner: u32) -> Result<()> {
    remove(group)?;
    fs::create_dir_all(group).attempt(|| format!("make the control group {}", group.display()))?;
    // What cgroups(7), "Delegation", says to hand over; limits of the group itself stay ours.
    for file in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    ] {
        let path = group.join(file);
        chown(&path, Some(owner), Some(owner))
            .attempt(|| format!("give {} to the node", path.display()))?;
    }
    Ok(())
}

/// Lets the children of `group` use what controllers it has itself.
pub(super) fn pass_controllers_on(group: &Path) -> Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers"))
        .attempt(|| format!("read the controllers of {}", group.display()))?;
    let wanted: Vec<String> = available
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    fs::write(group.join("cgroup.subtree_control"), wanted.join(" "))
        .attempt(|| format!("enable controllers below {}", group.display()))
}

/// The processes in a group.
pub(super) fn processes(group: &Path) -> io::Result<Vec<i32>> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Removes a group and all below it, ending what still runs there. A group that is not there is
/// as good as removed.
pub(super) fn remove(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    // Older kernels lack it, and an empty group does not need it.
    let _ = fs::write(group.join("cgroup.kill"), "1");
    for _ in 0..500 {
        match remove_empty(group) {
            Ok(()) => return Ok(()),
            // The last processes are on their way out.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => {
                return Err(error)
                    .attempt(|| format!("remove the control group {}", group.display()));
            }
        }
    }
    Err(Error::Refused(format!(
        "the control group {} still has processes: see its cgroup.procs",
        group.display()
    )))
}

fn remove_empty(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_version_2_beside_version_1() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            find_cgroup2(mounts),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn says_nothing_where_there_is_none() {
        assert_eq!(find_cgroup2("proc /proc proc rw 0 0\n"), None);
    }
}
