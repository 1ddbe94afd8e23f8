//! The system calls that no crate offers: clone into a control group, id-mapped mounts, loop
//! devices, and the ioctls that hurt a file system.
#![expect(
    unsafe_code,
    reason = "clone3, mount_setattr and these ioctls have no safe wrapper anywhere"
)]

use std::{
    ffi::c_int,
    fs::File,
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
};

/// `EXT4_GOING_FLAGS_NOLOGFLUSH` (fs/ext4/ext4.h): stop without writing the journal out.
const NO_LOG_FLUSH: u32 = 2;
/// `LOOP_CTL_GET_FREE` (include/uapi/linux/loop.h).
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
/// `LOOP_CONFIGURE` (include/uapi/linux/loop.h, Linux 5.8).
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
/// The kernel detaches the device when its last user closes it: a lab that dies leaves none.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

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

/// `struct loop_info64` (include/uapi/linux/loop.h).
#[repr(C)]
struct LoopInformation {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` (include/uapi/linux/loop.h).
#[repr(C)]
struct LoopConfiguration {
    fd: u32,
    block_size: u32,
    information: LoopInformation,
    reserved: [u64; 8],
}

/// A loop device, attached to a file until nobody uses the device any more.
pub(super) struct LoopDevice {
    /// Holds the device until it is mounted.
    pub(super) file: File,
    /// `/dev/loopN`.
    pub(super) path: PathBuf,
    /// `loopN`.
    pub(super) name: String,
}

/// Attaches a free loop device to `image`.
pub(super) fn attach_loop(image: &File, read_only: bool) -> io::Result<LoopDevice> {
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    loop {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let name = format!("loop{number}");
        let path = PathBuf::from("/dev").join(&name);
        let file = File::options().read(true).write(!read_only).open(&path)?;
        let configuration = LoopConfiguration {
            fd: u32::try_from(image.as_raw_fd()).map_err(io::Error::other)?,
            block_size: 0,
            information: LoopInformation {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: LO_FLAGS_AUTOCLEAR | if read_only { LO_FLAGS_READ_ONLY } else { 0 },
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        // SAFETY: LOOP_CONFIGURE reads one loop_config.
        let result =
            unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CONFIGURE, &raw const configuration) };
        if result == 0 {
            return Ok(LoopDevice { file, path, name });
        }
        let error = io::Error::last_os_error();
        // Somebody else was faster with the free one: ask for another.
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error);
        }
    }
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
