//! Reading and writing the partition table (GPT, UEFI specification chapter 5).
//!
//! A table is written in two steps around the making of the file systems: first with every partition
//! marked *in preparation*, and when all of them are made, without the mark. A disk whose table
//! carries the mark holds nothing of worth, and preparing it starts over. Each step writes the copy
//! that is not whole first (the backup, if both or none are), waits for the disk, and then writes the
//! other; within a copy, the header comes after its entries are on the disk. A reader takes the
//! first copy whose checksums hold. So a power cut at any instant leaves a table that can be read, or on a disk
//! that had none, entries without a header, which [`crate::contents`] knows for a beginning.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use gptman::{GPT, GPTHeader, GPTPartitionEntry};
use thiserror::Error;

use crate::boot_sector;
use crate::layout::Role;

/// Type-specific attribute bit (48–63 are free for the type's owner) that marks a partition in
/// preparation.
pub(crate) const IN_PREPARATION: u64 = 1 << 48;

/// A disk, or a buffer that stands for one in a test.
pub trait Storage: Read + Write + Seek {
    /// Returns when everything written is on stable storage.
    fn sync(&mut self) -> io::Result<()>;
}

impl<S: Storage + ?Sized> Storage for &mut S {
    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }
}

/// One partition of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// Its own GUID, in the byte order it has on the disk.
    pub guid: [u8; 16],
    /// First sector.
    pub first_sector: u64,
    /// Last sector, inclusive.
    pub last_sector: u64,
}

impl Partition {
    /// Its size in bytes.
    pub fn bytes(&self, sector_bytes: u64) -> u64 {
        (self.last_sector - self.first_sector + 1) * sector_bytes
    }
}

/// A partition table of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Bytes a sector: 512 or 4096.
    pub sector_bytes: u64,
    /// The disk's GUID, in the byte order it has on the disk.
    pub disk_guid: [u8; 16],
    /// In the order on the disk; partition N of the kernel is index N - 1.
    pub partitions: Vec<Partition>,
    /// Whether the file systems were all made. Nothing on a disk that is not prepared is of worth, but for an image.
    pub prepared: bool,
    /// Of a disk that is not prepared: whether an image was on it before, which its preparation keeps. Its partitions carry no mark.
    pub keeps_image: bool,
}

