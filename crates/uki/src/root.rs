//! Where an image has its root file system: in its section `.initrd`, of which the first archive is stored as it is
//! (cpio's "newc", Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{Read, Seek, SeekFrom};

use crate::ImageError;
use crate::release::sections;

/// Its name in the archive.
const NAME: &[u8] = b"root.erofs";
/// Of an entry of the archive.
const HEADER: usize = 110;
/// No name of ours is longer.
const LONGEST_NAME: u64 = 4096;
/// There are few entries before it.
const MOST_ENTRIES: usize = 64;

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the file's beginning.
    pub begin: u64,
    /// How many.
    pub bytes: u64,
}

/// Finds the root file system in an image.
pub fn find<R: Read + Seek>(image: &mut R) -> Result<Place, ImageError> {
    let all = sections(image)?;
    let initrd = all.iter().find(|section| section.name == ".initrd");
    let initrd = initrd.ok_or(ImageError::Missing(".initrd"))?.place;
    let end = initrd.begin + initrd.bytes;
    let mut at = initrd.begin;
    for _ in 0..MOST_ENTRIES {
        let mut header = [0; HEADER];
        image.seek(SeekFrom::Start(at))?;
        image.read_exact(&mut header)?;
        let field = |number: usize| {
            let digits = header.get(6 + 8 * number..14 + 8 * number)?;
            u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        // c_filesize and c_namesize.
        let (Some(bytes), Some(name_bytes)) = (field(6), field(11)) else {
            break;
        };
        if &header[..6] != b"070701" || name_bytes > LONGEST_NAME {
            break;
        }
        let mut name = Vec::new();
        image.by_ref().take(name_bytes).read_to_end(&mut name)?;
        // Both names and contents end at a multiple of four, counted from the archive's beginning.
        let aligned = |offset: u64| initrd.begin + (offset - initrd.begin).next_multiple_of(4);
        let begin = aligned(at + HEADER as u64 + name_bytes);
        let place = Place { begin, bytes };
        if begin + bytes > end {
            break;
        }
        if name.strip_suffix(b"\0") == Some(NAME) {
            return Ok(place);
        }
        at = aligned(begin + bytes);
    }
    Err(ImageError::Missing("root.erofs"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::Release;
    use crate::example::program;
    use crate::pe::{NewSection, with_sections};

    /// An archive's entry.
    pub(crate) fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let fields = [
            1,
            0o100_644,
            0,
            0,
            1,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        let mut entry = b"070701".to_vec();
        for field in fields {
            entry.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        entry.extend_from_slice(name.as_bytes());
        entry.push(0);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry.extend_from_slice(content);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry
    }

    fn image(initrd: &[u8]) -> Cursor<Vec<u8>> {
        let release = Release {
            version: "0.1.0".to_owned(),
            image: "0d7b1c2e-0000-4000-8000-000000000001".to_owned(),
            kubernetes: "v1.36.3".to_owned(),
            etcd: "3.6.16".to_owned(),
        };
        let text = release.text();
        let added = [
            NewSection::new(".osrel", text.as_bytes()),
            NewSection::new(".initrd", initrd),
        ];
        Cursor::new(with_sections(&program(), &added).expect("room"))
    }

    #[test]
    fn the_root_is_found_behind_other_entries() {
        let root = b"an odd number of bytes.".as_slice();
        for before in [
            vec![],
            [entry("etc", b""), entry("init", b"12345")].concat(),
        ] {
            let archive = [&before, &*entry("root.erofs", root), b"\x28\xb5\x2f\xfd"].concat();
            let mut image = image(&archive);
            let Place { begin, bytes } = find(&mut image).expect("there");
            let mut found = Vec::new();
            image.seek(SeekFrom::Start(begin)).expect("there");
            image.take(bytes).read_to_end(&mut found).expect("read");
            assert_eq!(found, root);
        }
    }

    #[test]
    fn what_is_no_archive_or_leads_out_of_it_has_none() {
        let mut long = entry("root.erofs", b"four");
        long[6 + 8 * 6..14 + 8 * 6].copy_from_slice(b"7fffffff");
        let mut named = entry("root.erofs", b"four");
        named[6 + 8 * 11..14 + 8 * 11].copy_from_slice(b"7fffffff");
        for bad in [&*entry("other", b"four"), &long, &named, &[b'x'; 200]] {
            assert!(find(&mut image(bad)).is_err());
        }
    }
}
