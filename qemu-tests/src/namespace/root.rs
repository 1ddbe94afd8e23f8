//! The tree that a node sees as its root.
//!
//! Built in the launcher's private mount namespace as the host's root, because EROFS and ext4
//! cannot be mounted from inside a user namespace. The node gets a copy whose mounts are locked:
//! it can mount on top, but neither remove nor loosen what it was given.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};

use super::{boot_disk::Boot, disks, kernel};
use crate::{
    error::{Attempt, Result},
    plan::NodePlan,
};

/// The devices that a node gets, bound from the host's.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// The kernel lets a user namespace mount proc and sysfs only where one is already visible
/// (`mount_too_revealing` in fs/namespace.c). PID 1 wants to mount its own at /proc and /sys, so
/// it is given one of each here, as LXC does with `/dev/.lxc`.
pub(super) const VISIBLE_PROC: &str = "dev/.lab/proc";
/// See [`VISIBLE_PROC`].
pub(super) const VISIBLE_SYS: &str = "dev/.lab/sys";

/// Mounts the root at `tree`, and `/dev` and `/host` in it; `user_namespace` is the node's, in which user 0
/// is `owner` on the host.
pub(super) fn build(
    plan: &NodePlan,
    boot: &Boot,
    seed: &str,
    tree: &Path,
    user_namespace: BorrowedFd<'_>,
    owner: u32,
) -> Result<()> {
    fs::create_dir_all(tree).attempt(|| format!("make {}", tree.display()))?;
    let image = disks::mount_root_image(&boot.root)?;
    place(image, tree, "", Some(user_namespace))?;
    if let Some(changes) = &plan.root_changes {
        cover(changes, tree)?;
    }

    let host = place(small_tmpfs("0700", owner)?, tree, "/host", None)?;
    let seed_file = host.join("seed.toml");
    fs::write(&seed_file, seed)
        .and_then(|()| fs::set_permissions(&seed_file, fs::Permissions::from_mode(0o400)))
        .and_then(|()| chown(&seed_file, Some(owner), Some(owner)))
        .attempt(|| format!("write {}", seed_file.display()))?;
    if let Some(folder) = &boot.handed_in {
        let target = host.join("boot");
        fs::create_dir(&target).attempt(|| format!("make {}", target.display()))?;
        let clone = open_tree(
            CWD,
            folder,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .attempt(|| format!("bind {}", folder.display()))?;
        attach(clone.as_fd(), &target)?;
    }

    let dev = place(small_tmpfs("0755", owner)?, tree, "/dev", None)?;
    for name in DEVICES {
        let target = dev.join(name);
        let device = Path::new("/dev").join(name);
        fs::write(&target, "").attempt(|| format!("make {}", target.display()))?;
        let clone = open_tree(
            CWD,
            &device,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .attempt(|| format!("bind {}", device.display()))?;
        attach(clone.as_fd(), &target)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name)).attempt(|| format!("link /dev/{name}"))?;
    }
    for folder in [VISIBLE_PROC, VISIBLE_SYS] {
        let folder = tree.join(folder);
        fs::create_dir_all(&folder).attempt(|| format!("make {}", folder.display()))?;
    }
    Ok(())
}

/// Attaches a detached mount at `path` in `tree`, with its owners seen through the id map of
/// `user_namespace` if one is given. Returns where that is on the host.
pub(super) fn place(
    mount: OwnedFd,
    tree: &Path,
    path: &str,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<PathBuf> {
    let target = tree.join(path.trim_start_matches('/'));
    if let Some(user_namespace) = user_namespace {
        kernel::map_ids(mount.as_fd(), user_namespace)
            .attempt(|| format!("map the owners of {}", target.display()))?;
    }
    attach(mount.as_fd(), &target)?;
    Ok(target)
}

fn attach(mount: BorrowedFd<'_>, target: &Path) -> Result<()> {
    move_mount(
        mount,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .attempt(|| format!("mount at {}", target.display()))
}

/// Lays the files of `changes` over the root: a read-only overlay of two folders.
fn cover(changes: &Path, tree: &Path) -> Result<()> {
    let what = || format!("lay {} over the root", changes.display());
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).attempt(what)?;
    let layers = format!("{}:{}", changes.display(), tree.display());
    fsconfig_set_string(context.as_fd(), "lowerdir", layers).attempt(what)?;
    fsconfig_create(context.as_fd()).attempt(what)?;
    let mount = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .attempt(what)?;
    attach(mount.as_fd(), tree)
}

fn small_tmpfs(mode: &str, owner: u32) -> Result<OwnedFd> {
    let what = || "mount a tmpfs for the node";
    let owner = owner.to_string();
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).attempt(what)?;
    for (key, value) in [
        ("size", "1m"),
        ("mode", mode),
        ("uid", owner.as_str()),
        ("gid", owner.as_str()),
    ] {
        fsconfig_set_string(context.as_fd(), key, value).attempt(what)?;
    }
    fsconfig_create(context.as_fd()).attempt(what)?;
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
    .attempt(what)
}

/// In the node's own mount namespace: makes `tree` the root and forgets the host's. The
/// tree is bound onto itself first, because a mount that was locked by the copy cannot become a root.
pub(super) fn enter(tree: &Path) -> Result<()> {
    let clone = open_tree(
        CWD,
        tree,
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .attempt(|| format!("bind {}", tree.display()))?;
    attach(clone.as_fd(), tree)?;
    for (kind, folder) in [("proc", VISIBLE_PROC), ("sysfs", VISIBLE_SYS)] {
        let context =
            fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).attempt(|| format!("open {kind}"))?;
        fsconfig_create(context.as_fd()).attempt(|| format!("make a {kind}"))?;
        let mount = fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        )
        .attempt(|| format!("mount {kind}"))?;
        attach(mount.as_fd(), &tree.join(folder))?;
    }
    std::env::set_current_dir(tree).attempt(|| format!("enter {}", tree.display()))?;
    // pivot_root(2), `pivot_root(".", ".")`: the old root ends up on top of the new, and goes.
    rustix::process::pivot_root(".", ".").attempt(|| "change the root")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)
        .attempt(|| "let go of the host's root")?;
    std::env::set_current_dir("/").attempt(|| "enter the new root")
}
