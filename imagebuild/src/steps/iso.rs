//! The ISO image.

use std::fs;

use anyhow::{Context as _, Result};

use super::Build;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::media::Files;
use crate::media::iso::{self, Contents};
use crate::progress::megabytes;

/// The name of its file.
pub const FILE: &str = "masthead.iso";

/// The step: a folder with `masthead.iso`.
pub fn write(build: &Build<'_>, uki: &Made, grub: &Made) -> Result<Made> {
    let line = build.progress.line("iso");
    let inputs = Inputs::of_step("iso", 1)
        .digest("uki", uki.digest)
        .digest("grub", grub.digest)
        .text("writer", &iso::writer()?);
    build.cache.step("iso", inputs, line, |folder, line| {
        line.doing("writing");
        let image = uki.path.join("masthead.efi");
        let files = Files::read(&image, &grub.path)?;
        let contents =
            Contents::of(&files, None).with_context(|| format!("reading {}", image.display()))?;
        let target = folder.join(FILE);
        iso::make(&contents, &target)?;
        let size = fs::metadata(&target).context("looking at the ISO image")?;
        Ok(megabytes(size.len()))
    })
}
