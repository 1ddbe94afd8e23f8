//! From a blank partition to one that boots.
//!
//! The boot loader is written last: until it is there firmware finds nothing to start on this disk, and goes on to the next one, such as the medium from
//! which the node is being installed. So a partition is installed when it has a boot loader, and is made anew from the beginning
//! when it has none.

use std::io::{self, Read, Seek, SeekFrom};

use masthead_disk_layout::Storage;
use masthead_uki::{ImageError, Release, check};
use thiserror::Error;

use crate::bios::{self, BiosError};
use crate::entry::{Entry, Slot};
use crate::fat::{Partition, PartitionError};
use crate::upgrade::entries;

/// Where firmware looks without having been told (UEFI specification, 3.5.1.1).
pub(crate) const BOOT_LOADER: &str = "/EFI/BOOT/BOOTX64.EFI";
pub(crate) const SETTINGS: &str = "/loader/loader.conf";

/// Nobody sits in front of it, and whoever does must not change the kernel's command line.
pub(crate) const SETTINGS_TEXT: &str =
    "timeout 0\neditor no\nauto-entries no\nauto-firmware no\nconsole-mode keep\n";

/// What is installed.
pub struct Source<'a, R> {
    /// The image.
    pub image: R,
    /// systemd-boot.
    pub boot_loader: &'a [u8],
}

/// Why nothing was installed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The partition failed.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// The image cannot be read where it comes from.
    #[error("the image cannot be read")]
    Source(#[source] io::Error),
    /// It is not as it was built.
    #[error("the image is damaged where it comes from")]
    Damaged(#[source] ImageError),
    /// What was read back is not what was written.
    #[error("the image was written to {path}, and is not the same when it is read back")]
    ReadBack {
        /// Where it is on the partition.
        path: &'static str,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A BIOS could not start it.
    #[error(transparent)]
    Bios(#[from] BiosError),
    /// What was read back is not what was written, and was whole.
    #[error("{path} is not the same when it is read back")]
    Differs {
        /// Where it is on the partition.
        path: &'static str,
    },
}

/// What the partition starts first; none if it starts nothing, or what is on it is not ours.
pub fn installed<S: Storage>(
    partition: &mut Partition<S>,
) -> Result<Option<Entry>, PartitionError> {
    if partition
        .read(BOOT_LOADER)?
        .is_none_or(|content| content.is_empty())
    {
        return Ok(None);
    }
    let entries = entries(partition)?;
    Ok(Entry::first(&entries).cloned())
}

/// Makes the partition start this image, and nothing else. `release` is what the image is known to be.
pub fn install<S: Storage, R: Read + Seek>(
    partition: &mut Partition<S>,
    mut source: Source<'_, R>,
    release: &Release,
) -> Result<Entry, InstallError> {
    let entry = Entry {
        generation: 1,
        tries: None,
        slot: Slot::A,
        version: release.version.clone(),
    };
    let path = entry.slot.path();
    source
        .image
        .seek(SeekFrom::Start(0))
        .map_err(InstallError::Source)?;
    partition.write(path, &mut source.image)?;
    let mut written = partition
        .file(path)?
        .ok_or(InstallError::Differs { path })?;
    let found = match check(&mut written) {
        Ok(found) => found,
        // Is it the disk, or was it so before?
        Err(read_back) => {
            check(&mut source.image).map_err(InstallError::Damaged)?;
            return Err(InstallError::ReadBack {
                path,
                source: read_back,
            });
        }
    };
    if found != *release {
        return Err(InstallError::Differs { path });
    }
    partition.write(SETTINGS, &mut SETTINGS_TEXT.as_bytes())?;
    bios::prepare(partition, entry.slot, entry.generation)?;
    partition.write(&entry.path(), &mut entry.text().as_bytes())?;
    partition.write(BOOT_LOADER, &mut &*source.boot_loader)?;
    if partition.read(BOOT_LOADER)?.as_deref() != Some(source.boot_loader) {
        return Err(InstallError::Differs { path: BOOT_LOADER });
    }
    Ok(entry)
}
