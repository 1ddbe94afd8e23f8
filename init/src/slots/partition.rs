//! The EFI system partition's device.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use masthead_disk_layout::Storage;
use rustix::fs::{Advice, fadvise};

/// The device, opened for ourselves alone. What was waited for is read from the disk again, and not from memory.
#[derive(Debug)]
pub(super) struct SystemPartition(File);

impl SystemPartition {
    /// `O_EXCL` on a block device fails with `EBUSY` while it is mounted or held by another driver (open(2)).
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(path)?;
        Ok(Self(file))
    }
}

impl Read for SystemPartition {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for SystemPartition {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for SystemPartition {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Storage for SystemPartition {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()?;
        // The whole of it: what is clean leaves the kernel's memory.
        Ok(fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }
}
