//! Stage 1: from the initramfs into the EROFS root.
//!
//! The initramfs holds `/init` (the program `first-stage`), `/root.erofs` and, under `/modules`, the modules that
//! mounting it needs, with their order in `/modules/load`. Everything else of the node is in the EROFS.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use masthead_policy::Mounts;
use rustix::fs::statfs;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move};
use thiserror::Error;

use super::handed_over::{INITRAMFS, WATCHDOG, hand_over};
use super::log::say;
use super::modules;
use super::mounts::{MountError, mount_one};
use super::watchdog;
use crate::loop_device::{self, Access};

/// The image of the root, and where it is mounted before it becomes `/`.
const IMAGE: &str = "/root.erofs";
const NEW_ROOT: &str = "/new-root";
/// What moves from the initramfs into the root.
const CARRIED_OVER: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The file system types of an initramfs: `RAMFS_MAGIC` and `TMPFS_MAGIC` of statfs(2).
const MEMORY_FILE_SYSTEMS: [i64; 2] = [0x8584_58f6, 0x0102_1994];

/// The EROFS could not be made the root.
#[derive(Debug, Error)]
pub(super) enum SwitchError {
    /// The table of mounts does not parse.
    #[error("the table of mounts cannot be read")]
    Table(#[from] masthead_policy::TableError),
    /// A file system of the kernel could not be mounted.
    #[error("the initramfs cannot be set up")]
    Mount(#[from] MountError),
    /// A module could not be loaded.
    #[error("a module of the initramfs cannot be loaded")]
    Module(#[from] modules::LoadError),
    /// Something runs it that has a root already.
    #[error("the root is no initramfs with an image of the node's root in it")]
    NoInitramfs,
    /// Anything else.
    #[error("cannot {action}")]
    Step {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Whether this is the initramfs of an image: the root is in memory, and the EROFS lies in it.
fn is_initramfs() -> bool {
    let in_memory = statfs("/").is_ok_and(|root| MEMORY_FILE_SYSTEMS.contains(&root.f_type));
    in_memory && Path::new(IMAGE).exists()
}

/// Goes on as `/init` of the EROFS; it returns only when that fails.
pub(super) fn switch_root() -> Result<Infallible, SwitchError> {
    let step = |action| move |source: io::Error| SwitchError::Step { action, source };
    // All of it is deleted in the end.
    if !is_initramfs() {
        return Err(SwitchError::NoInitramfs);
    }
    let table = Mounts::embedded()?;
    for line in table
        .on(true)
        .filter(|line| CARRIED_OVER.contains(&line.target.as_str()))
    {
        mount_one(line, Path::new("/"))?;
    }
    load_modules()?;
    let mut kept = Vec::new();
    if let Some(device) = watchdog::start_early() {
        let watchdog = hand_over(WATCHDOG, device.into());
        kept.push(watchdog.map_err(|error| step("hand the watchdog over")(error.into()))?);
    }
    if Path::new("/").join(masthead_uki::frame::FILE).exists() {
        let initramfs = File::open("/").map_err(step("open the initramfs"))?;
        let initramfs = hand_over(INITRAMFS, initramfs.into());
        kept.push(initramfs.map_err(|error| step("hand the initramfs over")(error.into()))?);
    }

    fs::create_dir_all(NEW_ROOT).map_err(step("make the root's directory"))?;
    mount_image().map_err(step("mount the root"))?;
    for path in CARRIED_OVER {
        mount_move(path, format!("{NEW_ROOT}{path}"))
            .map_err(|error| step("move a mount into the root")(error.into()))?;
    }
    empty_initramfs();
    enter_root().map_err(|error| step("enter the root")(error.into()))?;
    Err(step("execute /init of the root")(
        Command::new("/init").args(kept).exec(),
    ))
}

/// Loads what `/modules/load` lists: one file name on a line, in order.
fn load_modules() -> Result<(), SwitchError> {
    let list = match fs::read_to_string("/modules/load") {
        // A kernel with everything built in needs none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|source| SwitchError::Step {
            action: "read /modules/load, the list of the initramfs' modules",
            source,
        })?,
    };
    for name in list.lines().map(str::trim).filter(|name| !name.is_empty()) {
        match modules::load_file(&Path::new("/modules").join(name)) {
            // The driver of a watchdog that this machine does not have. What the root needs is missed when it is mounted.
            Err(error) if error.is_without_device() => {}
            other => other?,
        }
    }
    Ok(())
}

/// The root is never written to, holds no devices, and nothing in it raises privileges.
const ROOT_FLAGS: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV);

/// Mounts the image from its file, which needs no loop device; a kernel that cannot (before 6.12, or
/// with the initramfs on tmpfs) gets one.
fn mount_image() -> io::Result<()> {
    match mount(IMAGE, NEW_ROOT, "erofs", ROOT_FLAGS, None) {
        Ok(()) => {
            say!("root: EROFS, straight from its file");
            return Ok(());
        }
        Err(Errno::NOTBLK | Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let device = loop_device::attach(&File::open(IMAGE)?, Access::ReadOnly)?;
    let name = CString::new(device.path.as_str())?;
    mount(&*name, NEW_ROOT, "erofs", ROOT_FLAGS, None)?;
    say!("root: EROFS on {}", device.path);
    Ok(())
}

/// Frees the memory of what is not needed any more. The image's own file must stay.
fn empty_initramfs() {
    for path in ["/modules", "/init"] {
        let path = Path::new(path);
        let removed = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        if let Err(error) = removed {
            say!("cannot free {} of the initramfs: {error}", path.display());
        }
    }
}

/// `pivot_root(2)` does not work on an initramfs: its successor is moved over it instead.
fn enter_root() -> Result<(), Errno> {
    rustix::process::chdir(NEW_ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}
