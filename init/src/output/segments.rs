//! Segments of a stream on disk: `BOOT-OFFSET.log`.
//!
//! OFFSET is the position in the stream of the segment's first byte, so that the end of the newest
//! segment *is* the record of how far the copy got. Where bytes were lost before they could be
//! copied, `BOOT-OFFSET-lost-BYTES.log` takes their place, with one line that says so. Sorted by
//! name, all files of a service make its output.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Bounds, Cause};

/// How many files a service may have; boots in a row make small ones.
const MOST_FILES: usize = 64;

/// One file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// The number of the boot.
    pub(super) boot: u64,
    /// Position of its first byte in the stream of that boot.
    pub(super) offset: u64,
    /// What it stands for.
    pub(super) content: Content,
}

/// What a file stands for. In the order in which two at the same offset were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// This many bytes of the stream, which it holds.
    Bytes(u64),
    /// This many bytes of the stream, which are lost.
    Lost(u64),
}

/// Why output is not stored, without the time.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) detail: String,
}

impl Segment {
    /// The name of its file. Numbers are padded, so that names sort like the stream.
    pub(super) fn file_name(&self) -> String {
        let Self {
            boot,
            offset,
            content,
        } = self;
        match content {
            Content::Bytes(_) => format!("{boot:06}-{offset:020}.log"),
            Content::Lost(bytes) => format!("{boot:06}-{offset:020}-lost-{bytes}.log"),
        }
    }

    fn parse(name: &str, length: u64) -> Option<Self> {
        let mut parts = name.strip_suffix(".log")?.split('-');
        let mut number = || parts.next()?.parse().ok();
        let (boot, offset) = (number()?, number()?);
        let content = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => Content::Bytes(length),
            (Some("lost"), Some(bytes), None) => Content::Lost(bytes.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            boot,
            offset,
            content,
        })
    }

    /// Bytes of the stream that it stands for.
    fn length(&self) -> u64 {
        let (Content::Bytes(bytes) | Content::Lost(bytes)) = self.content;
        bytes
    }

    /// Position in the stream after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.length())
    }

    /// Bytes of disk that it is counted with.
    fn size(&self) -> u64 {
        match self.content {
            Content::Bytes(bytes) => bytes,
            Content::Lost(_) => 0,
        }
    }
}

/// The segments in a directory, oldest first. Files that are none are left out.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let length = entry.metadata()?.len();
        segments.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| Segment::parse(name, length)),
        );
    }
    segments.sort_unstable();
    Ok(segments)
}

/// The number of this boot: that in `record`, a file on a tmpfs; or one more than the highest in the
/// segments of all services, and then that is recorded.
pub(super) fn boot_number(record: &Path, segments: &Path) -> Result<u64, Failure> {
    if let Some(number) = read_boot_number(record) {
        return Ok(number);
    }
    let services = segments.parent().unwrap_or(segments);
    let failed = Failure::of("list", services);
    let mut last = 0;
    for entry in fs::read_dir(services).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if entry.file_type().map_err(&failed)?.is_dir() {
            let segments = list(&entry.path()).map_err(Failure::of("list", &entry.path()))?;
            last = segments
                .last()
                .map_or(last, |segment| segment.boot.max(last));
        }
    }
    // Several services may be here at once: the first one's number holds for all.
    let failed = Failure::of("record this boot's number in", record);
    let mut temporary = record.as_os_str().to_owned();
    temporary.push(".");
    temporary.push(segments.file_name().unwrap_or_default());
    let temporary = PathBuf::from(temporary);
    fs::write(&temporary, format!("{}\n", last + 1)).map_err(&failed)?;
    let linked = fs::hard_link(&temporary, record);
    fs::remove_file(&temporary).map_err(&failed)?;
    if let Err(error) = linked
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(failed(error));
    }
    read_boot_number(record).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

/// The number in the record, if there is one.
pub(super) fn read_boot_number(record: &Path) -> Option<u64> {
    fs::read_to_string(record).ok()?.trim().parse().ok()
}

/// Writes the segments of one service. After an error it is to be thrown away and opened again.
#[derive(Debug)]
pub(super) struct Writer {
    directory: PathBuf,
    boot: u64,
    bounds: Bounds,
    segments: Vec<Segment>,
    /// The newest segment, if it takes more.
    open: Option<File>,
    position: u64,
    lost: u64,
}

