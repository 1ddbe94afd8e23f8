//! What a machine without UEFI starts a disk by: GRUB, and what that needs beside the entries.
//!
//! A BIOS cannot start a unified kernel image. GRUB reads kernel and initramfs out of it, by a small file for each entry that says where they are
//! ([`masthead_uki::Parts`]); the entries, their order and their slots are the same as for UEFI. It cannot rename an entry to count that it tries it, and so it writes the
//! count into [`ENVIRONMENT`], which the image that it has started moves into the entry's name ([`take_count`]).
//!
//! ```text
//! first sector of the disk            code that loads GRUB; last of all, so that a BIOS starts all of it or nothing
//! BIOS boot partition                 GRUB, with its script (firmware/grub-disk.cfg)
//! /masthead/grub.env                  which entry GRUB has tried, and how often
//! /masthead/000001.parts              where in its image kernel and initramfs of generation 1 are
//! ```

use std::collections::BTreeSet;
use std::io::{self, SeekFrom};

use masthead_disk_layout::{Storage, boot_sector};
use masthead_uki::{ImageError, Parts};
use thiserror::Error;

use crate::entry::{Entry, Slot, Tries};
use crate::fat::{Partition, PartitionError};
use crate::upgrade::entries;

/// GRUB's own file: 1024 bytes, in which it changes some in place (GRUB manual, "The GRUB environment block").
pub const ENVIRONMENT: &str = "/masthead/grub.env";
/// What its first line is.
const BEGIN: &str = "# GRUB Environment Block\n";
const ENVIRONMENT_BYTES: usize = 1024;
/// The folder of both.
const FOLDER: &str = "/masthead";
const PARTS: &str = ".parts";

/// GRUB counts in sectors of 512 bytes, as a BIOS does.
pub const SECTOR: u64 = 512;
/// In the boot sector: the sector where GRUB begins, and an instruction that mistrusts the BIOS's word on which disk this is, for the sake of floppy
/// disks. On hard disks two that do nothing take its place (grub-core/boot/i386/pc/boot.S, and util/setup.c).
const BEGINS_AT: usize = 0x5c;
const DISTRUST: usize = 0x66;
const NOTHING: [u8; 2] = [0x90, 0x90];
/// At the end of GRUB's first sector: where its other ones are, how many, and to which segment of memory they are loaded.
const REST: usize = 500;
const SEGMENT: u16 = 0x820;

/// GRUB as it was built (imagebuild's step `grub`).
#[derive(Clone, Copy, Debug)]
pub struct Grub<'a> {
    /// The first sector of a disk.
    pub boot_sector: &'a [u8],
    /// What is in the BIOS boot partition.
    pub core: &'a [u8],
}

/// Why a BIOS does not start the disk.
#[derive(Debug, Error)]
pub enum BiosError {
    /// The EFI system partition failed.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// An entry leads to nothing.
    #[error("there is no {0}")]
    NoImage(&'static str),
    /// GRUB could not read this image.
    #[error("{path} cannot be started by GRUB")]
    Parts {
        /// Where it is on the partition.
        path: &'static str,
        /// Why.
        source: ImageError,
    },
    /// The disk failed.
    #[error("the disk failed while {doing}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// The disk's word.
        source: io::Error,
    },
    /// The image's GRUB is damaged.
    #[error("the image's GRUB is not one: {0}")]
    Grub(&'static str),
    /// It does not fit.
    #[error("GRUB has {needs} bytes, and the BIOS boot partition {has}")]
    NoRoom {
        /// Bytes.
        needs: u64,
        /// Bytes.
        has: u64,
    },
    /// What was read back is not what was written.
    #[error("{0} is not the same when it is read back")]
    Differs(&'static str),
}

/// What GRUB has written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// The generation that it has tried.
    pub(crate) generation: u32,
    /// How many of the tries in the names of its entries it has used.
    pub(crate) used: u32,
}

impl Count {
    /// What is in the file: `tried=GENERATION`, and in `used` one letter for each try, because GRUB cannot add.
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?.strip_prefix(BEGIN)?;
        let value = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            generation: value("tried")?.parse().ok()?,
            used: u32::try_from(value("used")?.len()).ok()?,
        })
    }
}

