//! Where things are, and an empty file system.

use std::io::{self, SeekFrom};

use masthead_disk_layout::Storage;

use super::folder;
use super::{get, set};

/// Sectors in front of the tables.
const RESERVED: u16 = 32;
const TABLES: u8 = 2;
/// A table ends where a block does, of a disk or of a CD, and so clusters begin there.
const BLOCK: u32 = 4 << 10;
/// Sectors of their own, among the reserved ones.
const INFORMATION: u64 = 1;
const BACKUP: u64 = 6;
const ROOT: u32 = 2;

/// What an empty file system is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    sector_bytes: u16,
    cluster_bytes: u32,
    label: [u8; 11],
    serial: u32,
}

impl Format {
    /// On a node's disk, whose sectors have so many bytes. Large clusters make large files fast, and with these a partition of 1 GiB still has
    /// the 65,525 that FAT32 has at least.
    pub const fn disk(sector_bytes: u16) -> Self {
        Self {
            sector_bytes,
            cluster_bytes: 8 << 10,
            // Not that of a volume that may hold a seed.
            label: *b"MH-SYSTEM  ",
            // Any will do, and a fixed one says what this is.
            serial: u32::from_be_bytes(*b"MHST"),
        }
    }

    /// On a medium that boots, as small as one can be: [`Self::smallest`] for its content.
    pub const fn medium() -> Self {
        Self {
            sector_bytes: 512,
            cluster_bytes: 1 << 10,
            // Where a seed is looked for.
            label: *b"MASTHEAD   ",
            serial: u32::from_be_bytes(*b"MHMD"),
        }
    }

    /// Bytes of the smallest file system that has room for files of so many bytes altogether: a whole number of blocks of 4 KiB.
    pub fn smallest(&self, content: u64) -> u64 {
        let cluster = u64::from(self.cluster_bytes);
        // FAT32 begins there; who reads it goes by the number of clusters, and not always to the same (Microsoft's overview, page 15: keep off by 16).
        let least = 65_525 + 16;
        let folders = FOLDERS.len() as u64 + 1;
        let clusters = (content.div_ceil(cluster) + folders).max(least);
        let front = u64::from(RESERVED) * u64::from(self.sector_bytes);
        // The tables have links for themselves, too: 4 bytes a cluster in each of the two, so that one in 64 is more than enough.
        let links = (clusters + clusters / 64 + 1024) * 4;
        let table = links.next_multiple_of(u64::from(BLOCK));
        (front + u64::from(TABLES) * table + clusters * cluster).next_multiple_of(u64::from(BLOCK))
    }
}

/// The end of a chain, as it is written, and the first of the numbers that mean it.
pub(super) const END_OF_CHAIN: u32 = 0x0fff_ffff;
pub(super) const IS_END: u32 = 0x0fff_fff8;
/// The upper four bits of a link mean nothing.
const LINK: u32 = 0x0fff_ffff;

/// The folders by name, each with the number of the one above it: the root is 0, and the first of these 1.
const FOLDERS: [([u8; 11], u32); 5] = [
    (*b"EFI        ", 0),
    (*b"LOADER     ", 0),
    (*b"MASTHEAD   ", 0),
    (*b"BOOT       ", 1),
    (*b"ENTRIES    ", 2),
];

/// Where things are, in bytes from the beginning of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) sector_bytes: u64,
    pub(super) cluster_bytes: u64,
    /// The copies of the table.
    pub(super) tables: Vec<u64>,
    pub(super) table_bytes: usize,
    /// How many clusters there are.
    pub(super) clusters: u32,
    /// The root folder's first cluster.
    pub(super) root: u32,
    first_cluster: u64,
}

impl Geometry {
    /// None if there is no FAT32 file system.
    pub(super) fn read<S: Storage>(storage: &mut S) -> io::Result<Option<Self>> {
        let mut first = [0; 512];
        get(storage, 0, &mut first)?;
        let bytes = storage.seek(SeekFrom::End(0))?;
        Ok(Self::of(&first).filter(|geometry| geometry.end() <= bytes))
    }

    fn of(first: &[u8; 512]) -> Option<Self> {
        let word = |at: usize| u32::from(u16::from_le_bytes([first[at], first[at + 1]]));
        let double = |at: usize| word(at) | word(at + 2) << 16;
        let (sector, per_cluster, reserved) = (word(11), u32::from(first[13]), word(14));
        let (tables, table, total) = (u32::from(first[16]), double(36), double(32));
        let is_fat32 = first[510..] == [0x55, 0xaa]
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables)
            // What FAT12 and FAT16 have there.
            && (word(17), word(22)) == (0, 0)
            && table > 0;
        if !is_fat32 {
            return None;
        }
        let (sector_bytes, table_bytes) = (u64::from(sector), u64::from(table) * u64::from(sector));
        let front = u64::from(reserved) * sector_bytes;
        let data = u64::from(total)
            .checked_sub(u64::from(reserved) + u64::from(tables) * u64::from(table))?;
        let clusters = u32::try_from(data / u64::from(per_cluster)).ok()?;
        let geometry = Self {
            sector_bytes,
            cluster_bytes: u64::from(per_cluster) * sector_bytes,
            tables: (0..u64::from(tables))
                .map(|number| front + number * table_bytes)
                .collect(),
            table_bytes: usize::try_from(table_bytes).ok()?,
            clusters,
            root: double(44),
            first_cluster: front + u64::from(tables) * table_bytes,
        };
        let links = u64::from(clusters) + 2;
        (links * 4 <= table_bytes && geometry.has(geometry.root)).then_some(geometry)
    }

    /// Whether there is a cluster of this number.
    pub(super) fn has(&self, cluster: u32) -> bool {
        (2..self.clusters + 2).contains(&cluster)
    }

    /// Where a cluster begins.
    pub(super) fn cluster(&self, number: u32) -> u64 {
        self.first_cluster + u64::from(number - 2) * self.cluster_bytes
    }

    fn end(&self) -> u64 {
        self.cluster(self.clusters + 2)
    }
}

