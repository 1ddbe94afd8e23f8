//! A block device, a whole disk or a partition, as its bytes are written to.
#![expect(
    unsafe_code,
    reason = "re-reading a partition table is an ioctl that no safe crate offers"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use masthead_disk_layout::Storage;
use rustix::fs::{Advice, fadvise};

nix::ioctl_none!(
    /// `BLKRRPART`, linux/fs.h.
    reread_partition_table, 0x12, 95
);

/// The device, opened for ourselves alone. What was waited for is read from the disk again, and not from memory.
#[derive(Debug)]
pub(crate) struct Device(File);

impl Device {
    /// Opens it for writing. `O_EXCL` on a block device fails with `EBUSY` while anything on it is
    /// mounted or held by another driver (open(2)).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(path)?;
        Ok(Self(file))
    }

    /// Opens a whole disk of which partitions are in use, to write where none of them is.
    pub(crate) fn open_beside_partitions(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(file))
    }

    /// Has the kernel read the partition table anew; the partitions' nodes exist when it returns.
    pub(super) fn reread_partitions(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open for as long as `self` lives, and BLKRRPART takes no argument.
        unsafe { reread_partition_table(self.0.as_raw_fd()) }?;
        Ok(())
    }
}

impl Read for Device {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Device {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Device {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Storage for Device {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()?;
        // The whole of it: what is clean leaves the kernel's memory.
        Ok(fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }
}
