//! The image on the disk, from which the machine starts the next time.
//!
//! What is written, and in which order, is `masthead-slots`' business; here are the partition, and the medium from which this
//! boot came.

mod memory;
mod next_init;
mod own_disk;
mod source;
mod started;
pub mod step;
mod trusted;

use std::fs;
use std::path::{Path, PathBuf};

use masthead_api::status::{Installation, InstallationState};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_slots::bios::complete;
use masthead_slots::{
    BiosError, Entry, Format, Grub, InstallError, Partition, PartitionError, Source,
};
use thiserror::Error;

use crate::disk::device::Device;
use crate::error_chain::with_sources;
use crate::node::{Facility, NodeKind};
use crate::pid1::INITRAMFS;
use crate::volume::Mounts;
pub use next_init::{NextInitError, takes_seed};
pub use own_disk::{BootDisk, OwnDisk, OwnDiskError};
use source::{Medium, NotFound};
pub use trusted::{TrustError, trusted};

/// The UUID of the running image's root, which imagebuild writes.
pub const RUNNING: &str = "/etc/masthead/image";
/// systemd-boot, as the image has it, and GRUB.
const BOOT_LOADER: &str = "/boot/systemd-bootx64.efi";
const GRUB_BOOT_SECTOR: &str = "/boot/grub-boot.img";
const GRUB: &str = "/boot/grub-disk.img";
/// Where the kernel shows the firmware, below `/sys`, if that is UEFI.
const UEFI: &str = "firmware/efi";
/// What came of it, for a supervisor that replaces this one.
const OUTCOME: &str = "/run/masthead/installation.json";

/// The partition, and where media are found.
#[derive(Clone, Debug)]
pub struct Place {
    /// The EFI system partition's device.
    pub device: PathBuf,
    /// Where a BIOS starts from; none if none does.
    pub bios: Option<BiosPlace>,
    /// Bytes a sector of its disk.
    pub sector_bytes: u64,
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
}

/// What a BIOS reads of a disk.
#[derive(Clone, Debug)]
pub struct BiosPlace {
    /// The whole disk's device.
    pub disk: PathBuf,
    /// Its BIOS boot partition's.
    pub partition: PathBuf,
    /// That partition's first sector.
    pub begin: u64,
}

/// Why the disk starts nothing.
#[derive(Debug, Error)]
enum Failure {
    #[error("{} cannot be opened", device.display())]
    Open {
        device: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} cannot be read: the image is damaged")]
    Image {
        path: &'static str,
        source: std::io::Error,
    },
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error("the image of {medium} was not installed")]
    Install {
        medium: String,
        source: InstallError,
    },
    #[error("{} is not started by a BIOS", disk.display())]
    Bios { disk: PathBuf, source: BiosError },
}

/// Has the disk start the running image, unless it starts one already. What it starts is left as it is: it is changed by an upgrade, and not by a
/// medium that was forgotten in the drive.
pub fn bring_up(place: &Place, mounts: &dyn Mounts) -> Installation {
    let outcome = match attempt(place, mounts) {
        Ok(entry) => {
            if let Err(error) = memory::free(Path::new(INITRAMFS)) {
                tracing::warn!(%error, "the memory of the image's frame is kept");
            }
            told(entry)
        }
        Err(failure) => {
            let code = match failure {
                Failure::NotFound(_) => ReasonCode::ImageNotFound,
                _ => ReasonCode::InstallFailed,
            };
            let cause = with_sources(&failure);
            tracing::warn!(cause, "the disk does not start by itself");
            Installation {
                state: InstallationState::NotInstalled,
                generation: None,
                slot: None,
                version: None,
                reason: Some(Reason::new(code, Timestamp::now()).with_cause(cause)),
                on_trial: false,
                failed: None,
            }
        }
    };
    let text = serde_json::to_vec(&outcome).unwrap_or_default();
    if let Err(error) = fs::write(OUTCOME, text) {
        tracing::warn!(%error, "{OUTCOME} cannot be written");
    }
    outcome
}

