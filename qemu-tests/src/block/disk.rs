//! A disk with a volatile write cache: what was written and not flushed is lost at a cut.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

/// Bytes a sector: what a disk writes whole or not at all.
pub const SECTOR: usize = 512;
/// A real disk's cache is bounded, and it writes the oldest when it is full: 32 MiB.
const LARGEST_CACHE: usize = (32 << 20) / SECTOR;

/// What a cut leaves of the sectors that were written and not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// None of them.
    Drop,
    /// Each with a chance of one half, by this seed: writes are torn and reordered.
    Torn(u64),
}

/// How the disk behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fault {
    /// As it should.
    #[default]
    None,
    /// Reads work, writes are refused.
    ReadOnly,
    /// Everything fails.
    Gone,
}

/// A disk of a virtual machine.
#[derive(Debug)]
pub struct VolatileDisk {
    file: File,
    bytes: u64,
    cache: BTreeMap<u64, Box<[u8; SECTOR]>>,
    fault: Fault,
}

impl VolatileDisk {
    /// Opens the image, or makes a blank one of `bytes`, which takes no room until it is written.
    pub fn open(path: &Path, bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let present = file.metadata()?.len();
        if present == 0 {
            file.set_len(bytes)?;
        }
        let bytes = if present == 0 { bytes } else { present } / SECTOR as u64 * SECTOR as u64;
        Ok(Self {
            file,
            bytes,
            cache: BTreeMap::new(),
            fault: Fault::None,
        })
    }

    /// Its size, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it fail, or work again.
    pub fn set_fault(&mut self, fault: Fault) {
        self.fault = fault;
    }

