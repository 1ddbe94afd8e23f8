//! Portable Executable files with extra sections: unified kernel images.
//!
//! A unified kernel image is systemd's stub with sections that it looks for by name (UAPI.5). They
//! go above the stub's last section, each at a multiple of the stub's section alignment, as the
//! PE format demands; the header already has room for more section headers.

use object::LittleEndian as LE;
use object::pe::{IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ, ImageSectionHeader};
use object::read::pe::{ImageNtHeaders as _, ImageOptionalHeader as _, PeFile64};
use object::{U16Bytes, U32Bytes};

/// Why a file cannot be read or extended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no 64-bit PE file.
    #[error("not a 64-bit EFI program")]
    Parse(#[from] object::read::Error),
    /// The header has no room for another section.
    #[error("no room for {wanted} more section headers: the stub has room for {room}")]
    NoRoom {
        /// How many headers were to be added.
        wanted: usize,
        /// How many fit.
        room: usize,
    },
    /// A name is longer than the eight bytes that a PE section has.
    #[error("the section name {0} has more than eight characters")]
    LongName(String),
    /// The result would pass 4 GiB.
    #[error("the image would be larger than 4 GiB")]
    TooLarge,
}

/// A section to add.
pub struct NewSection<'a> {
    /// Its name, such as `.linux`.
    pub name: &'a str,
    /// Its bytes.
    pub content: &'a [u8],
    /// How many bytes of memory it takes; the kernel, which is started in place, needs more than
    /// it has bytes.
    pub memory: usize,
}

impl<'a> NewSection<'a> {
    /// One that takes as much memory as it has bytes.
    pub const fn new(name: &'a str, content: &'a [u8]) -> Self {
        Self {
            name,
            content,
            memory: content.len(),
        }
    }
}

/// A section that was read.
pub struct Section<'a> {
    /// Its name.
    pub name: String,
    /// Offset from the image base in memory, in bytes.
    pub address: u32,
    /// Its bytes, without the padding at the end.
    pub content: &'a [u8],
}

/// How many bytes a PE program (such as a kernel with EFI stub) takes in memory when it is loaded.
pub fn memory_size(program: &[u8]) -> Result<usize, Error> {
    let file = PeFile64::parse(program)?;
    Ok(file.nt_headers().optional_header().size_of_image() as usize)
}

/// Reads the sections of a PE file.
pub fn sections(program: &[u8]) -> Result<Vec<Section<'_>>, Error> {
    let file = PeFile64::parse(program)?;
    file.section_table()
        .iter()
        .map(|header| {
            let name = header.raw_name();
            let content = header.pe_data(program)?;
            let used = header.virtual_size.get(LE) as usize;
            Ok(Section {
                name: String::from_utf8_lossy(name).into_owned(),
                address: header.virtual_address.get(LE),
                content: &content[..content.len().min(used)],
            })
        })
        .collect()
}

