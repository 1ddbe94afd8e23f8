//! The end of a node: the last processes, the file systems, `reboot(2)`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use masthead_machine::Scale;
use nix::sys::signal::{Signal, kill};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};
use rustix::system::{RebootCommand, reboot};

use super::children::fork;
use super::log::say;
use super::mounts::{Mounted, mounted};
use crate::link::Ending;
use crate::node::{Facility, NodeKind};

/// For writing everything back and unmounting.
const TO_UNMOUNT: Duration = Duration::from_secs(30);
/// What stands on the console when nothing more can be done shall be read.
const TO_READ: Duration = Duration::from_secs(10);
/// Mounts may lie on mounts of others: so often all are tried again.
const ROUNDS: usize = 5;

/// Sends a signal to every process but PID 1.
pub(super) fn signal_everybody(signal: Signal) {
    // ESRCH: there is none.
    let _ = kill(nix::unistd::Pid::from_raw(-1), signal);
}

/// Kills every process of every service at once, however fast they start new ones.
pub(super) fn kill_services() {
    let file = rustix::fs::open(
        c"/sys/fs/cgroup/services/cgroup.kill",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    // Without services there is no such file.
    let _ = file.map(|file| rustix::io::write(file, b"1"));
}

/// Unmounts and ends the node. It does not return, whatever fails.
pub(super) fn finish(kind: NodeKind, scale: Scale, ending: Ending) -> ! {
    unmount_within(kind, scale * TO_UNMOUNT);
    let (command, text) = match ending {
        Ending::Reboot => (RebootCommand::Restart, "rebooting"),
        Ending::PowerOff => (RebootCommand::PowerOff, "switching off"),
    };
    say!("{text}");
    if let Err(error) = reboot(command) {
        say!("the kernel refuses to end the node: {error}");
    }
    // Reached when reboot(2) failed. The end of PID 1 is a panic of a machine's kernel, which
    // reboots it, and the end of a namespace.
    std::process::exit(1)
}

/// Says why PID 1 cannot go on, long enough to be read, and reboots.
pub(super) fn give_up(kind: NodeKind, scale: Scale, reason: &dyn std::fmt::Display) -> ! {
    say!("cannot go on: {reason}");
    if kind.is_machine() {
        say!("the machine reboots in {} seconds", TO_READ.as_secs());
        std::thread::sleep(TO_READ);
    }
    kill_services();
    signal_everybody(Signal::SIGKILL);
    finish(kind, scale, Ending::Reboot)
}

/// A child writes back and unmounts, since both stand still where a disk does; PID 1 does not wait
/// for ever.
fn unmount_within(kind: NodeKind, patience: Duration) {
    let work = || {
        unmount_all(kind);
        0
    };
    let child = match fork(work) {
        Ok(child) => child,
        Err(error) => {
            say!("cannot start the process that unmounts ({error}); doing it here");
            unmount_all(kind);
            return;
        }
    };
    if !ended_within(child, patience) {
        say!(
            "file systems were not unmounted within {} s: going on without",
            patience.as_secs()
        );
    }
}

fn ended_within(child: Pid, patience: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    let ended = pidfd_open(child, PidfdFlags::empty()).and_then(|pidfd| {
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).map(|ready| ready == 1)
    });
    let _ = waitpid(Some(child), WaitOptions::NOHANG);
    ended.unwrap_or(false)
}

/// Writes back and unmounts every file system that is on a disk, the last mounted first.
fn unmount_all(kind: NodeKind) {
    let on_disks = || -> Vec<Mounted> {
        let mut mounts = mounted().unwrap_or_default();
        mounts.retain(|mount| mount.source.starts_with('/') && mount.target != Path::new("/"));
        mounts.reverse();
        mounts
    };
    for mount in on_disks() {
        let directory = rustix::fs::open(&mount.target, OFlags::RDONLY, Mode::empty());
        if let Err(error) = directory.and_then(rustix::fs::syncfs) {
            say!("cannot write back {}: {error}", mount.target.display());
        }
    }
    for _ in 0..ROUNDS {
        let before = on_disks();
        for mount in &before {
            let _ = unmount(&mount.target, UnmountFlags::empty());
        }
        if on_disks().len() == before.len() {
            break;
        }
    }
    for mount in on_disks() {
        match unmount(&mount.target, UnmountFlags::empty()) {
            Ok(()) => {}
            // What the lab has mounted, the namespace cannot unmount: it is written back already.
            Err(Errno::INVAL | Errno::PERM) if !kind.has(Facility::Disks) => {}
            Err(error) => make_read_only(&mount, error),
        }
    }
}

fn make_read_only(mount: &Mounted, why: Errno) {
    say!("cannot unmount {}: {why}", mount.target.display());
    for holder in holders(&mount.target) {
        say!("{} is held by {holder}", mount.target.display());
    }
    match mount_remount(&mount.target, MountFlags::RDONLY, c"") {
        Ok(()) => say!("{} is read-only now, and clean", mount.target.display()),
        Err(error) => say!("cannot make {} read-only: {error}", mount.target.display()),
    }
}

/// Who has something open below `target`: process id and name.
fn holders(target: &Path) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let is_process = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.parse::<u32>()
            .is_ok_and(|pid| pid != std::process::id())
    };
    processes
        .flatten()
        .map(|entry| entry.path())
        .filter(is_process)
        .filter(|process| links(process).iter().any(|link| link.starts_with(target)))
        .map(|process| {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            let pid = process
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            format!("process {pid} ({})", name.trim_end())
        })
        .collect()
}

/// Everything that a process has open, stands in, or executes.
fn links(process: &Path) -> Vec<PathBuf> {
    let open = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let open = open.map(|entry| entry.path());
    let others = ["cwd", "root", "exe"].map(|name| process.join(name));
    open.chain(others)
        .filter_map(|link| fs::read_link(link).ok())
        .collect()
}

/// Writes a last word into the kernel's log, which pstore keeps over a reboot.
pub(super) fn tell_kernel(text: &str) {
    if let Ok(mut log) = fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = writeln!(log, "<2>masthead: {text}");
    }
}