/// Where GRUB finds the parts of an entry's image.
fn parts_path(generation: u32) -> String {
    format!("{FOLDER}/{generation:06}{PARTS}")
}

/// Has GRUB know where the parts of the image in a slot are, for an entry of this generation that is about to be made, and forget what it has counted
/// for an earlier one.
pub(crate) fn prepare<S: Storage>(
    partition: &mut Partition<S>,
    slot: Slot,
    generation: u32,
) -> Result<(), BiosError> {
    let parts = parts_in(partition, slot)?.text(slot.path());
    put(partition, &parts_path(generation), parts.as_bytes())?;
    Ok(put(partition, ENVIRONMENT, &environment())?)
}

/// What GRUB needs of the image in a slot.
pub(crate) fn parts_in<S: Storage>(
    partition: &mut Partition<S>,
    slot: Slot,
) -> Result<Parts, BiosError> {
    let path = slot.path();
    let image = partition.file(path)?;
    let mut image = image.ok_or(BiosError::NoImage(path))?;
    Parts::find(&mut image).map_err(|source| BiosError::Parts { path, source })
}

/// Removes what no entry needs any more.
pub(crate) fn tidy<S: Storage>(partition: &mut Partition<S>) -> Result<(), PartitionError> {
    let there = entries(partition)?;
    let needed: BTreeSet<String> = there
        .iter()
        .map(|entry| parts_path(entry.generation))
        .collect();
    for name in partition.names(FOLDER)? {
        let path = format!("{FOLDER}/{name}");
        if name.ends_with(PARTS) && !needed.contains(&path) {
            partition.remove(&path)?;
        }
    }
    Ok(())
}

/// Writes what GRUB has counted into the name of the entry that it has tried, as systemd-boot would have done, and then has GRUB's file say nothing. In
/// between it is said twice, so that a cut may cost a trial one of its tries, and never gives it another one.
pub fn take_count<S: Storage>(
    partition: &mut Partition<S>,
) -> Result<Option<Entry>, PartitionError> {
    let content = partition.read(ENVIRONMENT)?.unwrap_or_default();
    let Some(count) = Count::read(&content) else {
        return Ok(None);
    };
    let there = entries(partition)?.into_iter();
    let its: Vec<(Entry, Tries)> = there
        .filter(|entry| entry.generation == count.generation)
        .filter_map(|entry| entry.tries.map(|tries| (entry, tries)))
        .collect();
    // Where there are two names, the other one was written when this was cut off: the count is of the one with more left.
    let before = its.iter().max_by_key(|(_, tries)| tries.left);
    let counted = before.and_then(|(entry, tries)| {
        let used = count.used.min(tries.left);
        let after = Tries {
            left: tries.left - used,
            done: tries.done + used,
        };
        (used > 0).then(|| Entry {
            tries: Some(after),
            ..entry.clone()
        })
    });
    if let Some(after) = &counted {
        put(partition, &after.path(), after.text().as_bytes())?;
        for (entry, _) in its.iter().filter(|(entry, _)| entry != after) {
            partition.remove(&entry.path())?;
        }
    }
    put(partition, ENVIRONMENT, &environment())?;
    Ok(counted)
}

