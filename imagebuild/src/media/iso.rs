//! The ISO image: a CD and, written to a stick, a disk, from which UEFI or BIOS starts the image.
//!
//! ```text
//! block   0  code for a BIOS; protective MBR and GPT, for sticks: the FAT volume   UEFI specification, 5.3
//! block  16  ISO 9660, which leads to the files, and the El Torito catalogue       ECMA-119; UEFI specification, 13.3.2
//! block   N  the FAT volume: EFI/BOOT/BOOTX64.EFI, the image, is in one piece
//! the end    the GPT's backup
//! ```
//!
//! A BIOS loads GRUB, by the catalogue from a CD, and by the first sector from a stick. GRUB reads `masthead/medium.parts`, which says where in `masthead.efi` kernel and initramfs are.
//! UEFI takes the volume from the catalogue (CD) or from the partition table (stick). A node that was started from a CD sees ISO 9660 alone, and so `masthead.efi`
//! of that leads into the volume, to the image's own blocks: the same bytes are a file of two file systems.
//!
//! xorriso writes all but that: it knows no file in another. It is told to write the whole volume as `masthead.efi`, and the file's entry is narrowed afterwards.

use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use masthead_uki::Parts;
use time::OffsetDateTime;
use time::macros::format_description;

use super::Files;
use super::volume::{self, BLOCK, Volume};
use crate::files;
use crate::formats::erofs;
use crate::process;

/// The label of the ISO 9660 file system: a node looks for a seed on volumes of this name.
pub const LABEL: &str = "MASTHEAD";
/// The image's file.
const IMAGE: &str = "masthead.efi";
/// The seed's file, where a node looks for it on a volume of this label.
const SEED: &str = "seed.toml";

/// GRUB, and what it reads about the image (`firmware/grub-cd.cfg`).
const GRUB: &str = "masthead/grub-cd.img";
const PARTS: &str = "masthead/medium.parts";

/// What an ISO image is made of.
pub struct Contents<'a> {
    /// The image, and GRUB.
    pub files: &'a Files,
    /// Where kernel and initramfs are in the image, for GRUB.
    pub parts: String,
    /// Its root's UUID, which is the GUID of the stick's partition table, too.
    pub uuid: String,
    /// A seed, if there is to be one on it.
    pub seed: Option<&'a [u8]>,
    /// Of all files, in Unix seconds.
    pub time: u64,
}

impl<'a> Contents<'a> {
    /// Of an image, with the time at which that was built.
    pub fn of(files: &'a Files, seed: Option<&'a [u8]>) -> Result<Self> {
        let image = || Cursor::new(&files.image);
        let root = masthead_uki::root::find(&mut image())?;
        let begin = usize::try_from(root.begin)?;
        let root = files.image.get(begin..).and_then(erofs::superblock);
        let root = root.context("its root is no EROFS image")?;
        Ok(Self {
            files,
            parts: Parts::find(&mut image())?.text(&format!("/{IMAGE}")),
            uuid: root.uuid,
            seed,
            time: root.build_time,
        })
    }
}

/// Writes the ISO image to a file, whole or not at all. The same contents give the same bytes, by the same xorriso.
pub fn make(contents: &Contents<'_>, output: &Path) -> Result<()> {
    let volume = volume::make(&contents.files.image)?;
    let parent = match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let scratch = tempfile::Builder::new().prefix(".iso-").tempdir_in(parent);
    let scratch = scratch.with_context(|| format!("creating a folder in {}", parent.display()))?;
    let below = |name: &str| scratch.path().join(name);
    let (tree, part, sector) = (below("tree"), below("part"), below("sector"));
    let write = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
    };
    let put = |name: &str, bytes: &[u8]| files::put(&tree, &format!("/{name}"), 0o444, bytes);
    fs::create_dir(&tree).with_context(|| format!("creating {}", tree.display()))?;
    write(&sector, &contents.files.grub_sector)?;
    put(IMAGE, &volume.bytes)?;
    put(GRUB, &contents.files.grub)?;
    put(PARTS, contents.parts.as_bytes())?;
    if let Some(seed) = contents.seed {
        put(SEED, seed)?;
    }
    let date = date(contents.time)?;
    process::run(
        Command::new("xorriso")
            .env("TZ", "UTC")
            .args(["-as", "mkisofs", "-quiet", "-r", "-V", LABEL])
            .arg(format!("--modification-date={date}"))
            .args(["--set_all_file_dates", &date])
            .args(["--gpt_disk_guid", &contents.uuid])
            .args(["--protective-msdos-label", "--boot-catalog-hide"])
            // Of GRUB its first 2 KiB are loaded, into which xorriso writes where the rest is. Some BIOSes start no stick without a partition that is marked.
            .args(["-b", GRUB, "-no-emul-boot", "-boot-load-size", "4"])
            .args(["-boot-info-table", "--grub2-boot-info", "--grub2-mbr"])
            .arg(&sector)
            .args(["--mbr-force-bootable", "-eltorito-alt-boot"])
            // El Torito counts the sectors of its images in 16 bits. 0, which becomes of 1 here, is "to the end of the CD" (UEFI specification, 13.3.2.1).
            .args(["-e", IMAGE, "-no-emul-boot", "-boot-load-size", "1"])
            .args(["-efi-boot-part", "--efi-boot-image"])
            .arg("-o")
            .args([&part, &tree]),
    )?;
    let writing = || format!("writing {}", output.display());
    let file = File::options().read(true).write(true).open(&part);
    let file = file.with_context(writing)?;
    narrow(&file, &volume).with_context(writing)?;
    if contents.seed.is_some() {
        // The cluster's secret is in it.
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .with_context(writing)?;
    }
    file.sync_all().with_context(writing)?;
    fs::rename(&part, output).with_context(writing)
}

