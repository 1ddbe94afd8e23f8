//! Volumes: block devices with a label, mounted read-only, where nobody else sees them, while something on them is read.

mod label;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

pub use label::{Filesystem, Label, read_label};

/// A block device, and its label or why it could not be read.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) label: io::Result<Option<Label>>,
}

/// All block devices that hold anything, sorted by name.
pub(crate) fn devices(sys: &Path, dev: &Path) -> Vec<Device> {
    let Ok(entries) = fs::read_dir(sys.join("class/block")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !has_no_medium(&sys.join("class/block").join(name)))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            // sysfs writes the slash of a name such as `cciss/c0d0` as `!`.
            let path = dev.join(name.replace('!', "/"));
            let label = File::open(&path).and_then(|mut device| read_label(&mut device));
            Device { name, path, label }
        })
        .collect()
}

fn has_no_medium(device: &Path) -> bool {
    fs::read_to_string(device.join("size")).is_ok_and(|size| size.trim() == "0")
}

/// Opens a volume to look into it. Tests have folders instead.
pub trait Mounts {
    /// The root folder of the file system on `device`, read-only and for the holder alone.
    fn open(&self, device: &Path, filesystem: Filesystem) -> io::Result<OwnedFd>;
}

/// The kernel's mounts.
#[derive(Debug, Clone, Copy)]
pub struct SystemMounts;

impl Mounts for SystemMounts {
    /// The mount is never attached to the tree of folders (fsmount(2)): nobody else sees it, and it ends with the
    /// descriptor.
    fn open(&self, device: &Path, filesystem: Filesystem) -> io::Result<OwnedFd> {
        let context = match fsopen(filesystem.name(), FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => context,
            Err(rustix::io::Errno::NODEV) => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("the kernel has no driver for {}", filesystem.name()),
                ));
            }
            Err(error) => return Err(error.into()),
        };
        let context = context.as_fd();
        fsconfig_set_string(context, "source", device)?;
        fsconfig_set_flag(context, "ro")?;
        for option in filesystem.options() {
            fsconfig_set_flag(context, *option)?;
        }
        fsconfig_create(context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    }
}

/// Opens a regular file of a folder that is not trusted: links on it lead nowhere. None if there is no such file.
pub(crate) fn open_beneath(folder: &OwnedFd, file: &str) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(
        folder,
        file.trim_start_matches('/'),
        flags,
        Mode::empty(),
        resolve,
    ) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    must_be_regular(&file)?;
    Ok(Some(file))
}

/// A folder, a device or a pipe in a file's place is refused.
pub(crate) fn must_be_regular(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is not a regular file",
    ))
}
