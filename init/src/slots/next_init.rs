//! Asking a staged image's own `/init` whether it takes this node's seed: a release may have become stricter.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount, umount};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;

use super::{OwnDisk, OwnDiskError};
use crate::check_seed::NOT_TAKEN;
use crate::loop_device::{self, Access};

/// Where the image's root is while it is asked: in memory.
const ROOT: &str = "/run/masthead/next-root.erofs";
/// Where it is mounted.
const TREE: &str = "/run/masthead/next-root";
/// Whom the kernel takes for nobody: what is asked needs nothing.
const NOBODY: u32 = 65_534;

/// Why a staged image is not to be started with the present seed.
#[derive(Debug, Error)]
pub enum NextInitError {
    /// The image cannot be read any more.
    #[error(transparent)]
    Disk(#[from] OwnDiskError),
    /// Its root cannot be mounted.
    #[error("the root of the staged image cannot be mounted")]
    Root(#[source] io::Error),
    /// Its `/init` cannot be run.
    #[error("the staged image's /init cannot be asked about the seed")]
    Run(#[source] io::Error),
    /// It says no.
    #[error("the staged image does not take this node's seed:\n{0}")]
    NotTaken(String),
    /// It says neither yes nor no.
    #[error(
        "the staged image's /init says nothing about the seed: it ended with {status}: {output}"
    )]
    Mute {
        /// In words.
        status: String,
        /// What it printed last.
        output: String,
    },
}

/// Whether the staged image takes this seed. Its `/init` may take so long.
pub fn takes_seed(disk: &OwnDisk, seed: &[u8], patience: Duration) -> Result<(), NextInitError> {
    let mounted = Mounted::of(disk)?;
    let init = Path::new(TREE).join("init");
    let answer = ask(&init, seed, patience).map_err(NextInitError::Run)?;
    drop(mounted);
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match answer.status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(NOT_TAKEN) => {
            Err(NextInitError::NotTaken(printed(&answer.stdout)))
        }
        _ => Err(NextInitError::Mute {
            status: answer.status.to_string(),
            output: printed(&answer.stderr),
        }),
    }
}

/// The staged image's root, until this is dropped.
struct Mounted;

impl Mounted {
    fn of(disk: &OwnDisk) -> Result<Self, NextInitError> {
        // What an earlier supervisor may have left.
        Self::remove();
        let placed = (|| {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(ROOT)
                .map_err(NextInitError::Root)?;
            disk.copy_staged_root(&mut file)?;
            let device =
                loop_device::attach(&file, Access::ReadOnly).map_err(NextInitError::Root)?;
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            fs::create_dir_all(TREE).map_err(NextInitError::Root)?;
            mount(
                Some(&*device.path),
                TREE,
                Some("erofs"),
                flags,
                None::<&str>,
            )
            .map_err(|error| NextInitError::Root(error.into()))
        })();
        let mounted = Self;
        placed.map(|()| mounted)
    }

    fn remove() {
        // Each of them may not be there.
        let _ = umount(TREE);
        let _ = fs::remove_dir(TREE);
        let _ = fs::remove_file(ROOT);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Self::remove();
    }
}

/// Runs it as nobody, with the seed on its standard input, and ends it when it takes too long.
fn ask(init: &Path, seed: &[u8], patience: Duration) -> io::Result<Output> {
    let mut child = Command::new(init)
        .arg("check-seed")
        .env_clear()
        .uid(NOBODY)
        .gid(NOBODY)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_child(&child);
    let watched = pidfd_open(pid, PidfdFlags::empty());
    let watching = watched.map(|watched| {
        thread::spawn(move || {
            let mut descriptors = [PollFd::new(&watched, PollFlags::IN)];
            let time = Timespec {
                tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: 0,
            };
            if let Ok(0) = poll(&mut descriptors, Some(&time)) {
                // It may end by itself at this moment.
                let _ = pidfd_send_signal(&watched, Signal::KILL);
            }
        })
    });
    if let Some(mut input) = child.stdin.take()
        && let Err(error) = input.write_all(seed)
        // One that ends early has another reason, which its status tells.
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    let output = child.wait_with_output();
    if let Ok(watching) = watching {
        // It ends with the process.
        let _ = watching.join();
    }
    output
}

/// The file's content, for [`OwnDisk::copy_staged_root`].
pub(super) fn copy(from: &mut impl io::Read, bytes: u64, to: &mut File) -> io::Result<()> {
    let copied = io::copy(&mut from.take(bytes), to)?;
    if copied < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn asked(script: &str, patience: Duration) -> io::Result<Output> {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("init");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        ask(&program, b"version = 1\n", patience)
    }

    #[test]
    fn it_hears_the_seed_and_is_nobody() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let minute = Duration::from_secs(60);
        let output = asked("echo $1 $(/usr/bin/id -u) $(/bin/cat)", minute).unwrap();
        assert_eq!(output.stdout, b"check-seed 65534 version = 1\n");
        assert!(output.status.success());
        let early = asked("exit 3", minute).unwrap();
        assert_eq!(early.status.code(), Some(3));
        let hung = asked("exec /bin/sleep 1000", Duration::from_secs(1)).unwrap();
        assert_eq!(hung.status.code(), None, "it was killed");
    }
}