/// Why a table was not read or written.
#[derive(Debug, Error)]
pub enum TableError {
    /// The disk did not do what it was asked.
    #[error("the disk could not be read or written")]
    Io(#[from] io::Error),
    /// The table library refused.
    #[error("the partition table could not be encoded")]
    Encode(#[from] gptman::Error),
}

/// What reading a table found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No GPT header at either end.
    None,
    /// One or two headers, none with right checksums.
    Damaged,
    /// A GPT with partitions that are not ours: their names.
    Foreign(Vec<String>),
    /// Ours.
    Ours {
        /// The table.
        table: Table,
        /// Whether the primary copy is whole; if not, something may have been written over the front.
        primary: bool,
    },
}

impl Table {
    /// The partition of a role, if this disk has it.
    pub fn partition(&self, role: Role) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.role == role)
    }

    /// Whether there is an image on it and nothing else: the node that it starts makes the rest.
    pub fn is_image(&self) -> bool {
        self.prepared
            && self
                .partitions
                .iter()
                .all(|partition| !partition.role.has_file_system())
    }

    /// Whether nothing is to be made any more of the role's partition.
    pub(crate) fn is_done(&self, role: Role) -> bool {
        self.prepared || self.keeps_image && !role.has_file_system()
    }

    /// The kernel's number of a role's partition, from 1.
    pub fn number(&self, role: Role) -> Option<u32> {
        let index = self
            .partitions
            .iter()
            .position(|partition| partition.role == role)?;
        u32::try_from(index + 1).ok()
    }

    /// Writes both copies and the first sector, and waits for the disk.
    pub fn write<S: Storage>(&self, storage: &mut S) -> Result<(), TableError> {
        let mut primary = GPT::new_from(storage, self.sector_bytes, self.disk_guid)?.header;
        let mut backup = primary.clone();
        backup.primary_lba = primary.backup_lba;
        backup.backup_lba = primary.primary_lba;
        backup.partition_entry_lba = primary.last_usable_lba + 1;
        let whole = |storage: &mut S, header: &GPTHeader| {
            let copy = read_copy(storage, self.sector_bytes, header.primary_lba)?;
            Ok::<_, TableError>(matches!(copy, Copy::Whole(..)))
        };
        let primary_last = whole(storage, &primary)? || !whole(storage, &backup)?;
        if primary_last {
            self.write_copy(storage, &mut backup)?;
        }
        self.write_boot_sector(storage)?;
        self.write_copy(storage, &mut primary)?;
        if !primary_last {
            self.write_copy(storage, &mut backup)?;
        }
        Ok(())
    }

    /// In one piece: there is no instant at which a BIOS finds the one half of it.
    fn write_boot_sector<S: Storage>(&self, storage: &mut S) -> io::Result<()> {
        let bytes = storage.seek(SeekFrom::End(0))?;
        let mut sector = [0; boot_sector::BYTES];
        storage.seek(SeekFrom::Start(0))?;
        storage.read_exact(&mut sector)?;
        storage.seek(SeekFrom::Start(0))?;
        storage.write_all(&boot_sector::protective(&sector, bytes / self.sector_bytes))
    }

    /// Writes the entries, waits for the disk, then writes the header of one copy, and waits again.
    fn write_copy<S: Storage>(
        &self,
        storage: &mut S,
        header: &mut GPTHeader,
    ) -> Result<(), TableError> {
        let unused = GPTPartitionEntry::empty();
        let mut entries = vec![unused; header.number_of_partition_entries as usize];
        for (entry, partition) in entries.iter_mut().zip(&self.partitions) {
            *entry = GPTPartitionEntry {
                partition_type_guid: partition.role.type_guid(),
                unique_partition_guid: partition.guid,
                starting_lba: partition.first_sector,
                ending_lba: partition.last_sector,
                attribute_bits: if self.is_done(partition.role) {
                    0
                } else {
                    IN_PREPARATION
                },
                partition_name: partition.role.label().into(),
            };
        }
        // The library writes the header before the entries: encoded aside, they are put in order.
        let entries_at = header.partition_entry_lba * self.sector_bytes;
        let header_at = header.primary_lba * self.sector_bytes;
        let mut encoded = Window {
            begin: entries_at.min(header_at),
            inner: Cursor::new(Vec::new()),
        };
        header.write_into(&mut encoded, self.sector_bytes, &entries)?;
        let mut bytes = encoded.inner.into_inner();
        let header_bytes = if header_at < entries_at {
            let entries = bytes.split_off(in_memory(entries_at - header_at)?);
            std::mem::replace(&mut bytes, entries)
        } else {
            bytes.split_off(in_memory(header_at - entries_at)?)
        };
        for (at, part) in [(entries_at, bytes), (header_at, header_bytes)] {
            storage.seek(SeekFrom::Start(at))?;
            storage.write_all(&part)?;
            storage.sync()?;
        }
        Ok(())
    }

    /// Erases what could be taken for something else where this table and its file systems go: the beginning of each
    /// partition's place, and then both edges of the disk, unless they hold a table `in_preparation`. In this
    /// order a power cut leaves a disk as it was, in preparation, or blank, and never a damaged table of ours. An image that is kept stays as it is, with the
    /// front of the disk.
    pub fn clear<S: Storage>(
        &self,
        storage: &mut S,
        in_preparation: bool,
    ) -> Result<(), TableError> {
        for partition in &self.partitions {
            if self.is_done(partition.role) {
                continue;
            }
            let begin = partition.first_sector * self.sector_bytes;
            let length = partition.bytes(self.sector_bytes).min(EDGE_BYTES);
            zero(storage, begin, length)?;
        }
        storage.sync()?;
        if in_preparation {
            return Ok(());
        }
        let bytes = storage.seek(SeekFrom::End(0))?;
        let end = bytes.saturating_sub(EDGE_BYTES);
        let from = if self.keeps_image { end } else { 0 };
        for header in header_places(bytes).filter(|header| *header >= from) {
            zero(storage, header, 512)?;
        }
        storage.sync()?;
        for edge in [0, end].into_iter().filter(|edge| *edge >= from) {
            zero(storage, edge, EDGE_BYTES.min(bytes))?;
        }
        storage.sync()?;
        Ok(())
    }

    /// Reads the table of a disk, whichever copy is whole. Both sector sizes are tried, since an
    /// image may have been moved between disks.
    pub fn read<R: Read + Seek + ?Sized>(reader: &mut R) -> Result<Found, TableError> {
        let bytes = reader.seek(SeekFrom::End(0))?;
        let mut damaged = false;
        for sector_bytes in [512, 4096] {
            if bytes < 8 * sector_bytes {
                continue;
            }
            for header_sector in [1, bytes / sector_bytes - 1] {
                match read_copy(reader, sector_bytes, header_sector)? {
                    Copy::Absent => {}
                    Copy::Damaged => damaged = true,
                    Copy::Whole(header, entries) => {
                        return Ok(interpret(sector_bytes, &header, &entries));
                    }
                }
            }
        }
        Ok(if damaged { Found::Damaged } else { Found::None })
    }
}

/// How much of each end of a disk, and of each partition's place, is looked at and cleared.
pub(crate) const EDGE_BYTES: u64 = 1 << 20;

