//! A node's disks: sparse ext4 images on loop devices, mounted by the lab and handed in.
//!
//! A file system that lives on the host can be hurt from outside the way a real disk would
//! hurt it. An end of PID 1, however it came, is followed by EXT4_IOC_SHUTDOWN before the file
//! system is unmounted: otherwise the unmount would save what the node had not synced, which
//! no power cut and no reboot(2) of a real machine does.

use std::{
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use masthead_init::loop_device::{Access, attach};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::kernel;
use crate::{
    error::{Attempt, Error, Result},
    patience::{Look, Patience},
    plan::{DiskRole, NodePlan},
    provider::DiskCondition,
};

/// Where a node's disk is kept.
pub(super) fn image_path(plan: &NodePlan, role: DiskRole) -> PathBuf {
    plan.directory.join(format!("{role}.img"))
}

/// Makes a blank, sparse, formatted disk.
pub(super) fn create(plan: &NodePlan, role: DiskRole, size_mib: u32) -> Result<()> {
    let path = image_path(plan, role);
    let file = File::create(&path).attempt(|| format!("create {}", path.display()))?;
    file.set_len(u64::from(size_mib) << 20)
        .attempt(|| format!("size {} to {size_mib} MiB", path.display()))?;
    run(Command::new("mke2fs")
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
            "-L",
        ])
        .arg(role.label())
        .arg(&path))
}

/// A mounted disk of a running node.
pub(super) struct Disk {
    role: DiskRole,
    loop_name: String,
    /// The root folder of the file system: what the ioctls act on. Gone when unmounted.
    root: Option<File>,
    mount_point: PathBuf,
    condition: DiskCondition,
}

impl Disk {
    /// Mounts the disk of `role` below `tree`, its user 0 shown as the node's.
    pub(super) fn mount(
        plan: &NodePlan,
        role: DiskRole,
        condition: DiskCondition,
        tree: &Path,
        user_namespace: BorrowedFd<'_>,
    ) -> Result<Self> {
        let image = image_path(plan, role);
        let what = || format!("mount {}", image.display());
        check(&image)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(&image)
            .attempt(|| format!("open {}", image.display()))?;
        let device = attach(&file, Access::ReadWrite)
            .attempt(|| format!("attach {} to a loop device", image.display()))?;

        let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC).attempt(what)?;
        fsconfig_set_string(context.as_fd(), "source", &device.path).attempt(what)?;
        // What a disk in trouble leads to on a machine, too.
        fsconfig_set_string(context.as_fd(), "errors", "remount-ro").attempt(what)?;
        if condition == DiskCondition::ReadOnly {
            fsconfig_set_flag(context.as_fd(), "ro").attempt(what)?;
        }
        fsconfig_create(context.as_fd()).attempt(what)?;
        let mount = fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        )
        .attempt(what)?;
        let mount_point =
            super::root::place(mount, tree, role.mount_point(), Some(user_namespace))?;
        // The mount holds the device from here on.
        let loop_name = device.path.trim_start_matches("/dev/").to_owned();
        drop(device);
        let root =
            File::open(&mount_point).attempt(|| format!("open {}", mount_point.display()))?;
        Ok(Self {
            role,
            loop_name,
            root: Some(root),
            mount_point,
            condition: DiskCondition::Healthy,
        })
    }

    /// What the disk is for.
    pub(super) fn role(&self) -> DiskRole {
        self.role
    }

    /// Brings a disk of a running node into a condition.
    pub(super) fn set(&mut self, condition: DiskCondition) -> Result<()> {
        let root = self.root()?;
        let what = || format!("make the disk {} {condition:?}", self.role);
        match (self.condition, condition) {
            (DiskCondition::Stalled, DiskCondition::Healthy) => {
                kernel::thaw(root).attempt(what)?;
            }
            (DiskCondition::Healthy, DiskCondition::Stalled) => {
                kernel::freeze(root).attempt(what)?;
            }
            (DiskCondition::Healthy, DiskCondition::Removed) => {
                kernel::shut_down_ext4(root).attempt(what)?;
            }
            // The kernel's own way to have the error that `errors=remount-ro` is for.
            (DiskCondition::Healthy, DiskCondition::ReadOnly) => {
                let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", self.loop_name);
                fs::write(&trigger, "the lab made this disk read-only")
                    .attempt(|| format!("write {trigger}"))?;
            }
            (from, to) if from == to => {}
            (from, to) => {
                return Err(Error::Refused(format!(
                    "the disk {} is {from:?} and cannot become {to:?} while the node runs: \
                     cut the node's power first",
                    self.role
                )));
            }
        }
        self.condition = condition;
        Ok(())
    }

    /// Ends the file system: from now on nothing reaches the disk any more.
    pub(super) fn cut(&mut self) -> Result<()> {
        let root = self.root()?;
        let result = kernel::shut_down_ext4(root).attempt(|| format!("cut the disk {}", self.role));
        // Whoever waits for a frozen file system cannot be killed: let them see the end.
        if self.condition == DiskCondition::Stalled {
            kernel::thaw(root).attempt(|| format!("thaw the disk {}", self.role))?;
            self.condition = DiskCondition::Removed;
        }
        result
    }

    /// Unmounts, and waits until the loop device has let go of the image: the next power-on must
    /// not mount it a second time.
    pub(super) fn unmount(mut self) -> Result<()> {
        drop(self.root.take());
        rustix::mount::unmount(&self.mount_point, rustix::mount::UnmountFlags::DETACH)
            .attempt(|| format!("unmount {}", self.mount_point.display()))?;
        let attached = PathBuf::from(format!("/sys/block/{}/loop/backing_file", self.loop_name));
        Patience::new(1.0).wait_until(
            &format!(
                "/dev/{} to let go of the disk {}",
                self.loop_name, self.role
            ),
            Duration::from_secs(10),
            || Look::at(!attached.exists(), || "attached".to_owned()),
        )
    }

    fn root(&self) -> Result<&File> {
        self.root
            .as_ref()
            .ok_or_else(|| Error::Refused(format!("the disk {} is not mounted", self.role)))
    }
}

