//! What a node that is started over the network lacks for putting the image on its disk: the image's frame, in a second initramfs, and in a unified
//! kernel image that firmware can fetch.

use std::fs;

use anyhow::{Context as _, Result};
use masthead_uki::pe::{self, NewSection};
use masthead_uki::{frame, seal};

use super::Build;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::formats::cpio::{self, Kind, Writer};
use crate::progress::megabytes;

/// The step: a folder with `install.cpio` and `network.efi`.
pub fn pack(build: &Build<'_>, uki: &Made) -> Result<Made> {
    let line = build.progress.line("install");
    let inputs = Inputs::of_step("install", 2)
        .text("time", &build.time.to_string())
        .digest("uki", uki.digest);
    build.cache.step("install", inputs, line, |folder, line| {
        line.doing("packing");
        let path = uki.path.join("masthead.efi");
        let image = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let frame = frame::of(&image).context("looking for the root in the image")?;
        let time = u32::try_from(build.time).context("the image's time is after 2106")?;
        let mut archive = Writer::new(Vec::new(), time);
        archive
            .add(frame::FILE, Kind::File, 0o644, &frame)
            .context("packing the image's frame")?;
        let archive = archive.finish().context("packing the image's frame")?;
        let network = with_initramfs(&image, &archive).context("linking the network's image")?;
        for (name, content) in [("install.cpio", &archive), ("network.efi", &network)] {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(megabytes(archive.len() as u64))
    })
}

/// The image with another archive in its initramfs.
fn with_initramfs(image: &[u8], archive: &[u8]) -> Result<Vec<u8>> {
    const INITRD: &str = ".initrd";
    let stub = pe::without_sections_from(image, INITRD)?;
    let before = pe::sections(&stub)?.len();
    let sections = pe::sections(image)?;
    let initramfs = sections.iter().find(|section| section.name == INITRD);
    let initramfs = initramfs.context("there is no initramfs in it")?.content;
    // Before the compressed one, of which nobody knows where it ends.
    let (_, first) = cpio::read(initramfs).context("reading the initramfs")?;
    let (first, rest) = initramfs.split_at(first);
    let initramfs = [first, archive, rest].concat();
    let mut added = Vec::new();
    for section in &sections[before..] {
        added.push(match &*section.name {
            INITRD => NewSection::new(INITRD, &initramfs),
            // The kernel is started in place.
            ".linux" => NewSection {
                memory: pe::memory_size(section.content)?,
                ..NewSection::new(".linux", section.content)
            },
            name => NewSection::new(name, section.content),
        });
    }
    let mut image = pe::with_sections(&stub, &added)?;
    seal(&mut image)?;
    Ok(image)
}
