//! The disk image.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Build;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::media::disk;
use crate::progress::megabytes;

/// The name of its file.
pub const FILE: &str = "masthead.img";

/// The step: a folder with `masthead.img`.
pub fn write(build: &Build<'_>, uki: &Made, boot_loader: &Path) -> Result<Made> {
    let line = build.progress.line("disk");
    let inputs = Inputs::of_step("disk", 1)
        .digest("uki", uki.digest)
        .digest("boot loader", build.cache.memory().file(boot_loader)?);
    build.cache.step("disk", inputs, line, |folder, line| {
        line.doing("writing");
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        let image = read(&uki.path.join("masthead.efi"))?;
        let target = folder.join(FILE);
        disk::make(&image, &read(boot_loader)?, &target)?;
        let size = fs::metadata(&target).context("looking at the disk image")?;
        Ok(megabytes(size.len()))
    })
}
