//! An EFI program for tests, which does nothing.

use object::LittleEndian as LE;
use object::pe::{self, ImageSectionHeader};
use object::{U16Bytes, U32Bytes};

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
