//! What a disk holds: blank, ours, foreign, or unknown because it could not be read.

use std::io::{self, Read, Seek, SeekFrom};

use crate::signatures::{At, SIGNATURES};
use crate::table::{Found, Table, TableError};

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Read without error, and nothing there.
    Blank,
    /// A table of ours.
    Ours(Table),
    /// Anything else: never written without the seed's `wipe`.
    Foreign(Vec<Finding>),
    /// It could not be read, so nothing is known: never written, whatever the seed says.
    Unknown {
        /// The operating system's word on why.
        why: String,
    },
}

/// Something found on a disk, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding(pub String);

/// How much of the beginning and the end is looked at beyond the known magic numbers. Data without a
/// known mark (an encrypted volume without a header, a disk shifted by a controller) shows here.
const EDGE_BYTES: u64 = 1 << 20;

/// Looks at a disk. Never fails: what cannot be read is [`Contents::Unknown`].
pub fn inspect<R: Read + Seek + ?Sized>(disk: &mut R) -> Contents {
    match try_inspect(disk) {
        Ok(contents) => contents,
        Err(why) => Contents::Unknown {
            why: why.to_string(),
        },
    }
}

fn try_inspect<R: Read + Seek + ?Sized>(disk: &mut R) -> io::Result<Contents> {
    let found = match Table::read(disk) {
        Ok(found) => found,
        Err(TableError::Io(error)) => return Err(error),
        Err(TableError::Encode(error)) => return Err(io::Error::other(error.to_string())),
    };
    if let Found::Ours(table) = found {
        return Ok(Contents::Ours(table));
    }
    let mut findings = Vec::new();
    match found {
        Found::Foreign(names) => findings.push(Finding(describe_partitions(&names))),
        Found::Damaged => findings.push(Finding("a damaged GPT partition table".to_owned())),
        Found::None | Found::Ours(_) => {}
    }
    let bytes = disk.seek(SeekFrom::End(0))?;
    for signature in SIGNATURES {
        let offset = match signature.at {
            At::Start(offset) => offset,
            At::End(distance) => bytes.saturating_sub(distance),
        };
        let finding = Finding(signature.name.to_owned());
        // The partition table was told above, by what is in it, and every table has such an MBR.
        let told = !findings.is_empty() && signature.name.contains("partition table");
        if !told && has_magic(disk, bytes, offset, signature.magic)? && !findings.contains(&finding)
        {
            findings.push(finding);
        }
    }
    // Read both edges even where something was found: a read error must not pass for a finding.
    let edges = [0, bytes.saturating_sub(EDGE_BYTES)];
    let mut data_at = None;
    for edge in edges {
        if let Some(offset) = first_data(disk, edge, EDGE_BYTES.min(bytes))? {
            data_at = data_at.or(Some(offset));
        }
    }
    if let (Some(offset), true) = (data_at, findings.is_empty()) {
        findings.push(Finding(format!(
            "data of no known kind, from byte {offset}"
        )));
    }
    Ok(if findings.is_empty() {
        Contents::Blank
    } else {
        Contents::Foreign(findings)
    })
}

fn describe_partitions(names: &[String]) -> String {
    let named: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| match name.as_str() {
            "" => format!("{} (no name)", index + 1),
            name => format!("{} \"{name}\"", index + 1),
        })
        .collect();
    match named.len() {
        0 => "a GPT partition table without partitions".to_owned(),
        count => format!(
            "a GPT partition table with {count} partitions: {}",
            named.join(", ")
        ),
    }
}

fn has_magic<R: Read + Seek + ?Sized>(
    disk: &mut R,
    bytes: u64,
    offset: u64,
    magic: &[u8],
) -> io::Result<bool> {
    if offset + magic.len() as u64 > bytes {
        return Ok(false);
    }
    let mut found = vec![0; magic.len()];
    disk.seek(SeekFrom::Start(offset))?;
    disk.read_exact(&mut found)?;
    Ok(found == magic)
}

