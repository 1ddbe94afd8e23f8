//! The "newc" cpio archive that the kernel unpacks as its initial root.
//!
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use std::io::{self, Write};

const MAGIC: &[u8] = b"070701";
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";

/// What an entry is, apart from its name and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link; the entry's content is its target.
    Link,
    /// A character device with its major and minor number.
    CharacterDevice(u32, u32),
    /// Anything else that the format can express.
    Other,
}

impl Kind {
    const fn mode(self) -> u32 {
        match self {
            Self::Folder => 0o040_000,
            Self::File => 0o100_000,
            Self::Link => 0o120_000,
            Self::CharacterDevice(..) => 0o020_000,
            Self::Other => 0,
        }
    }
}

/// Writes entries that depend on nothing but their name, kind, permissions and content: user and
/// group 0, one link, a fixed time, and inode numbers that count up.
pub struct Writer<W> {
    output: W,
    time: u32,
    inode: u32,
    position: u64,
}

impl<W: Write> Writer<W> {
    /// Starts an archive whose entries all have this time (Unix seconds).
    pub const fn new(output: W, time: u32) -> Self {
        Self {
            output,
            time,
            inode: 0,
            position: 0,
        }
    }

    /// Adds an entry; `name` has no leading slash and comes after its folder.
    pub fn add(
        &mut self,
        name: &str,
        kind: Kind,
        permissions: u32,
        content: &[u8],
    ) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name}: a cpio entry holds less than 4 GiB"),
            )
        })?;
        self.inode += 1;
        self.entry(name, kind, kind.mode() | permissions, self.inode, length)?;
        self.put(content)?;
        self.pad()
    }

    /// Ends the archive and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.time = 0;
        self.entry(TRAILER, Kind::Other, 0, 0, 0)?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn entry(
        &mut self,
        name: &str,
        kind: Kind,
        mode: u32,
        inode: u32,
        length: u32,
    ) -> io::Result<()> {
        let (major, minor) = match kind {
            Kind::CharacterDevice(major, minor) => (major, minor),
            _ => (0, 0),
        };
        let name_length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let fields = [
            inode,
            mode,
            0,
            0,
            1,
            self.time,
            length,
            0,
            0,
            major,
            minor,
            name_length,
            0,
        ];
        self.put(MAGIC)?;
        for field in fields {
            self.put(format!("{field:08X}").as_bytes())?;
        }
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.position.next_multiple_of(4) - self.position;
        let zeros = [0; 3];
        self.put(&zeros[..usize::try_from(missing).map_err(io::Error::other)?])
    }
}

/// One entry of an archive that is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// As stored, without a leading slash.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub permissions: u32,
    /// A file's bytes or a link's target.
    pub content: &'a [u8],
}

/// Why bytes are no uncompressed newc archive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The six bytes that start each entry are others.
    #[error("no newc entry at byte {offset}")]
    Magic {
        /// Where the entry should start.
        offset: usize,
    },
    /// The archive ends within an entry.
    #[error("the archive ends within the entry at byte {offset}")]
    Truncated {
        /// Where the entry starts.
        offset: usize,
    },
    /// A number or a name is malformed.
    #[error("a malformed header at byte {offset}")]
    Header {
        /// Where the entry starts.
        offset: usize,
    },
}

/// Reads an uncompressed newc archive; returns its entries, and how many bytes it has.
pub fn read(archive: &[u8]) -> Result<(Vec<Entry<'_>>, usize), Error> {
    let mut entries = Vec::new();
    let mut offset = 0;
    loop {
        let truncated = Error::Truncated { offset };
        let malformed = || Error::Header { offset };
        let header = archive.get(offset..offset + HEADER).ok_or(truncated)?;
        if !header.starts_with(MAGIC) {
            return Err(Error::Magic { offset });
        }
        let field = |index: usize| {
            let start = MAGIC.len() + index * 8;
            std::str::from_utf8(&header[start..start + 8])
                .ok()
                .and_then(|text| u32::from_str_radix(text, 16).ok())
                .ok_or_else(malformed)
        };
        let (mode, length) = (field(1)?, field(6)? as usize);
        let name_start = offset + HEADER;
        let name_end = name_start + field(11)? as usize;
        let name = archive
            .get(name_start..name_end)
            .ok_or(Error::Truncated { offset })?
            .strip_suffix(&[0])
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or_else(malformed)?;
        if name == TRAILER {
            return Ok((entries, name_end.next_multiple_of(4).min(archive.len())));
        }
        let start = name_end.next_multiple_of(4);
        let content = archive
            .get(start..start + length)
            .ok_or(Error::Truncated { offset })?;
        let kind = match mode & 0o170_000 {
            0o040_000 => Kind::Folder,
            0o100_000 => Kind::File,
            0o120_000 => Kind::Link,
            0o020_000 => Kind::CharacterDevice(field(9)?, field(10)?),
            _ => Kind::Other,
        };
        entries.push(Entry {
            name,
            kind,
            permissions: mode & 0o7777,
            content,
        });
        offset = (start + length).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 1_700_000_000);
        writer
            .add("dev", Kind::Folder, 0o755, b"")
            .expect("writing");
        writer
            .add("dev/console", Kind::CharacterDevice(5, 1), 0o600, b"")
            .expect("writing");
        writer
            .add("init", Kind::File, 0o755, b"12345")
            .expect("writing");
        writer
            .add("link", Kind::Link, 0o777, b"init")
            .expect("writing");
        writer.finish().expect("finishing")
    }

    #[test]
    fn what_is_written_is_read() {
        let archive = sample();
        let (entries, length) = read(&archive).expect("reading");
        assert_eq!(length, archive.len());
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["dev", "dev/console", "init", "link"]);
        assert_eq!(entries[1].kind, Kind::CharacterDevice(5, 1));
        assert_eq!(entries[2].content, b"12345");
        assert_eq!(entries[2].permissions, 0o755);
        assert_eq!(entries[3].kind, Kind::Link);
    }

    #[test]
    fn damage_is_reported_with_its_place() {
        let archive = sample();
        assert_eq!(read(b"070707"), Err(Error::Truncated { offset: 0 }));
        assert_eq!(read(&archive[..200]), Err(Error::Truncated { offset: 116 }));
        let mut broken = archive.clone();
        broken[0] = b'1';
        assert_eq!(read(&broken), Err(Error::Magic { offset: 0 }));
        let mut broken = archive;
        broken[6] = b'x';
        broken[14] = b'x';
        assert_eq!(read(&broken), Err(Error::Header { offset: 0 }));
    }

    /// The judge is the implementation that the kernel's developers use.
    #[test]
    fn gnu_cpio_reads_it_where_it_is_installed() {
        use std::process::{Command, Stdio};
        let Ok(mut child) = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            return;
        };
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(&sample()).expect("writing");
        drop(input);
        let output = child.wait_with_output().expect("waiting");
        let listing = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success());
        assert_eq!(listing.lines().count(), 4, "{listing}");
        assert!(listing.contains("crw-------"), "{listing}");
        assert!(listing.contains("link -> init"), "{listing}");
    }
}
