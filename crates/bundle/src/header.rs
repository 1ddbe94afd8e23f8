//! What a bundle says of its image.

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Of this release's bundles.
pub const FORMAT: u32 = 1;

/// Of the machines that this release is for.
pub const ARCHITECTURE: &str = "x86_64";

/// What a bundle says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Of the image, such as `0.2.0`.
    pub version: String,
    /// UUID of its root file system.
    pub image: String,
    /// [`ARCHITECTURE`].
    pub architecture: String,
    /// Such as `v1.36.3`.
    pub kubernetes: String,
    /// Such as `3.6.16`.
    pub etcd: String,
    /// Of the image, in bytes.
    pub size: u64,
    /// Bytes a block; the last one may have fewer.
    pub block: u32,
    /// SHA-256 of each block, in hexadecimal digits.
    pub blocks: Vec<String>,
}

impl Header {
    /// Whether sizes and number of hashes belong together.
    pub(crate) fn is_consistent(&self) -> bool {
        let block = u64::from(self.block);
        block > 0 && self.size > 0 && self.size.div_ceil(block) == self.blocks.len() as u64
    }

    /// How many bytes the block of that number has.
    pub(crate) fn bytes_of(&self, number: usize) -> usize {
        let before = u64::from(self.block) * number as u64;
        let left = self.size.saturating_sub(before).min(u64::from(self.block));
        usize::try_from(left).unwrap_or(usize::MAX)
    }
}

/// As a header has it.
pub(crate) fn hash(block: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut digits = String::new();
    for byte in digest(&SHA256, block).as_ref() {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
