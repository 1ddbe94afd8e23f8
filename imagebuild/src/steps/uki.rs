//! The unified kernel image: stub, kernel, initramfs and command line in one EFI program.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::Build;
use super::modules::Modules;
use super::packages::Packages;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::formats::pe::{self, NewSection};
use crate::progress::megabytes;

/// systemd's stub, in the package systemd-boot-efi.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// The step: a folder with `masthead.efi`.
pub fn link(
    build: &Build<'_>,
    packages: &Packages,
    modules: &Modules,
    initramfs: &Made,
) -> Result<Made> {
    let line = build.progress.line("uki");
    let (_, stub) = packages
        .find(STUB)
        .with_context(|| format!("no package of the manifest has {STUB}: add systemd-boot-efi"))?;
    let os_release = os_release(&build.manifest.version);
    let command_line = build.manifest.kernel.command_line.join(" ");
    let limit = build.manifest.limits.uki;
    let inputs = Inputs::of_step("uki", 1)
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
        let section = |name, content| NewSection {
            name,
            content,
            memory: 0,
        };
        let image = pe::with_sections(
            &stub,
            &[
                section(".osrel", os_release.as_bytes()),
                section(".cmdline", command_line.as_bytes()),
                section(".uname", modules.release.as_bytes()),
                section(".initrd", &initrd),
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

/// What boot loaders read of an image.
///
/// IMAGE_VERSION is the same in every release: systemd-boot sorts by it before it sorts by name,
/// and a downgrade, or the same version again, would never be tried. The order of the slots is the
/// generation number in the file's name.
fn os_release(version: &str) -> String {
    format!(
        "ID=masthead\nNAME=Masthead\nPRETTY_NAME=\"Masthead {version}\"\nVERSION_ID={version}\n\
         IMAGE_ID=masthead\nIMAGE_VERSION=1\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_differ_between_releases() {
        let sorted_by = |version: &str| {
            os_release(version)
                .lines()
                .filter(|line| line.starts_with("IMAGE_"))
                .map(ToOwned::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(sorted_by("0.1.0"), sorted_by("0.2.0"));
        assert_eq!(sorted_by("0.1.0").len(), 2);
    }
}
