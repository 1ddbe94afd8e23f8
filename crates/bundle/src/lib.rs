//! Upgrade bundles: an image, what it is, and who says so, in one file that is read from its beginning to its end.
//!
//! ```text
//! masthead-bundle\n              16 bytes
//! length of the header           4 bytes, little endian
//! header                         JSON: what the image is, and the SHA-256 of each of its blocks
//! signature                      64 bytes: Ed25519 (RFC 8032) over everything before it
//! image                          a unified kernel image
//! ```
//!
//! The signature comes before the image, and the header has a hash of each block: so that who streams a bundle to a disk never writes a byte that
//! nobody has signed for, and knows after the first few thousand bytes that a bundle is not for it.
//!
//! - [`Header`]: what a bundle says;
//! - [`Writer`]: makes one;
//! - [`Reader`]: reads one, and gives the image.
#![forbid(unsafe_code)]

mod header;
mod reader;
mod writer;

pub use header::{ARCHITECTURE, FORMAT, Header};
pub use reader::{BundleError, Reader, Unverified};
pub use writer::{Writer, WriterError};

/// The first bytes of a bundle, which no other use of a key signs.
const BEGIN: &[u8; 16] = b"masthead-bundle\n";

/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// A public Ed25519 key.
pub type PublicKey = [u8; 32];

#[cfg(test)]
mod tests;
