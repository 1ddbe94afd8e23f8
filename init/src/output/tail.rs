//! Reading output back: from memory first, then from disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Config;
use super::segments::{self, Content, Segment};
use super::source::{Found, Source};

/// Most bytes that are read for the last lines.
const MOST: usize = 1 << 20;

/// The end of a stream as far as it is in memory.
#[derive(Debug, Default)]
pub(super) struct InMemory {
    /// Position of the first byte.
    pub(super) start: u64,
    /// The bytes.
    pub(super) bytes: Vec<u8>,
}

impl InMemory {
    /// Position after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Reads the last bytes that are in memory, at most 1 MiB. Does not touch a disk.
pub(super) fn in_memory(config: &Config) -> io::Result<InMemory> {
    let source = Source::open_for_reading(&config.source)?;
    let mut start = source.end()?.saturating_sub(MOST as u64);
    let mut bytes = vec![0; MOST];
    loop {
        match source.read(start, &mut bytes)? {
            Found::Hole(next) => start = next,
            Found::Bytes(length) => {
                bytes.truncate(length);
                return Ok(InMemory { start, bytes });
            }
        }
    }
}

/// Reads from disk what comes before a position of this boot's stream, and from the boots before, until
/// there are enough lines. May block as long as the disk does.
pub(super) fn on_disk(config: &Config, before: u64, lines: usize) -> io::Result<Vec<u8>> {
    let boot = segments::read_boot_number(&config.boot_number).unwrap_or(u64::MAX);
    // From the newest to the oldest; turned around at the end.
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let (mut size, mut found) = (0, 0);
    let mut later_boot = boot;
    for segment in segments::list(&config.segments)?.into_iter().rev() {
        if found > lines || size >= MOST {
            break;
        }
        let end = if segment.boot == boot {
            before
        } else {
            u64::MAX
        };
        let mut bytes = last_bytes(config, &segment, end, MOST - size)?;
        // A power cut may have cut off the last line of a boot.
        if segment.boot != later_boot && bytes.last().is_some_and(|&last| last != b'\n') {
            bytes.push(b'\n');
        }
        later_boot = segment.boot;
        size += bytes.len();
        found += count_lines(&bytes);
        parts.push(bytes);
    }
    parts.reverse();
    Ok(parts.concat())
}

/// The last bytes of a segment before a position, at most `most`.
fn last_bytes(config: &Config, segment: &Segment, end: u64, most: usize) -> io::Result<Vec<u8>> {
    let file = File::open(config.segments.join(segment.file_name()))?;
    let length = match segment.content {
        Content::Bytes(length) => length.min(end.saturating_sub(segment.offset)),
        Content::Lost(_) if segment.offset < end => file.metadata()?.len(),
        Content::Lost(_) => 0,
    };
    let start = length.saturating_sub(most as u64);
    let mut bytes = vec![0; usize::try_from(length - start).unwrap_or(most)];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// What is on disk at a position of this boot's stream.
#[derive(Debug)]
pub(super) struct Stored {
    /// The bytes; the line that stands for them where they are lost. Empty if the position is not on disk.
    pub(super) bytes: Vec<u8>,
    /// The position after them.
    pub(super) next: u64,
}

/// Reads from disk at a position, at most `most` bytes. What is not there is stepped over, up to what is.
/// May block as long as the disk does.
pub(super) fn stored_at(config: &Config, position: u64, most: usize) -> io::Result<Stored> {
    let boot = segments::read_boot_number(&config.boot_number).unwrap_or(u64::MAX);
    let segment = segments::list(&config.segments)?
        .into_iter()
        .find(|segment| segment.boot == boot && segment.end() > position);
    let Some(segment) = segment else {
        return Ok(Stored {
            bytes: Vec::new(),
            next: position,
        });
    };
    let file = File::open(config.segments.join(segment.file_name()))?;
    let position = position.max(segment.offset);
    let mut bytes = vec![0; most];
    if let Content::Lost(_) = segment.content {
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        return Ok(Stored {
            bytes,
            next: segment.end(),
        });
    }
    let length = file.read_at(&mut bytes, position - segment.offset)?;
    bytes.truncate(length);
    Ok(Stored {
        bytes,
        next: position + length as u64,
    })
}

/// The last lines of some output, with their line ends; a line without one counts, too.
pub(super) fn last_lines(bytes: &[u8], lines: usize) -> &[u8] {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let Some(skipped) = lines.checked_sub(1) else {
        return &[];
    };
    let line_ends = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n');
    let start = line_ends
        .map(|(index, _)| index + 1)
        .nth(skipped)
        .unwrap_or(0);
    &bytes[start..]
}

/// How many lines end in some output.
pub(super) fn count_lines(bytes: &[u8]) -> usize {
    bytes.split(|&byte| byte == b'\n').count() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole() {
        for (text, lines, expected) in [
            ("", 3, ""),
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\n\n\n", 2, "\n\n"),
        ] {
            let found = last_lines(text.as_bytes(), lines);
            assert_eq!(found, expected.as_bytes(), "{text:?}, {lines}");
        }
    }
}
