//! `masthead/seed.toml` beside an image: on the medium from which a machine is installed, and on the EFI system partition of its own disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use masthead_disk_layout::{Contents, Role, Storage, Table};
use masthead_seed::SEED_LIMIT;
use masthead_slots::{Partition, PartitionError};

use super::Roots;
use super::file::read_beneath;
use super::places::{Candidate, absent, content_of};
use crate::disk::discover;
use crate::disk::prepare::partition_path;
use crate::error_chain::with_sources;
use crate::volume::{Mounts, devices};

/// In the folder that a disk's images are in, too.
const PATH: &str = "masthead/seed.toml";

/// Media first: somebody has just put one in.
pub(super) fn candidates(roots: &Roots, mounts: &dyn Mounts) -> Vec<Candidate> {
    let own = own_partitions(roots);
    let mut candidates = Vec::new();
    for device in devices(&roots.sys, &roots.dev) {
        // What cannot be read was named with the volumes.
        let Ok(Some(label)) = &device.label else {
            continue;
        };
        if own.iter().any(|(_, path)| *path == device.path) {
            continue;
        }
        let content = mounts
            .open(&device.path, label.filesystem)
            .and_then(|folder| read_beneath(&folder, PATH));
        if !matches!(content, Ok(None)) {
            let source = format!("volume {} ({}) {PATH}", label.text, device.name);
            candidates.push(content_of(source, content));
        }
    }
    for (name, path) in own {
        let content = read(&path);
        if !matches!(content, Ok(None)) {
            let source = format!("EFI system partition ({name}) {PATH}");
            candidates.push(content_of(source, content));
        }
    }
    if candidates.is_empty() {
        candidates.push(absent(format!("{PATH} beside an image")));
    }
    candidates
}

/// The EFI system partitions of disks that are ours and start an image: name and device.
fn own_partitions(roots: &Roots) -> Vec<(String, PathBuf)> {
    let roots = discover::Roots {
        sys: roots.sys.clone(),
        dev: roots.dev.clone(),
    };
    let disks = discover::disks(&roots).into_iter();
    disks
        .filter_map(|disk| match &disk.contents {
            Contents::Ours(Table {
                prepared: false,
                keeps_image: false,
                ..
            }) => None,
            Contents::Ours(table) | Contents::Image(table, _) => {
                let path = partition_path(&roots, &disk.name, table, Role::Esp).ok()?;
                let name = path.strip_prefix(&roots.dev).ok()?.display().to_string();
                Some((name, path))
            }
            _ => None,
        })
        .collect()
}

/// Not by a mount: who writes entries there at the same time has the partition for itself (`O_EXCL`), and is not to be kept out.
fn read(device: &Path) -> io::Result<Option<Vec<u8>>> {
    let storage = match File::open(device) {
        Ok(file) => ReadOnly(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut partition = match Partition::open(storage) {
        Ok(partition) => partition,
        // Of a disk that was never given an image.
        Err(PartitionError::Foreign) => return Ok(None),
        Err(error) => return Err(io::Error::other(with_sources(&error))),
    };
    let file = partition.file(PATH);
    let Some(file) = file.map_err(|error| io::Error::other(with_sources(&error)))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    // One byte more than a seed can have, so that a larger one is refused as too large.
    file.take(SEED_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// A device that nothing is written to.
struct ReadOnly(File);

impl Read for ReadOnly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for ReadOnly {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Write for ReadOnly {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for ReadOnly {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
