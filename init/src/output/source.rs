//! The file on tmpfs to which a service appends.
//!
//! Its offsets are those of the stream: it is only ever appended to, and holes are punched only at its
//! front. So the first byte that is there tells what was punched, also to a follower that has
//! just been started, and a reader knows that what it read was no hole if the first byte is still
//! there afterwards.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom, fallocate, flock, seek};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::descriptor;

/// Holes have the granularity of pages.
const PAGE: u64 = 4096;

/// The file. Whoever copies from it holds its lock, so that there is only one.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    /// Up to where it was punched already: to do it again would count as a change of the file.
    punched: AtomicU64,
}

/// What is at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This many bytes were read; none at the end of the stream.
    Bytes(usize),
    /// A hole, up to this offset.
    Hole(u64),
}

impl Source {
    /// Opens the file to follow it, and makes it if need be.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            file,
            punched: AtomicU64::new(0),
        })
    }

    /// Takes the right to copy, and says whether it could be had. It is free again only when nobody has a
    /// write under way any more, not even a dead supervisor's last one to a stalled disk: before, nobody
    /// could say how far the copy got. To take it again is nothing.
    pub(super) fn lock(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file to read it only.
    pub(super) fn open_for_reading(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            punched: AtomicU64::new(0),
        })
    }

    /// The end of the stream.
    pub(super) fn end(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Bytes of memory that it occupies.
    pub(super) fn occupied(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// The offset of the first byte at or after `offset` that is no hole; the end if there is none.
    pub(super) fn next_data(&self, offset: u64) -> io::Result<u64> {
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => Ok(start),
            Err(Errno::NXIO) => Ok(self.end()?.max(offset)),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads at an offset, as much as is there and as fits.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Found> {
        let length = self.file.read_at(buffer, offset)?;
        if length == 0 {
            return Ok(Found::Bytes(0));
        }
        // Holes come from the front: if the first byte is still there, all others are, too.
        Ok(match self.next_data(offset)? {
            start if start == offset => Found::Bytes(length),
            start => Found::Hole(start),
        })
    }

    /// Gives back the memory of everything before `offset`, as far as whole pages go. Never changes
    /// the end.
    pub(super) fn punch(&self, offset: u64) -> io::Result<()> {
        let end = offset - offset % PAGE;
        if end > self.punched.fetch_max(end, Ordering::Relaxed) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&self.file, flags, 0, end)?;
        }
        Ok(())
    }

    /// Moves the end forward, so that what comes next has offsets of its own. Only for a service that
    /// has truncated its output.
    pub(super) fn extend(&self, end: u64) -> io::Result<()> {
        self.file.set_len(end)
    }
}

/// Notices writes to a file.
#[derive(Debug)]
pub(super) struct Changes {
    inotify: AsyncFd<OwnedFd>,
}

impl Changes {
    /// Must be called on the runtime.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, path, WatchFlags::MODIFY)?;
        Ok(Self {
            inotify: descriptor::watch(inotify, Interest::READABLE)?,
        })
    }

    /// Returns after any number of changes since the last call. Safe to cancel.
    pub(super) async fn next(&self) -> io::Result<()> {
        // The kernel merges equal events, of which there is only one kind: 16 bytes each.
        let mut events = [0; 1024];
        loop {
            let mut ready = self.inotify.readable().await?;
            match rustix::io::read(ready.get_inner(), &mut events) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
