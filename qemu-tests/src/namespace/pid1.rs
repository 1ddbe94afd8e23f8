//! The node's half of a start: from the clone to `/init`.
//!
//! Runs in a forked child with one thread. Everything it opens is closed on exec, also its end
//! of the socket to the launcher: that it ends without a word says that `/init` runs.

use std::{
    convert::Infallible,
    ffi::CString,
    fs::File,
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
};

use super::{kernel, root};
use crate::error::{Attempt, Error, Result, chain};

/// The launcher's word to go on.
const GO: u8 = b'g';

/// Lets the child go one step further.
pub(super) fn allow(child: &mut UnixStream) -> Result<()> {
    child.write_all(&[GO]).attempt(|| "let PID 1 go on")
}

/// Becomes the node's `/init`, or tells the launcher why not and ends.
pub(super) fn become_init(
    mut launcher: UnixStream,
    console: &File,
    tree: &Path,
    timing_scale: f64,
) -> ! {
    let Err(error) = execute(&mut launcher, console, tree, timing_scale);
    // A launcher that has gone needs no reason.
    let _ = launcher.write_all(chain(&error).as_bytes());
    std::process::exit(1);
}

fn execute(
    launcher: &mut UnixStream,
    console: &File,
    tree: &Path,
    timing_scale: f64,
) -> Result<Infallible> {
    // The users are mapped.
    wait_for_launcher(launcher)?;
    rustix::thread::set_thread_groups(&[]).attempt(|| "drop the groups")?;
    let root = rustix::process::Gid::ROOT;
    rustix::thread::set_thread_res_gid(root, root, root).attempt(|| "become group 0")?;
    let root = rustix::process::Uid::ROOT;
    rustix::thread::set_thread_res_uid(root, root, root).attempt(|| "become user 0")?;
    // After the change of user, which clears it. A launcher that died before is noticed below.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .attempt(|| "tie PID 1 to its launcher")?;
    rustix::process::setsid().attempt(|| "start a session")?;
    let null = File::open("/dev/null").attempt(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(null.as_fd()).attempt(|| "replace standard input")?;
    rustix::stdio::dup2_stdout(console.as_fd()).attempt(|| "replace standard output")?;
    rustix::stdio::dup2_stderr(console.as_fd()).attempt(|| "replace standard error")?;

    // The daemon blocks signals for its own purposes; a new machine blocks none.
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .attempt(|| "unblock all signals")?;
    kernel::close_the_rest_on_exec().attempt(|| "close what the lab was started with")?;

    // The tree is mounted, the network plugged in.
    wait_for_launcher(launcher)?;
    nix::sched::unshare(
        nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWCGROUP,
    )
    .attempt(|| "unshare mounts and control groups")?;
    root::enter(tree)?;
    let arguments = [
        "/init".to_owned(),
        "--namespace".to_owned(),
        "--seed=/host/seed.toml".to_owned(),
        format!("--timing-scale={timing_scale}"),
    ]
    .map(|argument| CString::new(argument).expect("no NUL in what was just written"));
    nix::unistd::execve(
        &arguments[0],
        &arguments,
        &[c"PATH=/bin:/sbin", c"TERM=linux"],
    )
    .attempt(|| "execute /init of the image")
}

fn wait_for_launcher(launcher: &mut UnixStream) -> Result<()> {
    let mut word = [0];
    match launcher.read_exact(&mut word) {
        Ok(()) if word == [GO] => Ok(()),
        Ok(()) => Err(Error::Refused(
            "the launcher said something else".to_owned(),
        )),
        Err(error) => Err(error).attempt(|| "wait for the launcher"),
    }
}
