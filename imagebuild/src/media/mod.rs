//! What a machine boots from: made of a unified kernel image, and with one copy of it.
//!
//! - [`volume`]: the FAT volume from which firmware starts the image;
//! - [`iso`]: that volume as a CD and as a stick;
//! - [`disk`]: the disk of a node, as far as it is the same for all.

pub mod disk;
pub mod iso;
pub mod volume;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::steps::grub;

/// The files of which media are made.
pub struct Files {
    /// The unified kernel image.
    pub image: Vec<u8>,
    /// GRUB for a medium.
    pub grub: Vec<u8>,
    /// The first sector of a medium, which loads GRUB.
    pub grub_sector: Vec<u8>,
}

impl Files {
    /// Reads those that `imagebuild build` has put into a folder.
    pub fn of_build(folder: &Path) -> Result<Self> {
        let listing = || format!("listing {}", folder.display());
        let is_image = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("masthead-") && name.ends_with(".efi")
        };
        let mut entries = fs::read_dir(folder).with_context(listing)?.flatten();
        let image = entries.find_map(|entry| Some(entry.path()).filter(is_image));
        let image = image.with_context(|| {
            format!(
                "there is no masthead-VERSION.efi in {}: build the image first (make image)",
                folder.display()
            )
        })?;
        Self::read(&image, folder)
    }

    /// Reads an image, and GRUB from a folder.
    pub fn read(image: &Path, grub: &Path) -> Result<Self> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        Ok(Self {
            image: read(image)?,
            grub: read(&grub.join(grub::MEDIUM))?,
            grub_sector: read(&grub.join(grub::HYBRID_SECTOR))?,
        })
    }
}
