//! FAT32, written so that a power cut at any instant leaves the files as they were before a change, or as they are after it.
//!
//! A library would do, but for the order of its writes: fatfs 0.3 frees the clusters of a file while its name still leads to them, and the
//! kernel's driver writes when it likes. Here
//!
//! - a file that is replaced is empty first; its new content, and then the chain of its clusters, are on the disk before its name leads to them;
//! - that word, size and first cluster, is in one sector;
//! - no cluster is ever freed by who gives it up. What no name leads to is free, whatever the table says, and the table follows at the next change.
//!
//! Format: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03. What the boot loader does to the names of its entries goes through the
//! firmware's driver, and is read here like anything else.
//!
//! - [`geometry`]: where things are, and an empty file system;
//! - [`folder`]: the entries of folders, with long names.

mod folder;
mod geometry;

use std::io::{self, Read, SeekFrom};
use std::ops::Range;

use masthead_disk_layout::Storage;
use thiserror::Error;

use folder::{Item, Kind};
pub use geometry::Format;
use geometry::{END_OF_CHAIN, Geometry, IS_END};

/// What is written between two waits for the disk: a slow one must not have to take an image at once.
const CHUNK: usize = 4 << 20;

/// Why the partition cannot be read or written.
#[derive(Debug, Error)]
pub enum PartitionError {
    /// The disk failed.
    #[error("{doing} on the EFI system partition")]
    Disk {
        /// What was being done.
        doing: String,
        /// The disk's word.
        source: io::Error,
    },
    /// What is to be written cannot be read.
    #[error("reading what is to be {path} on the EFI system partition")]
    Content {
        /// The file.
        path: String,
        /// Its source's word.
        source: io::Error,
    },
    /// There is no FAT32 file system.
    #[error("the EFI system partition holds no FAT32 file system")]
    Foreign,
    /// The file system is damaged, or not one of ours.
    #[error("the file system of the EFI system partition is damaged: {0}")]
    Damaged(&'static str),
    /// There is no such folder.
    #[error("the EFI system partition has no folder {0}")]
    NoFolder(String),
    /// It is full.
    #[error("the EFI system partition has no space for {0}")]
    Full(String),
}

/// The file system.
#[derive(Debug)]
pub struct Partition<S> {
    storage: S,
    geometry: Geometry,
    /// As they are on the disk.
    tables: Vec<Vec<u8>>,
}

impl<S: Storage> Partition<S> {
    /// Makes an empty file system with our folders, whatever was there before.
    pub fn format(mut storage: S, format: Format) -> Result<Self, PartitionError> {
        let doing = || "making a file system".to_owned();
        geometry::format(&mut storage, format).at(doing)?;
        Self::open(storage)
    }

    /// Opens the file system that is there.
    pub fn open(mut storage: S) -> Result<Self, PartitionError> {
        let doing = || "reading the file system".to_owned();
        let geometry = Geometry::read(&mut storage)
            .at(doing)?
            .ok_or(PartitionError::Foreign)?;
        let mut tables = Vec::new();
        for table in &geometry.tables {
            let mut bytes = vec![0; geometry.table_bytes];
            get(&mut storage, *table, &mut bytes).at(doing)?;
            tables.push(bytes);
        }
        Ok(Self {
            storage,
            geometry,
            tables,
        })
    }

    /// What the file system is on.
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Writes a file into a folder that is there, in place of the one of that name, and waits for the disk. Until the last of its bytes is there it is
    /// empty, or absent: so what has anything in it is whole.
    pub fn write(&mut self, path: &str, content: &mut impl Read) -> Result<(), PartitionError> {
        let doing = || format!("writing {path}");
        let (above, name) = self.above(path)?;
        let there = self.find(above, name, Kind::File)?;
        if let Some(item) = &there {
            self.put(&[(item.short_at(), item.leading_to(0, 0).to_vec())])
                .at(doing)?;
        }
        let (chain, bytes) = self.store(path, content)?;
        let first = chain.first().copied().unwrap_or_default();
        self.settle(&chain).at(doing)?;
        let size = u32::try_from(bytes).map_err(|_| PartitionError::Full(path.to_owned()))?;
        if let Some(item) = there {
            let entry = item.leading_to(first, size).to_vec();
            return self.put(&[(item.short_at(), entry)]).at(doing);
        }
        let items = self.folder(above)?;
        let entries = folder::compose(name, &items, first, size);
        let places = self.places(above)?;
        let run = folder::free_run(&places, &items, entries.len())
            .ok_or_else(|| PartitionError::Full(path.to_owned()))?;
        // The last one is the word; those before it may be in another sector.
        let mut steps: Vec<_> = run.into_iter().zip(entries).collect();
        let word = steps.pop();
        self.put(&steps).at(doing)?;
        self.put(word.as_slice()).at(doing)
    }

