//! The unified kernel image: stub, kernel, initramfs and command line in one EFI program.

use std::fs;
use std::io::{Cursor, Read as _};

use anyhow::{Context as _, Result, ensure};
use masthead_uki::pe::{self, NewSection};
use masthead_uki::{Parts, Release, seal};

use super::Build;
use super::modules::Modules;
use super::packages::Packages;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::formats::erofs;
use crate::manifest::Versions;
use crate::progress::megabytes;

/// systemd's stub, in the package systemd-boot-efi.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// The step: a folder with `masthead.efi`.
pub fn link(
    build: &Build<'_>,
    packages: &Packages,
    modules: &Modules,
    versions: &Versions,
    root: &Made,
    initramfs: &Made,
) -> Result<Made> {
    let line = build.progress.line("uki");
    let (_, stub) = packages
        .find(STUB)
        .with_context(|| format!("no package of the manifest has {STUB}: add systemd-boot-efi"))?;
    let os_release = release(&build.manifest.version, versions, root)?.text();
    let command_line = build.manifest.kernel.command_line.join(" ");
    let limit = build.manifest.limits.uki;
    let inputs = Inputs::of_step("uki", 4)
        .digest("stub", build.cache.memory().file(&stub)?)
        .digest("kernel", build.cache.memory().file(&modules.image())?)
        .digest("initramfs", initramfs.digest)
        .text("release", &modules.release)
        .text("os-release", &os_release)
        .text("command line", &command_line)
        .text("limit", &limit.to_string());
    build.cache.step("uki", inputs, line, |folder, line| {
        line.doing("linking");
        let read = |path: &std::path::Path| {
            fs::read(path).with_context(|| format!("reading {}", path.display()))
        };
        let stub = read(&stub)?;
        let kernel = read(&modules.image())?;
        let initrd = read(&initramfs.path.join("initrd"))?;
        let mut image = pe::with_sections(
            &stub,
            &[
                NewSection::new(".osrel", os_release.as_bytes()),
                NewSection::new(".cmdline", command_line.as_bytes()),
                NewSection::new(".uname", modules.release.as_bytes()),
                NewSection::new(".initrd", &initrd),
                // Last, and with the room that the kernel takes when it is started in place.
                NewSection {
                    name: ".linux",
                    content: &kernel,
                    memory: pe::memory_size(&kernel)
                        .context("reading the kernel as an EFI program")?,
                },
            ],
        )
        .context("adding sections to systemd's stub")?;
        seal(&mut image).context("writing the digest into the image")?;
        Parts::find(&mut Cursor::new(&image)).context("looking at the image as GRUB does")?;
        let size = image.len() as u64;
        ensure!(
            size <= limit,
            "the unified kernel image has {}, and the manifest allows {} ([limits] uki)",
            megabytes(size),
            megabytes(limit)
        );
        let path = folder.join("masthead.efi");
        fs::write(&path, &image).with_context(|| format!("writing {}", path.display()))?;
        Ok(megabytes(size))
    })
}

/// What the image says of itself; the root holds the same UUID (see [`super::root`]).
fn release(version: &str, versions: &Versions, root: &Made) -> Result<Release> {
    let path = root.path.join("root.erofs");
    let reading = || format!("reading {}", path.display());
    let mut head = Vec::new();
    let image = fs::File::open(&path).with_context(reading)?;
    image
        .take(erofs::HEAD)
        .read_to_end(&mut head)
        .with_context(reading)?;
    let superblock = erofs::superblock(&head)
        .with_context(|| format!("{} is no EROFS image", path.display()))?;
    Ok(Release {
        version: version.to_owned(),
        image: superblock.uuid,
        kubernetes: versions.kubernetes.clone(),
        etcd: versions.etcd.clone(),
    })
}
