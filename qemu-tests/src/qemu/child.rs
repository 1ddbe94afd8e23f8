//! A child process that dies with the lab.
#![expect(
    unsafe_code,
    reason = "a parent-death signal can only be asked for between fork and exec"
)]

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command},
};

use rustix::process::{Signal, set_parent_process_death_signal};

/// Starts it. The signal follows the *thread* that called this (`PR_SET_PDEATHSIG`, prctl(2)), so that
/// thread must live as long as the child is wanted.
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    // SAFETY: the closure makes one system call, and allocates and locks nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    command.spawn()
}