/// The first byte in a range that is neither 0x00 nor 0xff (erased flash reads as ones).
fn first_data<R: Read + Seek + ?Sized>(
    disk: &mut R,
    from: u64,
    length: u64,
) -> io::Result<Option<u64>> {
    disk.seek(SeekFrom::Start(from))?;
    let mut buffer = vec![0; 64 << 10];
    let mut at = from;
    let mut left = length;
    while left > 0 {
        let part = usize::try_from(left)
            .unwrap_or(buffer.len())
            .min(buffer.len());
        disk.read_exact(&mut buffer[..part])?;
        if let Some(index) = buffer[..part]
            .iter()
            .position(|byte| *byte != 0 && *byte != 0xff)
        {
            return Ok(Some(at + index as u64));
        }
        at += part as u64;
        left -= part as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const SIZE: usize = 8 << 20;

    #[test]
    fn zeros_and_erased_flash_are_blank() {
        assert_eq!(inspect(&mut Cursor::new(vec![0; SIZE])), Contents::Blank);
        assert_eq!(inspect(&mut Cursor::new(vec![0xff; SIZE])), Contents::Blank);
    }

    #[test]
    fn every_signature_is_found_by_name_and_its_neighbour_is_not() {
        for signature in SIGNATURES {
            let offset = match signature.at {
                At::Start(offset) => usize::try_from(offset).expect("fits"),
                At::End(distance) => SIZE - usize::try_from(distance).expect("fits"),
            };
            let mut disk = vec![0; SIZE];
            disk[offset..offset + signature.magic.len()].copy_from_slice(signature.magic);
            let Contents::Foreign(findings) = inspect(&mut Cursor::new(disk.clone())) else {
                panic!("{} was not found", signature.name)
            };
            // A damaged GPT is told as such, and a few formats share a place and a mark.
            assert!(
                findings.iter().any(|finding| finding.0 == signature.name
                    || finding.0.contains("damaged GPT") && signature.name.contains("GPT")),
                "{}: {findings:?}",
                signature.name
            );
            let last = signature.magic.len() - 1;
            disk[offset + last] ^= 0x10;
            let Contents::Foreign(findings) = inspect(&mut Cursor::new(disk)) else {
                continue;
            };
            assert!(
                findings.iter().all(|finding| finding.0 != signature.name),
                "{} was found without its mark",
                signature.name
            );
        }
    }

    #[test]
    fn data_without_a_mark_is_foreign_at_both_edges() {
        for offset in [0, 4242, (1 << 20) - 1, SIZE - (1 << 20), SIZE - 1] {
            let mut disk = vec![0; SIZE];
            disk[offset] = 7;
            assert_eq!(
                inspect(&mut Cursor::new(disk)),
                Contents::Foreign(vec![Finding(format!(
                    "data of no known kind, from byte {offset}"
                ))])
            );
        }
    }

    #[test]
    fn a_tiny_disk_is_looked_at_whole() {
        assert_eq!(inspect(&mut Cursor::new(vec![0; 4096])), Contents::Blank);
        let mut disk = vec![0; 4096];
        disk[4095] = 1;
        assert!(matches!(
            inspect(&mut Cursor::new(disk)),
            Contents::Foreign(_)
        ));
    }

    /// A disk with a bad place.
    struct Broken {
        inner: Cursor<Vec<u8>>,
        bad: u64,
    }

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let position = self.inner.position();
            if (position..position + buffer.len() as u64).contains(&self.bad) {
                return Err(io::Error::other("Input/output error"));
            }
            self.inner.read(buffer)
        }
    }

    impl Seek for Broken {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.inner.seek(to)
        }
    }

    #[test]
    fn a_disk_that_cannot_be_read_is_unknown_never_blank() {
        for bad in [0, 512, 1080, 500_000, SIZE as u64 - 512, SIZE as u64 - 1] {
            let mut disk = Broken {
                inner: Cursor::new(vec![0; SIZE]),
                bad,
            };
            assert_eq!(
                inspect(&mut disk),
                Contents::Unknown {
                    why: "Input/output error".to_owned()
                },
                "bad byte {bad}"
            );
        }
        let mut elsewhere = Broken {
            inner: Cursor::new(vec![0; SIZE]),
            bad: 4 << 20,
        };
        assert_eq!(inspect(&mut elsewhere), Contents::Blank);
    }
}
