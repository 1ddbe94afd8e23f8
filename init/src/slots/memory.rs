//! The running image in memory: its root, which the initramfs keeps, and the frame around it, with which a node is started over the network.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use masthead_uki::ImageError;
use masthead_uki::frame::{FILE, Framed};

/// Of the image's root in the initramfs.
const ROOT: &str = "root.erofs";

/// The image, if the initramfs in that folder has a frame.
pub(super) fn image(initramfs: &Path) -> Result<Option<Framed<File, File>>, ImageError> {
    let frame = match File::open(initramfs.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let root = File::open(initramfs.join(ROOT))?;
    Framed::new(frame, root).map(Some)
}

/// Gives the frame's memory back; nobody installs from it any more.
pub(super) fn free(initramfs: &Path) -> io::Result<()> {
    match fs::remove_file(initramfs.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
