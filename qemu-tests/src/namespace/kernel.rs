//! The system calls that no crate offers: clone into a control group, id-mapped mounts,
//! and the ioctls that hurt a file system.
#![expect(
    unsafe_code,
    reason = "clone3, mount_setattr and these ioctls have no safe wrapper anywhere"
)]

use std::{
    ffi::c_int,
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// `EXT4_GOING_FLAGS_NOLOGFLUSH` (fs/ext4/ext4.h): stop without writing the journal out.
const NO_LOG_FLUSH: u32 = 2;
/// Which side of a clone one is.
pub(super) enum Cloned {
    /// The new process, PID 1 of its namespaces.
    Child,
    /// The process that made it.
    Parent {
        /// The child's process id here.
        pid: i32,
        /// Its pidfd.
        pidfd: OwnedFd,
    },
}

/// `struct clone_args` (include/uapi/linux/sched.h), version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks a child into new user, PID, network, UTS and IPC namespaces and into `cgroup` (clone3(2)).
/// Mount and control group namespaces are the child's own business: the mounts are not
/// ready yet, and a control group namespace's root is the group of who makes it.
///
/// The caller must have only one thread; this is checked.
pub(super) fn clone_into_new_namespaces(cgroup: BorrowedFd<'_>) -> io::Result<Cloned> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(
            "a process with several threads must not clone itself",
        ));
    }
    let mut pidfd: RawFd = -1;
    #[expect(
        clippy::cast_sign_loss,
        reason = "flags and descriptors are not negative"
    )]
    let arguments = CloneArguments {
        flags: (libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_PIDFD) as u64
            | CLONE_INTO_CGROUP,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArguments::default()
    };
    // SAFETY: `arguments` is a clone_args of the size given; without CLONE_VM the child has
    // its own copy of all memory, and as this process has one thread, no lock is held in it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent {
            pid: i32::try_from(pid).map_err(io::Error::other)?,
            // SAFETY: CLONE_PIDFD made the kernel store a new descriptor, which nobody else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// `CLONE_INTO_CGROUP` (include/uapi/linux/sched.h, Linux 5.7): beyond 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct mount_attr` (include/uapi/linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_IDMAP` (include/uapi/linux/mount.h, Linux 5.12).
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Shows the owners of a detached mount through the id map of a user namespace: what belongs
/// to user 0 on disk belongs to that namespace's user 0 (mount_setattr(2)).
pub(super) fn map_ids(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    #[expect(clippy::cast_sign_loss, reason = "a descriptor is not negative")]
    let attributes = MountAttributes {
        attr_set: MOUNT_ATTR_IDMAP,
        userns_fd: user_namespace.as_raw_fd() as u64,
        ..MountAttributes::default()
    };
    // SAFETY: an empty path with AT_EMPTY_PATH names the mount behind the descriptor, and
    // `attributes` is a mount_attr of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })
}

mod raw {
    use nix::{ioctl_read, ioctl_readwrite};

    // EXT4_IOC_SHUTDOWN (fs/ext4/ext4.h), FIFREEZE and FITHAW (include/uapi/linux/fs.h).
    ioctl_read!(ext4_shutdown, b'X', 125, u32);
    ioctl_readwrite!(freeze, b'X', 119, libc::c_int);
    ioctl_readwrite!(thaw, b'X', 120, libc::c_int);
}

/// Ends an ext4 file system on the spot, without writing its journal out: what was not synced
/// is lost, and every further access fails with EIO.
pub(super) fn shut_down_ext4(root: impl AsFd) -> io::Result<()> {
    let mut flags = NO_LOG_FLUSH;
    // SAFETY: the ioctl reads one u32 (in spite of its direction bits).
    unsafe { raw::ext4_shutdown(root.as_fd().as_raw_fd(), &raw mut flags) }?;
    Ok(())
}

/// Makes every write to a file system wait.
pub(super) fn freeze(root: impl AsFd) -> io::Result<()> {
    let mut unused: c_int = 0;
    // SAFETY: FIFREEZE ignores its argument.
    unsafe { raw::freeze(root.as_fd().as_raw_fd(), &raw mut unused) }?;
    Ok(())
}

/// Lets the writes to a frozen file system go on.
pub(super) fn thaw(root: impl AsFd) -> io::Result<()> {
    let mut unused: c_int = 0;
    // SAFETY: FITHAW ignores its argument.
    unsafe { raw::thaw(root.as_fd().as_raw_fd(), &raw mut unused) }?;
    Ok(())
}

/// Has every descriptor above standard error closed on exec: what the lab itself was started
/// with is none of the node's business.
pub(super) fn close_the_rest_on_exec() -> io::Result<()> {
    // SAFETY: marks descriptors, closes none: nobody loses what they own.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