/// Where headers of a GPT can be, in bytes: both copies, by both sector sizes.
pub(crate) fn header_places(bytes: u64) -> impl Iterator<Item = u64> {
    [
        Some(512),
        Some(4096),
        bytes.checked_sub(512),
        bytes.checked_sub(4096),
    ]
    .into_iter()
    .flatten()
    .filter(move |place| *place >= 512 && place + 512 <= bytes)
}

fn zero<S: Storage>(storage: &mut S, from: u64, bytes: u64) -> io::Result<()> {
    storage.seek(SeekFrom::Start(from))?;
    io::copy(&mut io::repeat(0).take(bytes), storage)?;
    Ok(())
}

fn in_memory(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A part of a disk in memory, addressed as on the disk.
struct Window {
    begin: u64,
    inner: Cursor<Vec<u8>>,
}

impl Write for Window {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.inner.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at.saturating_sub(self.begin)),
            relative => relative,
        };
        Ok(self.inner.seek(to)? + self.begin)
    }
}

enum Copy {
    Absent,
    Damaged,
    Whole(Box<GPTHeader>, Vec<GPTPartitionEntry>),
}

/// More entries than any tool makes; a damaged header must not have us allocate by its word.
const MOST_ENTRIES: u32 = 1024;

fn read_copy<R: Read + Seek + ?Sized>(
    reader: &mut R,
    sector_bytes: u64,
    header_sector: u64,
) -> Result<Copy, TableError> {
    let mut sector = [0_u8; 512];
    reader.seek(SeekFrom::Start(header_sector * sector_bytes))?;
    reader.read_exact(&mut sector)?;
    if !sector.starts_with(b"EFI PART") {
        return Ok(Copy::Absent);
    }
    let Ok(header) = GPTHeader::read_from(&mut Cursor::new(&sector[..])) else {
        return Ok(Copy::Damaged);
    };
    if header.primary_lba != header_sector
        || header.size_of_partition_entry != 128
        || header.number_of_partition_entries > MOST_ENTRIES
    {
        return Ok(Copy::Damaged);
    }
    let Some(start) = header.partition_entry_lba.checked_mul(sector_bytes) else {
        return Ok(Copy::Damaged);
    };
    let mut array = vec![0_u8; header.number_of_partition_entries as usize * 128];
    reader.seek(SeekFrom::Start(start))?;
    if let Err(error) = reader.read_exact(&mut array) {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(Copy::Damaged),
            _ => Err(error.into()),
        };
    }
    let entries: Result<Vec<_>, _> = array
        .chunks_exact(128)
        .map(|mut entry| GPTPartitionEntry::read_from(&mut entry))
        .collect();
    Ok(match entries {
        Ok(entries)
            if header.generate_partition_entry_array_crc32(&entries)
                == header.partition_entry_array_crc32 =>
        {
            Copy::Whole(Box::new(header), entries)
        }
        _ => Copy::Damaged,
    })
}

/// Ours is a table in which every partition has a type of ours, at least one of them a type that
/// nobody else uses, and none of them twice, none overlapping.
fn interpret(sector_bytes: u64, header: &GPTHeader, entries: &[GPTPartitionEntry]) -> Found {
    let used: Vec<_> = entries.iter().filter(|entry| entry.is_used()).collect();
    let mut partitions = Vec::new();
    let mut next_free = header.first_usable_lba;
    for entry in &used {
        let Some(role) = Role::from_type_guid(entry.partition_type_guid) else {
            break;
        };
        if entry.starting_lba < next_free
            || entry.ending_lba < entry.starting_lba
            || entry.ending_lba > header.last_usable_lba
            || partitions
                .iter()
                .any(|earlier: &Partition| earlier.role >= role)
        {
            break;
        }
        next_free = entry.ending_lba + 1;
        partitions.push(Partition {
            role,
            guid: entry.unique_partition_guid,
            first_sector: entry.starting_lba,
            last_sector: entry.ending_lba,
        });
    }
    let ours = partitions.len() == used.len()
        && partitions
            .iter()
            .any(|partition| !matches!(partition.role, Role::BiosBoot | Role::Esp));
    if ours {
        let is_marked = |entry: &&GPTPartitionEntry| entry.attribute_bits & IN_PREPARATION != 0;
        let prepared = !used.iter().any(is_marked);
        let system = Role::Esp.type_guid();
        let keeps_image = !prepared
            && used
                .iter()
                .any(|entry| entry.partition_type_guid == system && !is_marked(entry));
        Found::Ours {
            table: Table {
                sector_bytes,
                disk_guid: header.disk_guid,
                partitions,
                prepared,
                keeps_image,
            },
            primary: header.primary_lba < header.backup_lba,
        }
    } else {
        Found::Foreign(
            used.iter()
                .map(|entry| entry.partition_name.as_str().to_owned())
                .collect(),
        )
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