/// Replays the journal and repairs what an earlier fault has left; a disk that needs a person
/// is refused.
fn check(image: &Path) -> Result<()> {
    let mut command = Command::new("e2fsck");
    command.arg("-p").arg(image);
    let output = command
        .output()
        .attempt(|| "run e2fsck (package e2fsprogs)")?;
    // e2fsck(8): 0 clean, 1 repaired; 4 and above are not.
    if matches!(output.status.code(), Some(0 | 1)) {
        return Ok(());
    }
    Err(failure(&command, &output))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .attempt(|| format!("run {}", command.get_program().display()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failure(command, &output))
    }
}

fn failure(command: &Command, output: &std::process::Output) -> Error {
    Error::Program {
        program: format!("{command:?}"),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }
}

/// Mounts the image's root read-only: from the file itself where the kernel can (Linux 6.12 with
/// `EROFS_FS_BACKED_BY_FILE`), otherwise through a loop device.
pub(super) fn mount_root_image(image: &Path) -> Result<OwnedFd> {
    let what = || format!("mount {}", image.display());
    let mount_from = |source: &Path| -> rustix::io::Result<OwnedFd> {
        let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", source)?;
        fsconfig_set_flag(context.as_fd(), "ro")?;
        fsconfig_create(context.as_fd())?;
        fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV,
        )
    };
    match mount_from(image) {
        Err(rustix::io::Errno::NOTBLK) => {
            let file = File::open(image).attempt(|| format!("open {}", image.display()))?;
            let device = attach(&file, Access::ReadOnly)
                .attempt(|| format!("attach {} to a loop device", image.display()))?;
            mount_from(Path::new(&device.path)).attempt(what)
        }
        result => result.attempt(what),
    }
}
