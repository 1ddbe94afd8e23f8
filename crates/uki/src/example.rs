//! An EFI program for tests, which does nothing, and an image of it.

use object::LittleEndian as LE;
use object::pe::{self, ImageSectionHeader};
use object::{U16Bytes, U32Bytes};

use crate::pe::{NewSection, with_sections};
use crate::{Release, seal};

const HEADERS: u32 = 0x400;

/// A program with one section `.text` of five bytes at 0x1000.
pub fn program() -> Vec<u8> {
    let mut dos = [0; 64];
    dos[..2].copy_from_slice(b"MZ");
    dos[60] = 64;
    let file = pe::ImageFileHeader {
        machine: U16Bytes::new(LE, pe::IMAGE_FILE_MACHINE_AMD64),
        number_of_sections: U16Bytes::new(LE, 1),
        time_date_stamp: U32Bytes::new(LE, 0),
        pointer_to_symbol_table: U32Bytes::new(LE, 0),
        number_of_symbols: U32Bytes::new(LE, 0),
        size_of_optional_header: U16Bytes::new(LE, 112),
        characteristics: U16Bytes::new(LE, 0),
    };
    let mut optional = [0; 112];
    optional[..2].copy_from_slice(&pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC.to_le_bytes());
    for (offset, value) in [
        (32, 0x1000_u32),
        (36, 0x200),
        (56, 0x2000),
        (60, HEADERS),
        (64, 7),
    ] {
        optional[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
    let text = ImageSectionHeader {
        name: *b".text\0\0\0",
        virtual_size: U32Bytes::new(LE, 5),
        virtual_address: U32Bytes::new(LE, 0x1000),
        size_of_raw_data: U32Bytes::new(LE, 0x200),
        pointer_to_raw_data: U32Bytes::new(LE, HEADERS),
        pointer_to_relocations: U32Bytes::new(LE, 0),
        pointer_to_linenumbers: U32Bytes::new(LE, 0),
        number_of_relocations: U16Bytes::new(LE, 0),
        number_of_linenumbers: U16Bytes::new(LE, 0),
        characteristics: U32Bytes::new(LE, 0),
    };
    let mut bytes = dos.to_vec();
    bytes.extend_from_slice(b"PE\0\0");
    bytes.extend_from_slice(object::bytes_of(&file));
    bytes.extend_from_slice(&optional);
    bytes.extend_from_slice(object::bytes_of(&text));
    bytes.resize(HEADERS as usize, 0);
    bytes.extend_from_slice(b"12345");
    bytes.resize(HEADERS as usize + 0x200, 0);
    bytes
}

/// What [`image`] says of itself.
pub fn release(version: &str) -> Release {
    Release {
        version: version.to_owned(),
        image: "0d7b1c2e-0000-4000-8000-000000000001".to_owned(),
        kubernetes: "v1.36.3".to_owned(),
        etcd: "3.6.16".to_owned(),
    }
}

/// A small image that is whole, with all that a boot loader looks for in it.
pub fn image(version: &str) -> Vec<u8> {
    let text = release(version).text();
    let content: Vec<u8> = (0..90_000_u32).map(|number| (number % 251) as u8).collect();
    let added = [
        NewSection::new(".osrel", text.as_bytes()),
        NewSection::new(".cmdline", b"console=tty0"),
        NewSection::new(".initrd", &content),
        NewSection::new(".linux", b"a kernel"),
    ];
    let mut image = with_sections(&program(), &added).expect("room for all");
    seal(&mut image).expect("a line for the digest");
    image
}