/// What follows a cluster, by a table.
pub(super) fn link(table: &[u8], cluster: u32) -> u32 {
    let at = cluster as usize * 4;
    let bytes = [table[at], table[at + 1], table[at + 2], table[at + 3]];
    u32::from_le_bytes(bytes) & LINK
}

pub(super) fn set_link(table: &mut [u8], cluster: u32, next: u32) {
    let at = cluster as usize * 4;
    table[at..at + 4].copy_from_slice(&next.to_le_bytes());
}

/// Makes an empty file system, and waits for the disk. It comes into being with its first sector, which is written when all the rest is there: until then
/// there is none, whatever was there before.
pub(super) fn format<S: Storage>(storage: &mut S, format: Format) -> io::Result<()> {
    let sector = u64::from(format.sector_bytes);
    let bytes = storage.seek(SeekFrom::End(0))?;
    let first = first_sector(bytes, format);
    let geometry = Geometry::of(&first)
        .ok_or_else(|| io::Error::other("it is too small, or has sectors of an unknown size"))?;
    let mut whole = vec![0; usize::from(format.sector_bytes)];
    set(storage, 0, &whole)?;
    storage.sync()?;
    let information = information_sector();
    for copy in [0, BACKUP] {
        set(storage, (copy + INFORMATION) * sector, &information)?;
    }
    set(storage, BACKUP * sector, &first)?;
    let mut table = vec![0; geometry.table_bytes];
    set_link(&mut table, 0, IS_END);
    set_link(&mut table, 1, END_OF_CHAIN);
    for (cluster, content) in (ROOT..).zip(folders(format.label)) {
        set_link(&mut table, cluster, END_OF_CHAIN);
        let mut content = content.concat();
        content.resize(format.cluster_bytes as usize, 0);
        set(storage, geometry.cluster(cluster), &content)?;
    }
    for at in &geometry.tables {
        set(storage, *at, &table)?;
    }
    storage.sync()?;
    whole[..512].copy_from_slice(&first);
    set(storage, 0, &whole)?;
    storage.sync()
}

/// The contents of the root and of the folders, in the order of their clusters.
fn folders(label: [u8; 11]) -> Vec<Vec<folder::Raw>> {
    // The root begins with the volume's label.
    let mut contents = vec![vec![folder::label(label)]];
    for (cluster, (_, above)) in (ROOT + 1..).zip(FOLDERS) {
        // The root goes by zero there.
        let above = if above == 0 { 0 } else { ROOT + above };
        contents.push(folder::beginning(cluster, above));
    }
    for (cluster, (name, above)) in (ROOT + 1..).zip(FOLDERS) {
        contents[above as usize].push(folder::of_folder(name, cluster));
    }
    contents
}

fn first_sector(bytes: u64, format: Format) -> [u8; 512] {
    let sector = u32::from(format.sector_bytes.max(1));
    let total = u32::try_from(bytes / u64::from(sector)).unwrap_or(u32::MAX);
    let per_cluster = format.cluster_bytes / sector;
    // As if all were clusters: some links too many do no harm.
    let links = total / per_cluster.max(1) + 2;
    let table = (links * 4).next_multiple_of(BLOCK) / sector;
    let mut first = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| first[at..at + bytes.len()].copy_from_slice(bytes);
    // A jump to nowhere: nothing starts here.
    put(0, &[0xeb, 0x58, 0x90]);
    put(3, b"MASTHEAD");
    put(11, &format.sector_bytes.to_le_bytes());
    put(13, &[u8::try_from(per_cluster).unwrap_or(0)]);
    put(14, &RESERVED.to_le_bytes());
    put(16, &[TABLES]);
    // A disk that is not removed, as the table's first link says, too.
    put(21, &[0xf8]);
    // Of a geometry that no disk has had for long: 63 sectors, 255 heads.
    put(24, &[63, 0, 255, 0]);
    put(32, &total.to_le_bytes());
    put(36, &table.to_le_bytes());
    put(44, &ROOT.to_le_bytes());
    put(48, &[1, 0, 6, 0]);
    put(64, &[0x80, 0, 0x29]);
    put(67, &format.serial.to_le_bytes());
    put(71, &format.label);
    put(82, b"FAT32   ");
    put(510, &[0x55, 0xaa]);
    first
}

/// It says that nobody has counted the free clusters, and nobody does.
fn information_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..4].copy_from_slice(b"RRaA");
    sector[484..488].copy_from_slice(b"rrAa");
    sector[488..496].fill(0xff);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