    /// Removes a file, if there is one, and waits for the disk.
    pub fn remove(&mut self, path: &str) -> Result<(), PartitionError> {
        let doing = || format!("removing {path}");
        let (above, name) = self.above(path)?;
        let Some(item) = self.find(above, name, Kind::File)? else {
            return Ok(());
        };
        // Its short name last of all places, and first in time: without that it is gone.
        for at in item.at.iter().rev() {
            self.put(&[(*at, vec![folder::IS_FREE])]).at(doing)?;
        }
        self.settle(&[]).at(doing)
    }

    /// A file's content; none if there is no such file.
    pub fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, PartitionError> {
        let Some(mut file) = self.file(path)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.read_to_end(&mut content)
            .at(|| format!("reading {path}"))?;
        Ok(Some(content))
    }

    /// A file, to read in; none if there is no such file.
    pub fn file(&mut self, path: &str) -> Result<Option<File<'_, S>>, PartitionError> {
        let Ok((above, name)) = self.above(path) else {
            return Ok(None);
        };
        let Some(item) = self.find(above, name, Kind::File)? else {
            return Ok(None);
        };
        let chain = self.chain(item.cluster)?;
        if (chain.len() as u64) * self.geometry.cluster_bytes < u64::from(item.size) {
            return Err(PartitionError::Damaged(
                "a file is longer than its clusters",
            ));
        }
        Ok(Some(File {
            partition: self,
            chain,
            size: u64::from(item.size),
            position: 0,
        }))
    }

    /// Where the bytes of a file are on the partition, if they are in one piece; none if they are not, or if there is no such file.
    pub fn range(&mut self, path: &str) -> Result<Option<Range<u64>>, PartitionError> {
        let Some(file) = self.file(path)? else {
            return Ok(None);
        };
        let (chain, size) = (file.chain, file.size);
        let in_one_piece = chain.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let first = chain.first().filter(|_| in_one_piece);
        Ok(first.map(|first| {
            let begin = self.geometry.cluster(*first);
            begin..begin + size
        }))
    }

    /// The names of a folder's files; none if there is no such folder.
    pub fn names(&mut self, path: &str) -> Result<Vec<String>, PartitionError> {
        let Ok(cluster) = self.cluster_of(path) else {
            return Ok(Vec::new());
        };
        let items = self.folder(cluster)?.into_iter();
        let files = items.filter(|item| item.kind == Kind::File);
        let mut names: Vec<String> = files.map(|item| item.name).collect();
        names.sort();
        Ok(names)
    }

