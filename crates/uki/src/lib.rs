//! Unified kernel images (UAPI.5): one EFI program that holds kernel, initramfs and command line.
//!
//! - [`pe`]: sections, read and added;
//! - [`parts`]: where kernel and initramfs are, for a boot loader that cannot start the whole;
//! - [`root`]: where the root file system is;
//! - [`frame`]: an image without its root, and the two put together again;
//! - [`release`]: what an image says of itself in its section `.osrel`, and the digest by which a damaged copy is known.
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "example"))]
pub mod example;
pub mod frame;
pub mod parts;
pub mod pe;
pub mod release;
pub mod root;

pub use parts::Parts;
pub use release::{ImageError, Release, check, seal};
