//! `clone3`, and what the child does between it and `execve`.
#![expect(
    unsafe_code,
    reason = "clone3 and the raw system calls of the child have no safe wrapper"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{mem, ptr};

use super::plan::{Plan, Report, Step};

/// A child that was made; it may not have executed its program yet.
#[derive(Debug)]
pub(super) struct Child {
    /// Its id.
    pub(super) pid: u32,
    /// Its pidfd.
    pub(super) pidfd: OwnedFd,
}

/// Makes a child inside the control group whose directory is `cgroup`, which carries the plan out. If
/// a step fails it writes a [`Report`] into `report`; that descriptor closes at `execve`.
pub(super) fn spawn(plan: &Plan, cgroup: BorrowedFd, report: BorrowedFd) -> io::Result<Child> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let arguments = pointers(&plan.arguments);
    let environment = pointers(&plan.environment);

    let mut pidfd: c_int = -1;
    // SAFETY: `clone_args` is made of integers only, for which zero means "not used".
    let mut clone: libc::clone_args = unsafe { mem::zeroed() };
    // No signal handler of ours runs in the child: there they have their default action.
    clone.flags = (libc::CLONE_PIDFD as u64) | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP;
    clone.pidfd = (&raw mut pidfd) as u64;
    clone.exit_signal = libc::SIGCHLD as u64;
    clone.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());

    // SAFETY: without CLONE_VM the child gets a copy of our memory and a stack of its own, like
    // fork(2). `clone` and `pidfd` live across the call. The child runs only `run`, which makes
    // async-signal-safe system calls on memory prepared above, and never returns here.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut clone,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let bytes = run(plan, &arguments, &environment).encode();
            // SAFETY: `bytes` is valid for its length, and `_exit` runs no code of ours. A supervisor
            // that died meanwhile has nobody to read the report: the error of `write` is moot.
            unsafe {
                libc::write(report.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
                libc::_exit(EXIT_NOT_EXECUTED)
            }
        }
        pid => {
            // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = u32::try_from(pid).expect("a process id fits 32 bits");
            Ok(Child { pid, pidfd })
        }
    }
}

/// The exit code of a child that could not execute its program, as shells use it.
const EXIT_NOT_EXECUTED: c_int = 127;

// The C library's constants are `int`, in which these two overflow (linux/sched.h).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The largest signal number (`_NSIG`).
const LAST_SIGNAL: c_int = 64;

/// Carries the plan out, in the child. Returns only if a step fails.
///
/// From here on nothing may allocate, lock, panic or unwind. System calls that the C library would
/// spread over all threads (`setuid`, `setgroups`, …) are made raw.
fn run(plan: &Plan, arguments: &[*const c_char], environment: &[*const c_char]) -> Report {
    if let Err(failed) = steps(plan) {
        return failed;
    }
    // SAFETY: three valid pointers; the arrays end with a null pointer and their strings live as long
    // as `plan`.
    unsafe {
        libc::execve(
            plan.program.as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
        );
    }
    failed(Step::Execute, 0)
}

fn steps(plan: &Plan) -> Result<(), Report> {
    // SAFETY: setsid(2) and umask(2) take no pointers.
    check(Step::Session, unsafe { libc::setsid() }.into())?;
    // SAFETY: as above.
    unsafe { libc::umask(0o027) };
    reset_signals()?;
    arrange_descriptors(plan)?;
    write_oom_score(plan)?;

    for (index, (resource, limit)) in plan.resource_limits.iter().enumerate() {
        // SAFETY: `limit` is a valid structure, and no old value is asked for.
        let result = unsafe { libc::prlimit(0, *resource, limit, ptr::null_mut()) };
        #[expect(clippy::cast_possible_truncation, reason = "there are 16 resources")]
        check_one(Step::ResourceLimit, index as u8, result.into())?;
    }

    // Nobody may attach to this copy of the supervisor's memory once it belongs to the service's
    // user. `execve` makes the program dumpable again; no core is written, by RLIMIT_CORE.
    prctl(Step::Dumpable, 0, libc::PR_SET_DUMPABLE, 0, 0)?;

    for &capability in &plan.dropped {
        prctl(
            Step::BoundingSet,
            capability,
            libc::PR_CAPBSET_DROP,
            capability.into(),
            0,
        )?;
    }
    // SAFETY: the pointer is valid for the count of groups that is given with it.
    let result =
        unsafe { libc::syscall(libc::SYS_setgroups, plan.groups.len(), plan.groups.as_ptr()) };
    check(Step::Groups, result)?;
    // SAFETY: setresgid(2) takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, plan.group, plan.group, plan.group) };
    check(Step::Group, result)?;
    prctl(Step::KeepCapabilities, 0, libc::PR_SET_KEEPCAPS, 1, 0)?;
    // SAFETY: setresuid(2) takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, plan.user, plan.user, plan.user) };
    check(Step::User, result)?;
    set_capabilities(plan)?;
    prctl(Step::NoNewPrivileges, 0, libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;

    // SAFETY: the path is a valid string.
    check(
        Step::Directory,
        unsafe { libc::chdir(plan.directory.as_ptr()) }.into(),
    )
}

/// Default action for every signal, also for those that were ignored, and none blocked.
fn reset_signals() -> Result<(), Report> {
    // The kernel's own structure, which is not the C library's: handler, flags, restorer and a mask of
    // 64 bits. All zero is the default action.
    static DEFAULT: [u64; 4] = [0; 4];
    const MASK_SIZE: usize = size_of::<u64>();
    const NONE: *mut [u64; 4] = ptr::null_mut();
    for signal in 1..=LAST_SIGNAL {
        // Raw, because the C library refuses the two signals that it keeps to itself, and they may be
        // inherited as ignored. KILL and STOP cannot be changed, which is harmless.
        // SAFETY: a valid structure, and no old action is asked for.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const DEFAULT,
                NONE,
                MASK_SIZE,
            )
        };
    }
    // SAFETY: `none` is initialised by sigemptyset before it is used.
    let result = unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut())
    };
    check(Step::Signals, result.into())
}