impl Writer {
    /// Finds out how far the copy got. Makes the directory and its parent, but nothing above: that
    /// is the disk.
    pub(super) fn open(directory: &Path, record: &Path, bounds: Bounds) -> Result<Self, Failure> {
        for directory in directory.parent().into_iter().chain([directory]) {
            match fs::DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.map_err(Failure::without_disk(directory))?,
            }
        }
        let room = rustix::fs::statvfs(directory)
            .map_err(|errno| Failure::of("measure", directory)(errno.into()))?;
        let bounds = bounds.on(room.f_blocks * room.f_frsize);
        let boot = boot_number(record, directory)?;
        let segments = list(directory).map_err(Failure::of("list", directory))?;
        let ours = || segments.iter().filter(|segment| segment.boot == boot);
        let position = ours().map(Segment::end).max().unwrap_or_default();
        let lost = ours().map(|segment| match segment.content {
            Content::Lost(bytes) => bytes,
            Content::Bytes(_) => 0,
        });
        let lost = lost.sum();
        let mut writer = Self {
            directory: directory.to_owned(),
            boot,
            bounds,
            open: None,
            position,
            lost,
            segments,
        };
        if let Some(&newest) = writer.segments.last()
            && newest.boot == boot
            && newest.end() == position
            && matches!(newest.content, Content::Bytes(length) if length < bounds.segment)
        {
            writer.open = Some(writer.open_file(&newest)?);
        }
        Ok(writer)
    }

    /// Up to where the stream is on disk.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of this boot's stream that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Writes bytes of the stream from [`position`](Self::position) on; returns how many of them, at
    /// least one if there are any.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut file = match self.open.take() {
            Some(file) => file,
            None => self.begin()?,
        };
        let newest = self
            .segments
            .last_mut()
            .expect("the open segment is listed");
        let room = self.bounds.segment.saturating_sub(newest.size());
        let (part, full) = part_for(bytes, usize::try_from(room).unwrap_or(usize::MAX));
        let path = || self.directory.join(newest.file_name());
        let written = file
            .write(part)
            .map_err(|error| Failure::of("write", &path())(error))?;
        newest.content = Content::Bytes(newest.size() + written as u64);
        self.position += written as u64;
        if !(full && written == part.len()) {
            self.open = Some(file);
        }
        Ok(written)
    }

    /// Notes that the next bytes of the stream are lost, and goes on after them. Adjoining losses
    /// become one.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), Failure> {
        let adjoining = self.segments.last().copied().filter(|newest| {
            let lost = matches!(newest.content, Content::Lost(_));
            lost && newest.boot == self.boot && newest.end() == self.position
        });
        if adjoining.is_none() {
            self.make_room()?;
        }
        let (offset, before) = adjoining.map_or((self.position, 0), |newest| {
            (newest.offset, newest.length())
        });
        let content = Content::Lost(before + bytes);
        let segment = Segment {
            boot: self.boot,
            offset,
            content,
        };
        let path = self.directory.join(segment.file_name());
        let text = format!(
            "masthead: {} bytes of output were lost here\n",
            before + bytes
        );
        // Only a disk with room for the line gets the name, which is what counts.
        let temporary = self.directory.join("lost.new");
        fs::write(&temporary, text).map_err(Failure::of("write", &path))?;
        if let Some(newest) = adjoining {
            let newest = self.directory.join(newest.file_name());
            fs::rename(&newest, &path).map_err(Failure::of("rename", &newest))?;
            self.segments.pop();
        }
        fs::rename(&temporary, &path).map_err(Failure::of("make", &path))?;
        self.segments.push(segment);
        self.open = None;
        self.position = segment.end();
        self.lost += bytes;
        Ok(())
    }

    /// Begins a new segment at the position.
    fn begin(&mut self) -> Result<File, Failure> {
        self.make_room()?;
        let segment = Segment {
            boot: self.boot,
            offset: self.position,
            content: Content::Bytes(0),
        };
        let file = self.open_file(&segment)?;
        if self.segments.last() != Some(&segment) {
            self.segments.push(segment);
        }
        Ok(file)
    }

    /// Removes the oldest files until a whole new segment has its place within the bounds. The newest
    /// stays in any case: it is the record of how far the copy got.
    fn make_room(&mut self) -> Result<(), Failure> {
        let mut size: u64 = self.segments.iter().map(Segment::size).sum();
        let mut surplus = 0;
        while surplus + 1 < self.segments.len()
            && (size + self.bounds.segment > self.bounds.disk
                || self.segments.len() - surplus >= MOST_FILES)
        {
            let oldest = self.segments[surplus];
            let path = self.directory.join(oldest.file_name());
            fs::remove_file(&path).map_err(Failure::of("remove", &path))?;
            size -= oldest.size();
            surplus += 1;
        }
        self.segments.drain(..surplus);
        Ok(())
    }

    fn open_file(&self, segment: &Segment) -> Result<File, Failure> {
        let path = self.directory.join(segment.file_name());
        let mut options = File::options();
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(Failure::of("open", &path))
    }
}

/// The first of the bytes that a segment with this room takes, and whether it is full then: it ends with a
/// line if it can.
fn part_for(bytes: &[u8], room: usize) -> (&[u8], bool) {
    if bytes.len() < room {
        return (bytes, false);
    }
    let part = &bytes[..room];
    let lines = part
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(part.len(), |at| at + 1);
    (&part[..lines], true)
}

impl Failure {
    pub(super) fn of(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self {
            cause: match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::DiskFull,
                io::ErrorKind::ReadOnlyFilesystem => Cause::DiskReadOnly,
                io::ErrorKind::NotFound => Cause::DiskAbsent,
                _ => Cause::DiskFailing,
            },
            detail: format!("cannot {action} `{}`: {error}", path.display()),
        }
    }

    /// A directory that cannot be made for want of a writable place means that no disk is mounted there: the root
    /// is read-only.
    fn without_disk(path: &Path) -> impl Fn(io::Error) -> Self {
        let of = Self::of("make", path);
        move |error| {
            let absent = error.kind() == io::ErrorKind::ReadOnlyFilesystem;
            let failure = of(error);
            if absent {
                Self {
                    cause: Cause::DiskAbsent,
                    ..failure
                }
            } else {
                failure
            }
        }
    }
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