    /// The folder in which a file is, and its name.
    fn above<'a>(&mut self, path: &'a str) -> Result<(u32, &'a str), PartitionError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.cluster_of(folder)?, name))
    }

    fn cluster_of(&mut self, path: &str) -> Result<u32, PartitionError> {
        let mut cluster = self.geometry.root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let item = self.find(cluster, name, Kind::Folder)?;
            let item = item.ok_or_else(|| PartitionError::NoFolder(path.to_owned()))?;
            cluster = item.cluster;
        }
        Ok(cluster)
    }

    fn find(
        &mut self,
        folder: u32,
        name: &str,
        kind: Kind,
    ) -> Result<Option<Item>, PartitionError> {
        let mut items = self.folder(folder)?.into_iter();
        Ok(items.find(|item| item.kind == kind && item.name.eq_ignore_ascii_case(name)))
    }

    fn folder(&mut self, cluster: u32) -> Result<Vec<Item>, PartitionError> {
        Ok(folder::parse(&self.places(cluster)?))
    }

    /// A folder's entries, each with its place.
    fn places(&mut self, cluster: u32) -> Result<Vec<(u64, folder::Raw)>, PartitionError> {
        let mut places = Vec::new();
        for cluster in self.chain(cluster)? {
            let at = self.geometry.cluster(cluster);
            let mut bytes = vec![0; usize::try_from(self.geometry.cluster_bytes).unwrap_or(0)];
            get(&mut self.storage, at, &mut bytes).at(|| "reading a folder".to_owned())?;
            let entries = bytes.chunks_exact(folder::ENTRY).zip(0_u64..);
            places.extend(entries.map(|(entry, number)| {
                let mut raw = [0; folder::ENTRY];
                raw.copy_from_slice(entry);
                (at + number * folder::ENTRY as u64, raw)
            }));
        }
        Ok(places)
    }

    /// The clusters from this one on. 0 stands for none.
    fn chain(&self, first: u32) -> Result<Vec<u32>, PartitionError> {
        let mut chain = Vec::new();
        let mut next = first;
        while next != 0 && next < IS_END {
            if !self.geometry.has(next) {
                return Err(PartitionError::Damaged("a chain leads out of it"));
            }
            if chain.len() >= self.geometry.clusters as usize {
                return Err(PartitionError::Damaged("a chain leads in a circle"));
            }
            chain.push(next);
            next = geometry::link(&self.tables[0], next);
        }
        Ok(chain)
    }

    /// Those to which a name leads.
    fn used(&mut self) -> Result<Vec<bool>, PartitionError> {
        let mut used = vec![false; self.geometry.clusters as usize + 2];
        let mut folders = vec![self.geometry.root];
        while let Some(folder) = folders.pop() {
            for cluster in self.chain(folder)? {
                used[cluster as usize] = true;
            }
            for item in self.folder(folder)? {
                let first = usize::try_from(item.cluster).unwrap_or(0);
                if item.kind == Kind::Folder && !used.get(first).copied().unwrap_or(true) {
                    folders.push(item.cluster);
                }
                if item.kind == Kind::File {
                    for cluster in self.chain(item.cluster)? {
                        used[cluster as usize] = true;
                    }
                }
            }
        }
        Ok(used)
    }

    /// Writes content into free clusters, to which nothing leads yet. Returns them, and how many bytes it was.
    fn store(
        &mut self,
        path: &str,
        content: &mut impl Read,
    ) -> Result<(Vec<u32>, u64), PartitionError> {
        let doing = || format!("writing {path}");
        let used = self.used()?;
        let mut free = (2..).zip(used.into_iter().skip(2));
        let cluster_bytes = usize::try_from(self.geometry.cluster_bytes).unwrap_or(usize::MAX);
        let (mut chain, mut size) = (Vec::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read =
                read_full(content, &mut chunk).map_err(|source| PartitionError::Content {
                    path: path.to_owned(),
                    source,
                })?;
            for part in chunk[..read].chunks(cluster_bytes) {
                let cluster = free.find(|(_, used)| !used);
                let (cluster, _) = cluster.ok_or_else(|| PartitionError::Full(path.to_owned()))?;
                set(&mut self.storage, self.geometry.cluster(cluster), part).at(doing)?;
                chain.push(cluster);
            }
            self.storage.sync().at(doing)?;
            size += read as u64;
            if read < chunk.len() {
                return Ok((chain, size));
            }
        }
    }

    /// Makes the tables say what is so: that these clusters are a chain, and all others to which no name leads are free.
    fn settle(&mut self, chain: &[u32]) -> io::Result<()> {
        let used = self.used().map_err(io::Error::other)?;
        let mut wanted = self.tables[0].clone();
        for (cluster, _) in (2_u32..).zip(&used[2..]).filter(|(_, used)| !**used) {
            geometry::set_link(&mut wanted, cluster, 0);
        }
        for pair in chain.windows(2) {
            geometry::set_link(&mut wanted, pair[0], pair[1]);
        }
        if let Some(last) = chain.last() {
            geometry::set_link(&mut wanted, *last, END_OF_CHAIN);
        }
        let sector = usize::try_from(self.geometry.sector_bytes).unwrap_or(512);
        for (table, at) in self.tables.iter_mut().zip(&self.geometry.tables) {
            let sectors = table.chunks_mut(sector).zip(wanted.chunks(sector));
            for ((there, wanted), number) in sectors.zip(0_u64..) {
                if there != wanted {
                    there.copy_from_slice(wanted);
                    set(&mut self.storage, at + number * sector as u64, wanted)?;
                }
            }
        }
        self.storage.sync()
    }

    /// Writes some bytes of folders, and waits for the disk.
    fn put(&mut self, steps: &[(u64, impl AsRef<[u8]>)]) -> io::Result<()> {
        for (at, bytes) in steps {
            set(&mut self.storage, *at, bytes.as_ref())?;
        }
        self.storage.sync()
    }
}

fn get<S: Storage>(storage: &mut S, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    storage.seek(SeekFrom::Start(at))?;
    storage.read_exact(bytes)
}

fn set<S: Storage>(storage: &mut S, at: u64, bytes: &[u8]) -> io::Result<()> {
    storage.seek(SeekFrom::Start(at))?;
    storage.write_all(bytes)
}

/// Until it is full, or there is no more.
fn read_full(content: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Says what was being done.
trait At<T> {
    fn at(self, doing: impl FnOnce() -> String) -> Result<T, PartitionError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: impl FnOnce() -> String) -> Result<T, PartitionError> {
        self.map_err(|source| PartitionError::Disk {
            doing: doing(),
            source,
        })
    }
}

/// A file that is read.
#[derive(Debug)]
pub struct File<'a, S> {
    partition: &'a mut Partition<S>,
    chain: Vec<u32>,
    size: u64,
    position: u64,
}

impl<S: Storage> Read for File<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let cluster_bytes = self.partition.geometry.cluster_bytes;
        let (index, within) = (self.position / cluster_bytes, self.position % cluster_bytes);
        let left = self
            .size
            .saturating_sub(self.position)
            .min(cluster_bytes - within);
        let cluster = usize::try_from(index)
            .ok()
            .and_then(|index| self.chain.get(index));
        let Some(cluster) = cluster.filter(|_| left > 0) else {
            return Ok(0);
        };
        let bytes = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let at = self.partition.geometry.cluster(*cluster) + within;
        get(&mut self.partition.storage, at, &mut buffer[..bytes])?;
        self.position += bytes as u64;
        Ok(bytes)
    }
}

impl<S: Storage> io::Seek for File<'_, S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests;
