//! File formats, as functions of bytes: no file is opened here.

pub mod cpio;
pub mod elf;
pub mod erofs;
pub mod module_info;
pub mod pe;