    /// Reads what was last written, flushed or not. Offset and length are whole sectors.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.fault == Fault::Gone {
            return Err(gone());
        }
        let first = self.sectors(offset, buffer.len())?;
        self.file.read_exact_at(buffer, offset)?;
        let last = first + (buffer.len() / SECTOR) as u64;
        for (sector, data) in self.cache.range(first..last) {
            let at = usize::try_from(sector - first).map_err(io::Error::other)? * SECTOR;
            buffer[at..at + SECTOR].copy_from_slice(&data[..]);
        }
        Ok(())
    }

    /// Writes into the cache. Offset and length are whole sectors.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable()?;
        let first = self.sectors(offset, data.len())?;
        for (sector, chunk) in (first..).zip(data.chunks_exact(SECTOR)) {
            let mut copy = Box::new([0; SECTOR]);
            copy.copy_from_slice(chunk);
            self.cache.insert(sector, copy);
        }
        while self.cache.len() > LARGEST_CACHE {
            let Some((sector, data)) = self.cache.pop_first() else {
                break;
            };
            self.file.write_all_at(&data[..], sector * SECTOR as u64)?;
        }
        Ok(())
    }

    /// Writes zeros, as a trim does here: what is discarded reads as zeros.
    pub fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < length {
            let part = usize::try_from(length - at)
                .unwrap_or(zeros.len())
                .min(zeros.len());
            self.write(offset + at, &zeros[..part])?;
            at += part as u64;
        }
        Ok(())
    }

    /// Makes everything written so far survive a cut.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writable()?;
        while let Some((sector, data)) = self.cache.pop_first() {
            self.file.write_all_at(&data[..], sector * SECTOR as u64)?;
        }
        Ok(())
    }

    /// The power goes. Returns how many written sectors were lost.
    pub fn cut(&mut self, cut: Cut) -> io::Result<usize> {
        let mut lost = 0;
        let mut random = match cut {
            Cut::Drop => 0,
            Cut::Torn(seed) => seed | 1,
        };
        while let Some((sector, data)) = self.cache.pop_first() {
            // xorshift64 (Marsaglia 2003): a repeatable coin is all that is needed.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random & (1 << 20) == 0 {
                lost += 1;
            } else {
                self.file.write_all_at(&data[..], sector * SECTOR as u64)?;
            }
        }
        Ok(lost)
    }

    fn writable(&self) -> io::Result<()> {
        match self.fault {
            Fault::None => Ok(()),
            Fault::ReadOnly => Err(io::ErrorKind::PermissionDenied.into()),
            Fault::Gone => Err(gone()),
        }
    }

    fn sectors(&self, offset: u64, length: usize) -> io::Result<u64> {
        let whole = offset.is_multiple_of(SECTOR as u64) && length.is_multiple_of(SECTOR);
        let inside = offset
            .checked_add(length as u64)
            .is_some_and(|end| end <= self.bytes);
        if whole && inside {
            Ok(offset / SECTOR as u64)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 8 * SECTOR;

    fn disk(folder: &Path) -> VolatileDisk {
        VolatileDisk::open(&folder.join("disk"), 1 << 20).expect("opened")
    }

    fn page(disk: &VolatileDisk, offset: u64) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        disk.read(offset, &mut page).expect("read");
        page
    }

    #[test]
    fn a_cut_loses_what_was_not_flushed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("made");
        let mut disk = disk(folder.path());
        disk.write(0, &[1; PAGE]).expect("written");
        disk.flush().expect("flushed");
        disk.write(0, &[2; PAGE]).expect("written");
        disk.write(8192, &[3; PAGE]).expect("written");
        assert_eq!(
            (page(&disk, 0)[0], page(&disk, 8192)[0]),
            (2, 3),
            "read sees the cache"
        );
        assert_eq!(disk.cut(Cut::Drop).expect("cut"), 16);
        assert_eq!((page(&disk, 0)[0], page(&disk, 8192)[0]), (1, 0));
    }

    #[test]
    fn a_torn_cut_keeps_some_sectors_whole_and_is_repeatable() {
        let torn = |seed| {
            let folder = tempfile::tempdir().expect("made");
            let mut disk = disk(folder.path());
            disk.write(0, &[7; 64 * SECTOR]).expect("written");
            disk.cut(Cut::Torn(seed)).expect("cut");
            let mut all = vec![0; 64 * SECTOR];
            disk.read(0, &mut all).expect("read");
            all
        };
        let once = torn(42);
        assert_eq!(once, torn(42));
        assert_ne!(once, torn(43));
        let kept = once
            .chunks(SECTOR)
            .filter(|sector| sector.iter().all(|byte| *byte == 7))
            .count();
        let lost = once
            .chunks(SECTOR)
            .filter(|sector| sector.iter().all(|byte| *byte == 0))
            .count();
        assert!(
            kept > 0 && lost > 0 && kept + lost == 64,
            "{kept} kept, {lost} lost"
        );
    }

    #[test]
    fn faults_refuse_what_they_should() {
        let folder = tempfile::tempdir().expect("made");
        let mut disk = disk(folder.path());
        disk.set_fault(Fault::ReadOnly);
        assert!(disk.write(0, &[1; PAGE]).is_err());
        assert_eq!(page(&disk, 0)[0], 0);
        disk.set_fault(Fault::Gone);
        assert!(disk.read(0, &mut [0; PAGE]).is_err());
        disk.set_fault(Fault::None);
        disk.write(0, &[1; PAGE]).expect("written");
    }

    #[test]
    fn a_full_cache_writes_its_oldest_as_a_real_disk_does() {
        let folder = tempfile::tempdir().expect("made");
        let mut disk = VolatileDisk::open(&folder.path().join("disk"), 64 << 20).expect("opened");
        let data = vec![9; 1 << 20];
        for at in 0..40 {
            disk.write(at << 20, &data).expect("written");
        }
        assert_eq!(disk.cut(Cut::Drop).expect("cut"), LARGEST_CACHE);
        assert_eq!((page(&disk, 0)[0], page(&disk, 39 << 20)[0]), (9, 0));
    }

    #[test]
    fn what_is_outside_or_not_whole_is_refused() {
        let folder = tempfile::tempdir().expect("made");
        let mut disk = disk(folder.path());
        assert!(disk.write(1 << 20, &[0; PAGE]).is_err());
        assert!(disk.write(1, &[0; PAGE]).is_err());
        assert!(disk.write(u64::MAX - 511, &[0; SECTOR]).is_err());
    }
}
