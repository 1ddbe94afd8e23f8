//! The disk that a namespace node boots from, if its plan says so: an EFI system partition and META, each in a file.
//!
//! The lab is the firmware and the boot loader here. It goes by systemd-boot's rules: the highest generation with tries left is started, and a
//! trial is counted in the name of its entry before that. That these are its rules is what the tests with machines show.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use masthead_disk_layout::Storage;
use masthead_slots::{Entry, Format, Partition, Source, Tries, install, upgrade::entries};

use crate::{
    error::{Attempt, Error, Result, chain},
    image::{root_of, unified_kernel_image},
    plan::NodePlan,
};

/// Bytes of the EFI system partition; the file is sparse.
const SYSTEM: u64 = 1 << 30;
/// Bytes of META.
const META: u64 = 1 << 20;
const SECTOR: u16 = 512;

/// What a node boots this time.
pub(super) struct Boot {
    /// The EROFS file of its root.
    pub(super) root: PathBuf,
    /// What it finds at `/host/boot`, and who may write there; none if it has no such disk.
    pub(super) handed_in: Option<PathBuf>,
}

/// Chooses what is booted. `owner` is the host's user that is root in the node.
pub(super) fn choose(plan: &NodePlan, owner: u32) -> Result<Boot> {
    if !plan.boots_from_disk {
        return Ok(Boot {
            root: plan.image.join("root.erofs"),
            handed_in: None,
        });
    }
    let folder = plan.directory.join("boot-disk");
    let system = folder.join("system");
    if !system.exists() {
        preinstall(plan, &folder, &system)?;
    }
    let mut partition = Partition::open(open(&system)?).map_err(|error| wrong(&error))?;
    let entry = start(&mut partition)?;
    let image = partition
        .read(entry.slot.path())
        .map_err(|error| wrong(&error))?;
    let image = image.ok_or_else(|| Error::Refused(format!("slot {} is empty", entry.slot)))?;
    let root = plan.directory.join("root.erofs");
    fs::write(&root, root_of(&image)?).attempt(|| format!("write {}", root.display()))?;
    let started = folder.join("started");
    fs::write(&started, entry.name()).attempt(|| format!("write {}", started.display()))?;
    for path in [&folder, &system, &folder.join("meta"), &started] {
        chown(path, Some(owner), Some(owner)).attempt(|| format!("give {}", path.display()))?;
    }
    Ok(Boot {
        root,
        handed_in: Some(folder),
    })
}

/// A disk on which the plan's image is installed.
fn preinstall(plan: &NodePlan, folder: &Path, system: &Path) -> Result<()> {
    fs::create_dir_all(folder).attempt(|| format!("make {}", folder.display()))?;
    let blank = |path: &Path, bytes| {
        File::create(path)
            .and_then(|file| file.set_len(bytes))
            .attempt(|| format!("make {}", path.display()))
    };
    blank(&folder.join("meta"), META)?;
    // What is named so is whole.
    let part = folder.join("system.part");
    blank(&part, SYSTEM)?;
    let path = unified_kernel_image(&plan.image)?;
    let image = File::open(&path).attempt(|| format!("open {}", path.display()))?;
    let release = crate::image::release(&path)?;
    let mut partition =
        Partition::format(open(&part)?, Format::disk(SECTOR)).map_err(|error| wrong(&error))?;
    let source = Source {
        image: &image,
        // Nobody starts it.
        boot_loader: b"the lab",
    };
    install(&mut partition, source, &release).map_err(|error| wrong(&error))?;
    fs::rename(&part, system).attempt(|| format!("make {}", system.display()))
}

/// What the boot loader does: chooses an entry, and counts.
fn start(partition: &mut Partition<Disk>) -> Result<Entry> {
    let all = entries(partition).map_err(|error| wrong(&error))?;
    let first = Entry::first(&all).cloned();
    let before = first.ok_or_else(|| Error::Refused("the disk starts nothing".to_owned()))?;
    let Some(Tries { left, done }) = before.tries else {
        return Ok(before);
    };
    let tries = Tries {
        left: left.saturating_sub(1),
        done: done + 1,
    };
    let entry = Entry {
        tries: Some(tries),
        ..before.clone()
    };
    let renamed = partition
        .write(&entry.path(), &mut entry.text().as_bytes())
        .and_then(|()| partition.remove(&before.path()));
    renamed.map_err(|error| wrong(&error))?;
    Ok(entry)
}

fn open(path: &Path) -> Result<Disk> {
    let file = File::options().read(true).write(true).open(path);
    file.map(Disk)
        .attempt(|| format!("open {}", path.display()))
}

fn wrong(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Refused(format!("the node's boot disk: {}", chain(error)))
}

/// A file as a disk that forgets nothing.
struct Disk(File);

impl Read for Disk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Disk {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Storage for Disk {
    /// No cut of a namespace's power loses what was written to a file.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
