//! Files that may be seeds, and may be anything else.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use masthead_seed::SEED_LIMIT;

use crate::volume::{must_be_regular, open_beneath};

/// Reads a file of a volume. None if there is no such file.
pub(super) fn read_beneath(folder: &OwnedFd, file: &str) -> io::Result<Option<Vec<u8>>> {
    open_beneath(folder, file)?.map(read_limited).transpose()
}

/// Reads a regular file, and one byte more than a seed can have, so that a larger one is refused as too large.
pub(super) fn read_limited(file: File) -> io::Result<Vec<u8>> {
    must_be_regular(&file)?;
    let mut bytes = Vec::new();
    file.take(SEED_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
