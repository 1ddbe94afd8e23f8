//! What stands for a disk outside of a node: a file, or memory; and a part of either.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use crate::table::{Partition, Storage, Table};

impl Storage for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Storage for Cursor<Vec<u8>> {
    /// Nothing is more stable than the rest.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A partition of a disk that no kernel shows as a device.
#[derive(Debug)]
pub struct Part<S> {
    disk: S,
    begin: u64,
    bytes: u64,
    position: u64,
}

impl<S: Storage> Part<S> {
    /// The partition of this table on this disk.
    pub fn of(disk: S, table: &Table, partition: &Partition) -> Self {
        let begin = partition.first_sector * table.sector_bytes;
        Self::within(disk, begin, partition.bytes(table.sector_bytes))
    }

    /// So many bytes of a disk, from this one on.
    pub fn within(disk: S, begin: u64, bytes: u64) -> Self {
        Self {
            disk,
            begin,
            bytes,
            position: 0,
        }
    }

    /// How much of a buffer lies within it, with the disk at that place.
    fn fitting(&mut self, bytes: usize) -> io::Result<usize> {
        self.disk
            .seek(SeekFrom::Start(self.begin + self.position))?;
        let left = self.bytes.saturating_sub(self.position);
        Ok(usize::try_from(left).unwrap_or(usize::MAX).min(bytes))
    }
}

impl<S: Storage> Read for Part<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fits = self.fitting(buffer.len())?;
        let read = self.disk.read(&mut buffer[..fits])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<S: Storage> Write for Part<S> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let fits = self.fitting(data.len())?;
        let written = self.disk.write(&data[..fits])?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.flush()
    }
}

impl<S: Storage> Seek for Part<S> {
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

impl<S: Storage> Storage for Part<S> {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Holds, Role, plan, smallest};

    #[test]
    fn a_part_begins_and_ends_where_its_partition_does() {
        let table = plan(
            smallest(Holds::Everything),
            512,
            Holds::Everything,
            Default::default,
        );
        let table = table.expect("fits");
        let place = table.partition(Role::BiosBoot).expect("there");
        let mut disk = Cursor::new(vec![7; 3 << 20]);
        let mut part = Part::of(&mut disk, &table, place);
        assert_eq!(part.seek(SeekFrom::End(0)).expect("inside"), 1 << 20);
        assert_eq!(part.write(b"over").expect("nothing"), 0);
        part.seek(SeekFrom::End(-2)).expect("inside");
        part.write_all(b"in").expect("the last two bytes");
        part.write_all(b"out").expect_err("it ends there");
        part.seek(SeekFrom::Start(0)).expect("inside");
        let mut content = Vec::new();
        part.read_to_end(&mut content).expect("read");
        assert_eq!(content.len(), 1 << 20);
        assert!(content.ends_with(b"\x07\x07in"));
        part.seek(SeekFrom::Start(0)).expect("inside");
        assert!(part.seek(SeekFrom::Current(-1)).is_err());
        let disk = disk.into_inner();
        assert_eq!(disk[2 << 20], 7, "the next partition");
    }
}