/// `YYYYMMDDhhmmsscc`, as xorriso wants it.
fn date(time: u64) -> Result<String> {
    let format = format_description!("[year][month][day][hour][minute][second]00");
    i64::try_from(time)
        .ok()
        .and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok())
        .and_then(|time| time.format(&format).ok())
        .with_context(|| format!("{time} is no time that can be written as a date"))
}

/// Makes the image's file, which is the whole volume so far, the part of it in which the image is.
fn narrow(file: &File, volume: &Volume) -> Result<()> {
    let mut descriptor = [0; 2048];
    file.read_exact_at(&mut descriptor, DESCRIPTOR)?;
    ensure!(descriptor[..6] == *b"\x01CD001", "it is no ISO 9660 image");
    let root = Extent::read(&descriptor[ROOT..]);
    let mut folder = vec![0; root.bytes as usize];
    file.read_exact_at(&mut folder, u64::from(root.block) * BLOCK)?;
    let name = format!("{};1", IMAGE.to_ascii_uppercase());
    let Some(at) = find(&folder, name.as_bytes()) else {
        bail!("its root folder has no {name}");
    };
    let whole = Extent::read(&folder[at..]);
    ensure!(
        u64::from(whole.bytes) == volume.bytes.len() as u64,
        "{name} has {} bytes instead of {}",
        whole.bytes,
        volume.bytes.len()
    );
    let narrowed = Extent {
        block: whole.block + u32::try_from(volume.image.start / BLOCK)?,
        bytes: u32::try_from(volume.image.end - volume.image.start)?,
    };
    let at = u64::from(root.block) * BLOCK + at as u64 + EXTENT;
    Ok(file.write_all_at(&narrowed.bytes(), at)?)
}

/// Where the primary volume descriptor is (ECMA-119, 6.7.1), and in it the record of the root folder (8.4.18).
const DESCRIPTOR: u64 = 16 * BLOCK;
const ROOT: usize = 156;
/// Where a record says what it leads to (9.1.3), and its name (9.1.10, 9.1.11).
const EXTENT: u64 = 2;
const NAME_LENGTH: usize = 32;
const NAME: usize = 33;

/// What a record leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    block: u32,
    bytes: u32,
}

impl Extent {
    fn read(record: &[u8]) -> Self {
        let number = |at: usize| {
            u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
        };
        Self {
            block: number(2),
            bytes: number(10),
        }
    }

    /// Each number in both byte orders (7.3.3).
    fn bytes(self) -> Vec<u8> {
        [self.block, self.bytes]
            .into_iter()
            .flat_map(|number| [number.to_le_bytes(), number.to_be_bytes()])
            .flatten()
            .collect()
    }
}

/// Where the record of this name begins in a folder. Records do not cross blocks; what is left of one is zeros.
fn find(folder: &[u8], name: &[u8]) -> Option<usize> {
    let block = usize::try_from(BLOCK).ok()?;
    let mut at = 0;
    while at + NAME < folder.len() {
        match usize::from(folder[at]) {
            0 => at = (at / block + 1) * block,
            length => {
                let its = folder.get(at + NAME..at + NAME + usize::from(folder[at + NAME_LENGTH]));
                if its == Some(name) {
                    return Some(at);
                }
                at += length;
            }
        }
    }
    None
}

/// Of the xorriso that is installed, in a word: the bytes of an ISO image depend on it.
pub fn writer() -> Result<String> {
    let text = process::output(Command::new("xorriso").arg("-version"))?;
    let version = text.lines().find(|line| line.contains("xorriso version"));
    Ok(version.unwrap_or(&text).trim().to_owned())
}

#[cfg(test)]
#[path = "iso_tests.rs"]
mod tests;
