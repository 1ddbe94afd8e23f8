//! Running a program inside of a namespace node: `lab exec`.
//!
//! Only the lab can: it is root outside. The node's image offers no such way in, and a machine
//! has none.

use std::{
    ffi::OsString,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Command, ExitStatus},
};

use rustix::{
    process::{Pid, PidfdFlags, pidfd_open},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};

use crate::error::{Attempt, Error, Result};

/// Runs a program in all namespaces of the process `init`, as their root, and waits for it.
///
/// The calling process joins them too, and is good for nothing else afterwards. It must have
/// one thread only (setns(2), user namespaces).
pub fn run(init: i32, command: &[OsString]) -> Result<ExitStatus> {
    let [name, arguments @ ..] = command else {
        return Err(Error::Refused(
            "no command: lab exec NODE -- COMMAND …".to_owned(),
        ));
    };
    let pid =
        Pid::from_raw(init).ok_or_else(|| Error::Refused(format!("{init} is no process id")))?;
    let process =
        pidfd_open(pid, PidfdFlags::empty()).attempt(|| format!("open process {init}"))?;
    // Before the user namespace is joined: outside of it this would not be ours any more.
    move_into_thread_name_spaces(
        process.as_fd(),
        ThreadNameSpaceType::USER
            | ThreadNameSpaceType::MOUNT
            | ThreadNameSpaceType::PROCESS_ID
            | ThreadNameSpaceType::NETWORK
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::CONTROL_GROUP,
    )
    .attempt(|| format!("enter the namespaces of process {init}"))?;
    Command::new(name)
        .args(arguments)
        .env_clear()
        .env("PATH", "/bin:/sbin")
        .current_dir("/")
        .uid(0)
        .gid(0)
        .status()
        .attempt(|| format!("run {} in the node (it has no shell)", name.display()))
}