/// What a disk that a namespace's lab has handed in starts; none if there is no such disk.
pub fn handed_in(kind: NodeKind) -> Option<Installation> {
    let disk = (!kind.has(Facility::Disks)).then(|| OwnDisk::of(kind))??;
    match disk.entry() {
        Ok(entry) => entry.map(told),
        Err(error) => {
            let error = with_sources(&error);
            tracing::warn!(error, "the disk that was handed in cannot be read");
            None
        }
    }
}

/// What an earlier supervisor of this boot has found.
pub fn recall() -> Option<Installation> {
    serde_json::from_slice(&fs::read(OUTCOME).ok()?).ok()
}

fn told(entry: Entry) -> Installation {
    Installation {
        state: InstallationState::Installed,
        generation: Some(entry.generation),
        slot: Some(entry.slot.to_string()),
        version: Some(entry.version),
        reason: None,
        on_trial: false,
        failed: None,
    }
}

fn attempt(place: &Place, mounts: &dyn Mounts) -> Result<Entry, Failure> {
    let open = || opened(&place.device, Device::open);
    match Partition::open(open()?) {
        Ok(mut there) => {
            if let Some(installed) = masthead_slots::installed(&mut there)? {
                // An installation was cut off, or is of an earlier release.
                complete_for_bios(place, &mut there)?;
                return Ok(installed);
            }
        }
        Err(PartitionError::Foreign) => {}
        // What cannot be read may hold an image, and is not written over.
        Err(error) => return Err(error.into()),
    }
    let running = read(RUNNING)?;
    let running = String::from_utf8_lossy(&running);
    let mut medium = Medium::with(running.trim(), place, mounts)?;
    tracing::info!(
        medium = medium.place,
        "the running image is written to the disk"
    );
    let boot_loader = read(BOOT_LOADER)?;
    let sector_bytes = u16::try_from(place.sector_bytes).unwrap_or(512);
    let mut partition = Partition::format(open()?, Format::disk(sector_bytes))?;
    let source = Source {
        image: &mut *medium.image,
        boot_loader: &boot_loader,
    };
    let installed = masthead_slots::install(&mut partition, source, &medium.release);
    let installed = installed.map_err(|source| Failure::Install {
        medium: medium.place.clone(),
        source,
    })?;
    complete_for_bios(place, &mut partition)?;
    Ok(installed)
}

/// Has a BIOS start what UEFI starts. Where there is UEFI, nothing depends on it.
fn complete_for_bios(place: &Place, partition: &mut Partition<Device>) -> Result<(), Failure> {
    let Some(bios) = &place.bios else {
        return Ok(());
    };
    match embed_grub(bios, partition) {
        Err(failure) if place.sys.join(UEFI).is_dir() => {
            let cause = with_sources(&failure);
            tracing::warn!(cause, "a machine without UEFI would not start this disk");
            Ok(())
        }
        other => other,
    }
}

fn embed_grub(bios: &BiosPlace, partition: &mut Partition<Device>) -> Result<(), Failure> {
    let (boot_sector, core) = (read(GRUB_BOOT_SECTOR)?, read(GRUB)?);
    let grub = Grub {
        boot_sector: &boot_sector,
        core: &core,
    };
    let mut disk = opened(&bios.disk, Device::open_beside_partitions)?;
    let mut bios_boot = opened(&bios.partition, Device::open)?;
    let done = complete(partition, &mut bios_boot, &mut disk, bios.begin, grub);
    done.map_err(|source| Failure::Bios {
        disk: bios.disk.clone(),
        source,
    })
}

fn opened(
    device: &Path,
    open: impl Fn(&Path) -> std::io::Result<Device>,
) -> Result<Device, Failure> {
    open(device).map_err(|source| Failure::Open {
        device: device.to_owned(),
        source,
    })
}

fn read(path: &'static str) -> Result<Vec<u8>, Failure> {
    fs::read(Path::new(path)).map_err(|source| Failure::Image { path, source })
}
