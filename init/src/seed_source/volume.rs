//! Volumes: block devices with a label, mounted read-only while their seed is read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use masthead_seed::SEED_LIMIT;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::label::{Filesystem, Label, read_label};

/// A block device, and its label or why it could not be read.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) label: io::Result<Option<Label>>,
}

/// All block devices that hold anything, sorted by name.
pub(super) fn devices(sys: &Path, dev: &Path) -> Vec<Device> {
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

/// Mounts a volume to look into it. Tests have folders instead.
pub trait Mounts {
    /// Mounts `device` and returns the folder where its files then are.
    fn mount(&self, device: &Path, filesystem: Filesystem, target: &Path) -> io::Result<PathBuf>;
    /// Undoes it.
    fn unmount(&self, target: &Path) -> io::Result<()>;
}

/// The kernel's mounts.
#[derive(Debug, Clone, Copy)]
pub struct SystemMounts;

impl Mounts for SystemMounts {
    fn mount(&self, device: &Path, filesystem: Filesystem, target: &Path) -> io::Result<PathBuf> {
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        fs::create_dir_all(target)?;
        match mount(device, target, filesystem.name(), flags, None) {
            Ok(()) => Ok(target.to_owned()),
            // "No such device" would be taken for the volume.
            Err(rustix::io::Errno::NODEV) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the kernel has no driver for {}", filesystem.name()),
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        // Detached, it also goes when a device that hangs keeps it busy.
        Ok(unmount(target, UnmountFlags::DETACH)?)
    }
}

/// The content of a file on a volume; none if it has no such file.
pub(super) fn read_from(
    mounts: &dyn Mounts,
    device: &Path,
    filesystem: Filesystem,
    target: &Path,
    file: &str,
) -> io::Result<Option<Vec<u8>>> {
    let folder = mounts.mount(device, filesystem, target)?;
    let content = read_beneath(&folder, file);
    mounts.unmount(target)?;
    content
}

/// Reads a file of a folder that is not trusted: links on it lead nowhere.
fn read_beneath(folder: &Path, file: &str) -> io::Result<Option<Vec<u8>>> {
    let folder = File::open(folder)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(
        &folder,
        file.trim_start_matches('/'),
        flags,
        Mode::empty(),
        resolve,
    ) {
        Ok(file) => read_limited(File::from(file)).map(Some),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads a regular file, and one byte more than a seed can have, so that a larger one is refused as too large.
pub(super) fn read_limited(file: File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    file.take(SEED_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
