//! File formats, as functions of bytes: no file is opened here.

pub mod cpio;
pub mod elf;
pub mod erofs;
pub mod initramfs;
pub mod module_info;

use std::fmt::Write as _;

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// A UUID as people write it.
pub fn uuid(bytes: [u8; 16]) -> String {
    let digits = hex(&bytes);
    let part = |from: usize, to: usize| &digits[from..to];
    [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)]
        .map(|(from, to)| part(from, to))
        .join("-")
}