/// Has a BIOS start the disk by the entries that are there, unless it does already. `bios_boot` is the disk's BIOS boot partition, which begins at
/// sector `begin`.
pub fn complete<S: Storage, P: Storage, D: Storage>(
    partition: &mut Partition<S>,
    bios_boot: &mut P,
    disk: &mut D,
    begin: u64,
    grub: Grub<'_>,
) -> Result<(), BiosError> {
    let mut sector = [0; boot_sector::BYTES];
    let reading = "reading its first sector";
    get(disk, 0, &mut sector).at(reading)?;
    if boot_sector::starts_something(&sector) {
        return Ok(());
    }
    let (first, core) = patched(&sector, begin, grub)?;
    for entry in entries(partition)? {
        prepare(partition, entry.slot, entry.generation)?;
    }
    let has = bios_boot
        .seek(SeekFrom::End(0))
        .at("looking at its BIOS boot partition")?;
    let needs = core.len() as u64;
    if needs > has {
        return Err(BiosError::NoRoom { needs, has });
    }
    let place = "GRUB in the BIOS boot partition";
    embed(bios_boot, &core, place, "writing its BIOS boot partition")?;
    embed(
        disk,
        &first,
        "the disk's first sector",
        "writing its first sector",
    )
}

/// The disk's first sector, and GRUB, each with where the other is.
fn patched(
    sector: &[u8; boot_sector::BYTES],
    begin: u64,
    grub: Grub<'_>,
) -> Result<([u8; boot_sector::BYTES], Vec<u8>), BiosError> {
    let Ok(code) = <&[u8; boot_sector::BYTES]>::try_from(grub.boot_sector) else {
        return Err(BiosError::Grub("its boot sector has not 512 bytes"));
    };
    let mut first = *sector;
    first[..boot_sector::CODE].copy_from_slice(&code[..boot_sector::CODE]);
    first[BEGINS_AT..][..8].copy_from_slice(&begin.to_le_bytes());
    first[DISTRUST..][..2].copy_from_slice(&NOTHING);

    let mut core = grub.core.to_vec();
    core.resize(core.len().next_multiple_of(boot_sector::BYTES), 0);
    let rest = (core.len() / boot_sector::BYTES).saturating_sub(1);
    let rest = u16::try_from(rest).ok().filter(|rest| *rest > 0);
    let rest = rest.ok_or(BiosError::Grub("it is too large or too small"))?;
    let mut place = (begin + 1).to_le_bytes().to_vec();
    place.extend_from_slice(&rest.to_le_bytes());
    place.extend_from_slice(&SEGMENT.to_le_bytes());
    core[REST..boot_sector::BYTES].copy_from_slice(&place);
    Ok((first, core))
}

/// Writes to the beginning of a device, waits for the disk, and reads it back.
fn embed<D: Storage>(
    device: &mut D,
    content: &[u8],
    what: &'static str,
    doing: &'static str,
) -> Result<(), BiosError> {
    let written = device
        .seek(SeekFrom::Start(0))
        .and_then(|_| device.write_all(content))
        .and_then(|()| device.sync());
    written.at(doing)?;
    let mut found = vec![0; content.len()];
    get(device, 0, &mut found).at(doing)?;
    if found == content {
        Ok(())
    } else {
        Err(BiosError::Differs(what))
    }
}

fn get<D: Storage>(device: &mut D, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    device.seek(SeekFrom::Start(at))?;
    device.read_exact(bytes)
}

/// Writes a file, unless it is there.
fn put<S: Storage>(
    partition: &mut Partition<S>,
    path: &str,
    content: &[u8],
) -> Result<(), PartitionError> {
    if partition.read(path)?.as_deref() == Some(content) {
        return Ok(());
    }
    partition.write(path, &mut &*content)
}

/// One in which nothing is written down.
fn environment() -> Vec<u8> {
    let mut content = BEGIN.as_bytes().to_vec();
    content.resize(ENVIRONMENT_BYTES, b'#');
    content
}

/// Says what was being done.
trait At<T> {
    fn at(self, doing: &'static str) -> Result<T, BiosError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &'static str) -> Result<T, BiosError> {
        self.map_err(|source| BiosError::Disk { doing, source })
    }
}

#[cfg(test)]
#[path = "bios_tests.rs"]
mod tests;
