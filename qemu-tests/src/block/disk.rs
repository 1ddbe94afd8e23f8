//! A disk with a volatile write cache: what was written and not flushed is lost at a cut.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use rustix::fs::{FallocateFlags, fallocate};

/// Bytes a sector: what a disk writes whole or not at all.
pub const SECTOR: usize = 512;
/// A real disk's cache is bounded, and it makes room when it is full: 32 MiB.
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
    cuts: u64,
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
            cuts: 0,
        })
    }

    /// Its size, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How often the power has gone.
    pub fn cuts(&self) -> u64 {
        self.cuts
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
        let first = self.sectors(offset, buffer.len() as u64)?;
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
        let first = self.sectors(offset, data.len() as u64)?;
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

    /// Makes a range read as zeros. It goes past the cache, as a disk may write anything at any time:
    /// a file system in the making zeroes more than a cache holds.
    pub fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.writable()?;
        let first = self.sectors(offset, length)?;
        let last = first + length / SECTOR as u64;
        let mut behind = self.cache.split_off(&first).split_off(&last);
        self.cache.append(&mut behind);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if length > 0 {
            fallocate(&self.file, flags, offset, length)?;
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
        self.cuts += 1;
        let mut lost = 0;
        while let Some((sector, data)) = self.cache.pop_first() {
            let survives = match cut {
                Cut::Drop => false,
                Cut::Torn(seed) => coin(seed, sector),
            };
            if survives {
                self.file.write_all_at(&data[..], sector * SECTOR as u64)?;
            } else {
                lost += 1;
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

    fn sectors(&self, offset: u64, length: u64) -> io::Result<u64> {
        let sector = SECTOR as u64;
        let whole = offset.is_multiple_of(sector) && length.is_multiple_of(sector);
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.bytes);
        if whole && inside {
            Ok(offset / sector)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

/// A fair coin for each sector, the same for the same seed: the finalizer of `SplitMix64` (Steele, Lea,
/// Flood 2014), which makes neighbouring numbers independent.
fn coin(seed: u64, sector: u64) -> bool {
    let mut bits = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(sector.wrapping_mul(0xd1b5_4a32_d192_ed03));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits >> 63 == 1
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        /// Which of 64 written sectors a cut keeps.
        fn kept(seed: u64) -> Vec<bool> {
            let folder = tempfile::tempdir().expect("made");
            let mut disk = disk(folder.path());
            disk.write(0, &vec![7; 64 * SECTOR]).expect("written");
            let lost = disk.cut(Cut::Torn(seed)).expect("cut");
            let mut all = vec![0; 64 * SECTOR];
            disk.read(0, &mut all).expect("read");
            let kept: Vec<bool> = all
                .chunks(SECTOR)
                .map(|sector| {
                    assert!(sector.iter().all(|byte| *byte == sector[0]), "torn inside");
                    sector[0] == 7
                })
                .collect();
            assert_eq!(kept.iter().filter(|kept| !**kept).count(), lost);
            kept
        }
        let mut patterns = BTreeSet::new();
        for seed in 0..64 {
            let once = kept(seed);
            let count = once.iter().filter(|kept| **kept).count();
            assert!(
                (12..=52).contains(&count),
                "seed {seed}: {count} of 64 kept"
            );
            assert!(once == kept(seed), "seed {seed} is not repeatable");
            patterns.insert(once);
        }
        assert_eq!(patterns.len(), 64, "different seeds tear differently");
    }

    #[test]
    fn zeroed_ranges_read_as_zeros_whatever_was_cached() {
        let folder = tempfile::tempdir().expect("made");
        let mut disk = disk(folder.path());
        disk.write(0, &[7; 2 * PAGE]).expect("written");
        disk.flush().expect("flushed");
        disk.write(0, &[8; 2 * PAGE]).expect("written");
        disk.zero(0, PAGE as u64).expect("zeroed");
        assert_eq!((page(&disk, 0)[0], page(&disk, 4096)[0]), (0, 8));
        disk.cut(Cut::Drop).expect("cut");
        assert_eq!((page(&disk, 0)[0], page(&disk, 4096)[0]), (0, 7));
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
