//! The EFI system partition of a machine that is off, from the file of its disk.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use masthead_disk_layout::{Contents, Role, Storage, inspect};
use masthead_slots::Partition;

use crate::error::{Attempt, Error, Result};

/// Opens it. The disk must be Masthead's.
pub fn open(disk: &Path) -> Result<Partition<Window>> {
    let wrong = |why: &str| Error::Refused(format!("{}: {why}", disk.display()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(disk)
        .attempt(|| format!("open {}", disk.display()))?;
    let Contents::Ours(table) = inspect(&mut file) else {
        return Err(wrong("the disk is not Masthead's"));
    };
    let partition = table.partition(Role::Esp);
    let partition = partition.ok_or_else(|| wrong("there is no EFI system partition"))?;
    let window = Window {
        begin: partition.first_sector * table.sector_bytes,
        bytes: partition.bytes(table.sector_bytes),
        position: 0,
        file,
    };
    Partition::open(window).map_err(|error| wrong(&crate::error::chain(&error)))
}

/// A part of a file.
#[derive(Debug)]
pub struct Window {
    file: File,
    begin: u64,
    bytes: u64,
    position: u64,
}

impl Window {
    /// What of a buffer lies within it, with the file at that place.
    fn fitting(&mut self, bytes: usize) -> io::Result<usize> {
        self.file
            .seek(SeekFrom::Start(self.begin + self.position))?;
        let left = self.bytes.saturating_sub(self.position);
        Ok(usize::try_from(left).unwrap_or(usize::MAX).min(bytes))
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fits = self.fitting(buffer.len())?;
        let read = self.file.read(&mut buffer[..fits])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for Window {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let fits = self.fitting(data.len())?;
        let written = self.file.write(&data[..fits])?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl Storage for Window {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
