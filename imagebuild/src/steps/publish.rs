//! Puts the results where people and programs look for them, all at once.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, RenameFlags};

use super::Build;
use super::components::Components;
use super::modules::Modules;
use super::{disk, grub, iso};
use crate::cache::Made;
use crate::files;

/// Everything that was made.
pub struct Results<'a> {
    /// `init`.
    pub init: &'a Made,
    /// etcd and Kubernetes.
    pub components: &'a Components,
    /// The kernel's.
    pub modules: &'a Modules,
    /// `root.erofs`.
    pub root: &'a Made,
    /// `initrd`.
    pub initramfs: &'a Made,
    /// `masthead.efi`.
    pub uki: &'a Made,
    /// `install.cpio` and `network.efi`.
    pub install: &'a Made,
    /// `masthead.iso`.
    pub iso: &'a Made,
    /// `masthead.img`.
    pub disk: &'a Made,
    /// `manifest.json`.
    pub materials: &'a Made,
    /// systemd-boot, for the disks and boot media that hold the image.
    pub boot_loader: PathBuf,
    /// GRUB for the same.
    pub grub: &'a Made,
}

/// The step. Returns whether anything changed.
///
/// The folder is exchanged as a whole: nobody sees a kernel of one build beside the initramfs of
/// another. Files are hard links into the cache, for speed and room; a result that somebody
/// edits in place is found damaged and made again.
pub fn publish(build: &Build<'_>, results: &Results<'_>, output: &Path) -> Result<bool> {
    let line = build.progress.line("output");
    let command_line = build.manifest.kernel.command_line.join(" ");
    let mut entries = vec![
        ("init".to_owned(), results.init.path.join("init")),
        ("vmlinuz".to_owned(), results.modules.image()),
        (
            "root.erofs".to_owned(),
            results.root.path.join("root.erofs"),
        ),
        ("initrd".to_owned(), results.initramfs.path.join("initrd")),
        (
            format!("masthead-{}.efi", build.manifest.version),
            results.uki.path.join("masthead.efi"),
        ),
        (iso::FILE.to_owned(), results.iso.path.join(iso::FILE)),
        (disk::FILE.to_owned(), results.disk.path.join(disk::FILE)),
        (
            "install.cpio".to_owned(),
            results.install.path.join("install.cpio"),
        ),
        (
            "network.efi".to_owned(),
            results.install.path.join("network.efi"),
        ),
        (
            "manifest.json".to_owned(),
            results.materials.path.join("manifest.json"),
        ),
        (
            "systemd-bootx64.efi".to_owned(),
            results.boot_loader.clone(),
        ),
    ];
    for name in [
        grub::BOOT_SECTOR,
        grub::HYBRID_SECTOR,
        grub::DISK,
        grub::MEDIUM,
    ] {
        entries.push((name.to_owned(), results.grub.path.join(name)));
    }
    let components = &results.components.made.path;
    for name in files::walk(components)?.iter().skip(1) {
        entries.push((
            format!("components/{}", name.display()),
            components.join(name),
        ));
    }
    if current(output, &entries, &command_line) {
        line.unchanged();
        return Ok(false);
    }
    let parent = output.parent().context("the output is in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let scratch = tempfile::Builder::new()
        .prefix(".image-")
        .tempdir_in(parent)
        .with_context(|| format!("creating a folder in {}", parent.display()))?;
    let made = files::folder(scratch.path(), "image")?;
    files::folder(&made, "components")?;
    for (name, source) in &entries {
        place(source, &made.join(name))?;
    }
    files::put(&made, "/cmdline", 0o644, command_line.as_bytes())?;
    let script = network_script(&command_line);
    files::put(&made, "/masthead.ipxe", 0o644, script.as_bytes())?;
    let replacing = || format!("replacing {}", output.display());
    if output.exists() {
        // What was there goes away with the scratch folder.
        rustix::fs::renameat_with(CWD, &made, CWD, output, RenameFlags::EXCHANGE)
            .with_context(replacing)?;
    } else {
        fs::rename(&made, output).with_context(replacing)?;
    }
    line.done(&output.display().to_string());
    Ok(true)
}

/// What iPXE carries out.
fn network_script(command_line: &str) -> String {
    include_str!("../../../firmware/network.ipxe").replace("COMMAND_LINE", command_line)
}

fn current(output: &Path, entries: &[(String, PathBuf)], command_line: &str) -> bool {
    let there = |(name, source): &(String, PathBuf)| {
        let same = fs::symlink_metadata(output.join(name))
            .and_then(|one| Ok((one, fs::symlink_metadata(source)?)))
            .is_ok_and(|(one, other)| (one.dev(), one.ino()) == (other.dev(), other.ino()));
        same || source.is_symlink()
            && fs::read_link(output.join(name)).ok() == fs::read_link(source).ok()
    };
    let is = |name, text: &str| fs::read_to_string(output.join(name)).is_ok_and(|it| it == text);
    is("cmdline", command_line)
        && is("masthead.ipxe", &network_script(command_line))
        && entries.iter().all(there)
        && files::walk(output).is_ok_and(|found| found.len() == entries.len() + 4)
}

/// Links, or copies where a link cannot be: to another file system.
fn place(source: &Path, target: &Path) -> Result<()> {
    let placing = || format!("placing {}", target.display());
    if let Ok(destination) = fs::read_link(source) {
        return std::os::unix::fs::symlink(destination, target).with_context(placing);
    }
    if fs::hard_link(source, target).is_err() {
        fs::copy(source, target).with_context(placing)?;
    }
    Ok(())
}
