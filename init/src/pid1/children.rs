//! Starting and reaping children: the calls that have no safe form.
//!
//! PID 1 is single-threaded, so that a forked child may do what its parent may; it still only
//! makes system calls on what was prepared before the fork.

#![expect(
    unsafe_code,
    reason = "fork, execve and waitid with WNOWAIT have no safe form"
)]

use std::ffi::{CString, NulError, OsString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit};

use crate::link::SUPERVISOR_LINK_FD;
use crate::listeners::FIRST_LISTENER_FD;

/// From here on are the descriptors that PID 1 keeps for its children.
const LOWEST_KEPT_FD: RawFd = 32;

/// A program with all that its start needs, prepared so that starting it allocates nothing.
#[derive(Debug)]
pub struct Program {
    words: Vec<CString>,
    leaf: Option<OwnedFd>,
    oom_score_adj: CString,
    limits: Vec<(Resource, u64)>,
    listeners: Vec<OwnedFd>,
}

impl Program {
    /// A program by its path, and its arguments. It gets no environment.
    pub fn new(
        path: impl Into<OsString>,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, NulError> {
        let words = std::iter::once(path.into()).chain(arguments);
        Ok(Self {
            words: words
                .map(|word| CString::new(word.into_vec()))
                .collect::<Result<_, _>>()?,
            leaf: None,
            oom_score_adj: CString::default(),
            limits: Vec::new(),
            listeners: Vec::new(),
        })
    }

    /// Its control group, as the open `cgroup.procs` of it.
    pub fn in_leaf(self, cgroup_procs: OwnedFd) -> Self {
        Self {
            leaf: Some(cgroup_procs),
            ..self
        }
    }

    /// How the kernel treats it when memory runs out; from -1000 to 1000.
    pub fn with_oom_score_adj(self, value: i32) -> Self {
        let text = CString::new(value.to_string()).expect("a number has no NUL byte");
        Self {
            oom_score_adj: text,
            ..self
        }
    }

    /// A resource limit, soft and hard.
    pub fn with_limit(mut self, resource: Resource, value: u64) -> Self {
        self.limits.push((resource, value));
        self
    }

    /// Sockets that it gets from [`FIRST_LISTENER_FD`] on, in this order.
    pub fn with_listeners(self, sockets: &[OwnedFd]) -> io::Result<Self> {
        // Their own numbers are above all those that the child gives them, whatever their order.
        let above = |socket| Ok(rustix::io::fcntl_dupfd_cloexec(socket, LOWEST_KEPT_FD)?);
        Ok(Self {
            listeners: sockets.iter().map(above).collect::<io::Result<_>>()?,
            ..self
        })
    }

    /// Starts it as a session of its own, with its end of the link as [`SUPERVISOR_LINK_FD`].
    pub fn start(&self, link: &OwnedFd) -> io::Result<Pid> {
        // One child at a time, so that the array of pointers can be on the stack.
        const MOST_WORDS: usize = 16;
        let mut pointers: [*const c_char; MOST_WORDS + 1] = [ptr::null(); MOST_WORDS + 1];
        if self.words.len() > MOST_WORDS {
            return Err(io::ErrorKind::ArgumentListTooLong.into());
        }
        for (pointer, word) in pointers.iter_mut().zip(&self.words) {
            *pointer = word.as_ptr();
        }
        fork(|| {
            self.become_session(link);
            let environment: [*const c_char; 1] = [ptr::null()];
            // SAFETY: both arrays end with a null pointer, and hold pointers to strings that end with
            // a NUL byte and that `self` keeps alive. It returns only on failure.
            unsafe { libc::execve(pointers[0], pointers.as_ptr(), environment.as_ptr()) };
            CANNOT_EXECUTE
        })
    }

    /// What the child does before `execve`. A step that fails is no reason not to start: a
    /// supervisor outside of its control group is better than none.
    fn become_session(&self, link: &OwnedFd) {
        let _ = rustix::process::setsid();
        if let Some(leaf) = &self.leaf {
            let _ = rustix::io::write(leaf, b"0");
        }
        if !self.oom_score_adj.is_empty() {
            let file = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY, Mode::empty());
            let _ = file.map(|file| rustix::io::write(file, self.oom_score_adj.to_bytes()));
        }
        for &(resource, value) in &self.limits {
            let limit = Rlimit {
                current: Some(value),
                maximum: Some(value),
            };
            let _ = rustix::process::setrlimit(resource, limit);
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
        if link.as_raw_fd() == SUPERVISOR_LINK_FD {
            let _ = rustix::io::fcntl_setfd(link, rustix::io::FdFlags::empty());
        } else {
            // SAFETY: it replaces a descriptor of the child, whose owner in this copy of the
            // process is never used or dropped again.
            unsafe { libc::dup2(link.as_raw_fd(), SUPERVISOR_LINK_FD) };
        }
        // The link has its place by now, so that nothing that is needed is replaced.
        for (number, socket) in (FIRST_LISTENER_FD..).zip(&self.listeners) {
            // SAFETY: as above.
            unsafe { libc::dup2(socket.as_raw_fd(), number) };
        }
    }
}

/// The exit code of a child that could not become its program; shells use the same.
const CANNOT_EXECUTE: i32 = 127;

/// Runs `work` in a child, whose exit code it returns.
pub(super) fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: PID 1 has one thread, so the copy of its memory is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // A panic must not unwind into the parent's frames of the copy.
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: it ends this copy of the process without running anything of the parent's.
            unsafe { libc::_exit(code.unwrap_or(CANNOT_EXECUTE)) }
        }
        pid => Ok(Pid::from_raw(pid).expect("fork returns the number of a process")),
    }
}

/// What the next child to be reaped is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This one has ended and waits to be reaped.
    Ended(Pid),
    /// All that there are run.
    Running,
    /// There is none.
    Nobody,
}

/// Looks for a child that has ended, and leaves it in `/proc` for the caller to read.
///
/// rustix does not say which process it is, and nix fails on signals that it has no name for.
pub(super) fn next_ended() -> Next {
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is a valid place for a siginfo_t.
        let result = unsafe {
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options)
        };
        if result == 0 {
            // SAFETY: all zero bytes are a siginfo_t, and waitid has filled in a process id, or left
            // it 0 when no child has ended: waitid(2).
            let pid = unsafe { info.assume_init().si_pid() };
            return Pid::from_raw(pid).map_or(Next::Running, Next::Ended);
        }
        match rustix::io::Errno::from_io_error(&io::Error::last_os_error()) {
            Some(rustix::io::Errno::INTR) => {}
            _ => return Next::Nobody,
        }
    }
}

/// Whether standard input, output and error are open; a kernel that found no console leaves them
/// closed.
pub(super) fn standard_descriptors_are_open() -> bool {
    (0..3).all(|number| {
        // SAFETY: the descriptor is only borrowed for fcntl(2) to say whether it is open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_getfd(descriptor).is_ok()
    })
}