/// Standard descriptors from the plan; all others close at `execve`.
fn arrange_descriptors(plan: &Plan) -> Result<(), Report> {
    let (input, output) = (plan.input.as_raw_fd(), plan.output.as_raw_fd());
    for (from, to) in [(input, 0), (output, 1), (output, 2)] {
        // SAFETY: dup2(2) takes no pointers. `from` is above 2, so that the copy lacks CLOEXEC.
        check(Step::Descriptors, unsafe { libc::dup2(from, to) }.into())?;
    }
    // SAFETY: close_range(2) takes no pointers, and closes nothing yet.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as c_uint,
            c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(Step::Descriptors, result)
}

fn write_oom_score(plan: &Plan) -> Result<(), Report> {
    const PATH: &CStr = c"/proc/self/oom_score_adj";
    // SAFETY: the path is a valid string.
    let file = unsafe { libc::open(PATH.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(Step::OomScore, file.into())?;
    let value = plan.oom_score_adjust.as_bytes();
    // SAFETY: the value is valid for its length. The descriptor closes at `execve`.
    let written = unsafe { libc::write(file, value.as_ptr().cast(), value.len()) };
    check(Step::OomScore, written as c_long)
}

/// Permitted, effective, inheritable and ambient set to what the plan keeps, see capabilities(7).
fn set_capabilities(plan: &Plan) -> Result<(), Report> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;

    let mask = plan
        .kept
        .iter()
        .fold(0_u64, |mask, &capability| mask | (1 << (capability & 63)));
    #[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
    let halves = [mask as u32, (mask >> 32) as u32].map(|half| Sets {
        effective: half,
        permitted: half,
        inheritable: half,
    });
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // SAFETY: version 3 takes a header and two sets, of the kernel's layout.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    check(Step::Capabilities, result)?;

    let (clear, raise) = (
        libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong,
        libc::PR_CAP_AMBIENT_RAISE as c_ulong,
    );
    prctl(Step::AmbientSet, 0, libc::PR_CAP_AMBIENT, clear, 0)?;
    for &capability in &plan.kept {
        prctl(
            Step::AmbientSet,
            capability,
            libc::PR_CAP_AMBIENT,
            raise,
            capability.into(),
        )?;
    }
    Ok(())
}

/// A prctl(2) that takes numbers only.
fn prctl(
    step: Step,
    detail: u8,
    option: c_int,
    second: c_ulong,
    third: c_ulong,
) -> Result<(), Report> {
    const NONE: c_ulong = 0;
    // SAFETY: none of the options that this module uses takes a pointer.
    check_one(
        step,
        detail,
        unsafe { libc::prctl(option, second, third, NONE, NONE) }.into(),
    )
}

fn check(step: Step, result: c_long) -> Result<(), Report> {
    check_one(step, 0, result)
}

fn check_one(step: Step, detail: u8, result: c_long) -> Result<(), Report> {
    if result == -1 {
        Err(failed(step, detail))
    } else {
        Ok(())
    }
}

fn failed(step: Step, detail: u8) -> Report {
    // SAFETY: the C library's error number is a valid location of this thread.
    let errno = unsafe { *libc::__errno_location() };
    Report {
        step,
        detail,
        errno,
    }
}