/// The program with sections added in the given order.
pub fn with_sections(program: &[u8], added: &[NewSection<'_>]) -> Result<Vec<u8>, Error> {
    let file = PeFile64::parse(program)?;
    let headers = file.nt_headers();
    let optional = headers.optional_header();
    let file_alignment = optional.file_alignment() as usize;
    let section_alignment = optional.section_alignment() as usize;
    let existing = file.section_table();

    // The NT headers are a signature (4 bytes), the file header (20) and the optional header.
    let nt_offset = file.dos_header().nt_headers_offset() as usize;
    let optional_offset = nt_offset + 24;
    let table = optional_offset + headers.file_header().size_of_optional_header.get(LE) as usize;
    let first_free = table + existing.len() * size_of::<ImageSectionHeader>();
    let room = (optional.size_of_headers() as usize).saturating_sub(first_free)
        / size_of::<ImageSectionHeader>();
    if room < added.len() {
        return Err(Error::NoRoom {
            wanted: added.len(),
            room,
        });
    }

    let mut image = program.to_vec();
    let mut address = existing
        .iter()
        .map(|header| {
            header.virtual_address.get(LE) as usize + header.virtual_size.get(LE) as usize
        })
        .max()
        .unwrap_or(0)
        .next_multiple_of(section_alignment);
    for (index, section) in added.iter().enumerate() {
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        let position = image.len();
        image.extend_from_slice(section.content);
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        let memory = section.memory.max(section.content.len());
        let mut name = [0; 8];
        name.get_mut(..section.name.len())
            .ok_or_else(|| Error::LongName(section.name.to_owned()))?
            .copy_from_slice(section.name.as_bytes());
        let header = ImageSectionHeader {
            name,
            virtual_size: U32Bytes::new(LE, offset(memory)?),
            virtual_address: U32Bytes::new(LE, offset(address)?),
            size_of_raw_data: U32Bytes::new(LE, offset(image.len() - position)?),
            pointer_to_raw_data: U32Bytes::new(LE, offset(position)?),
            pointer_to_relocations: U32Bytes::new(LE, 0),
            pointer_to_linenumbers: U32Bytes::new(LE, 0),
            number_of_relocations: U16Bytes::new(LE, 0),
            number_of_linenumbers: U16Bytes::new(LE, 0),
            characteristics: U32Bytes::new(LE, IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ),
        };
        let slot = first_free + index * size_of::<ImageSectionHeader>();
        image[slot..slot + size_of::<ImageSectionHeader>()]
            .copy_from_slice(object::bytes_of(&header));
        address = (address + memory).next_multiple_of(section_alignment);
    }

    let count = u16::try_from(existing.len() + added.len()).map_err(|_| Error::TooLarge)?;
    image[nt_offset + 6..nt_offset + 8].copy_from_slice(&count.to_le_bytes());
    // Offsets within PE32+'s optional header: SizeOfImage 56, CheckSum 64 (0: not checked).
    let size_of_image = optional_offset + 56;
    image[size_of_image..size_of_image + 4].copy_from_slice(&offset(address)?.to_le_bytes());
    let checksum = optional_offset + 64;
    image[checksum..checksum + 4].fill(0);
    Ok(image)
}

/// The program as it was before the section of this name, and all that follow it in the file, were added.
pub fn without_sections_from(image: &[u8], name: &str) -> Result<Vec<u8>, Error> {
    let file = PeFile64::parse(image)?;
    let table = file.section_table();
    let kept = table
        .iter()
        .position(|header| header.raw_name() == name.as_bytes())
        .unwrap_or(table.len());
    let first_removed = table.iter().nth(kept);
    let end = first_removed.map_or(image.len(), |header| {
        header.pointer_to_raw_data.get(LE) as usize
    });
    let headers = file.nt_headers();
    let nt_offset = file.dos_header().nt_headers_offset() as usize;
    let optional_size = headers.file_header().size_of_optional_header.get(LE) as usize;
    let free = nt_offset + 24 + optional_size + kept * size_of::<ImageSectionHeader>();
    let removed = (table.len() - kept) * size_of::<ImageSectionHeader>();
    let mut program = image.get(..end).ok_or(Error::TooLarge)?.to_vec();
    program[free..free + removed].fill(0);
    let count = u16::try_from(kept).map_err(|_| Error::TooLarge)?;
    program[nt_offset + 6..nt_offset + 8].copy_from_slice(&count.to_le_bytes());
    Ok(program)
}

fn offset(value: usize) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::program;

    fn section<'a>(name: &'a str, content: &'a [u8], memory: usize) -> NewSection<'a> {
        NewSection {
            name,
            content,
            memory,
        }
    }

    #[test]
    fn sections_are_added_above_the_last_and_aligned() {
        let kernel = vec![7; 0x1800];
        let image = with_sections(
            &program(),
            &[
                section(".linux", &kernel, 0x5000),
                section(".cmdline", b"quiet", 0),
            ],
        )
        .expect("room for both");
        let found = sections(&image).expect("an image");
        let seen: Vec<_> = found
            .iter()
            .map(|section| {
                (
                    section.name.as_str(),
                    section.address,
                    section.content.len(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (".text", 0x1000, 5),
                (".linux", 0x2000, 0x1800),
                (".cmdline", 0x7000, 5)
            ]
        );
        assert_eq!(found[1].content, kernel);
        assert_eq!(found[2].content, b"quiet");
        assert_eq!(memory_size(&image).expect("an image"), 0x8000);
    }

    #[test]
    fn sections_that_were_added_are_taken_away_again() {
        let added = |line| {
            let both = [
                section(".linux", &[7; 0x1800], 0x5000),
                section(".cmdline", line, 0),
            ];
            with_sections(&program(), &both).expect("room for both")
        };
        let before = without_sections_from(&added(b"quiet"), ".linux").expect("an image");
        let names = sections(&before).expect("an image");
        assert_eq!(
            names.iter().map(|one| &*one.name).collect::<Vec<_>>(),
            [".text"]
        );
        let line = without_sections_from(&added(b"quiet"), ".cmdline").expect("an image");
        let again = with_sections(&line, &[section(".cmdline", b"loud", 0)]).expect("room");
        assert_eq!(again, added(b"loud"));
        let same = without_sections_from(&added(b"quiet"), ".none").expect("an image");
        assert_eq!(same, added(b"quiet"));
    }

    #[test]
    fn a_full_header_and_a_long_name_are_refused() {
        let many: Vec<_> = (0..20).map(|_| section(".x", b"", 0)).collect();
        let error = with_sections(&program(), &many)
            .map(drop)
            .expect_err("no room");
        assert_eq!(
            error.to_string(),
            "no room for 20 more section headers: the stub has room for 19"
        );
        let error = with_sections(&program(), &[section(".too-long", b"", 0)]);
        assert!(matches!(error, Err(Error::LongName(_))));
        assert!(matches!(sections(b"#!/bin/sh\n"), Err(Error::Parse(_))));
    }
}
