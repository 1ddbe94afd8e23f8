//! The initramfs: what is needed to mount the root, and the root itself.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Build;
use super::modules::Modules;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::files;
use crate::formats::cpio::{Kind, Writer};
use crate::formats::initramfs;
use crate::progress::megabytes;

/// Folders that `/init` mounts on, or moves from.
const FOLDERS: &[&str] = &["dev", "modules", "proc", "root", "sys"];

/// The step: a folder with `initrd`.
pub fn pack(build: &Build<'_>, init: &Made, modules: &Modules, root: &Made) -> Result<Made> {
    let line = build.progress.line("initramfs");
    let inputs = Inputs::of_step("initramfs", 3)
        .text("time", &build.time.to_string())
        .digest("init", init.digest)
        .digest("modules", modules.made.digest)
        .digest("root", root.digest);
    build.cache.step("initramfs", inputs, line, |folder, line| {
        line.doing("packing");
        let time = u32::try_from(build.time).context("the image's time is after 2106")?;
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        let mut large = Writer::new(Vec::new(), time);
        let packing = || "packing the initramfs";
        let image = read(&root.path.join("root.erofs"))?;
        large
            .add("root.erofs", Kind::File, 0o644, &image)
            .with_context(packing)?;

        let mut small = Writer::new(Vec::new(), time);
        for name in FOLDERS {
            small
                .add(name, Kind::Folder, 0o755, b"")
                .with_context(packing)?;
        }
        // Before devtmpfs is mounted, the kernel opens this for PID 1.
        small
            .add("dev/console", Kind::CharacterDevice(5, 1), 0o600, b"")
            .with_context(packing)?;
        let program = read(&init.path.join("first-stage"))?;
        small
            .add("init", Kind::File, 0o755, &program)
            .with_context(packing)?;
        let source = modules.made.path.join("initramfs");
        for name in files::walk(&source)?.iter().skip(1) {
            let content = read(&source.join(name))?;
            small
                .add(
                    &format!("modules/{}", name.display()),
                    Kind::File,
                    0o644,
                    &content,
                )
                .with_context(packing)?;
        }
        let initramfs = initramfs::join(
            large.finish().with_context(packing)?,
            &small.finish().with_context(packing)?,
        )
        .with_context(packing)?;
        let path = folder.join("initrd");
        fs::write(&path, initramfs).with_context(|| format!("writing {}", path.display()))?;
        let size = fs::metadata(&path)
            .context("looking at the initramfs")?
            .len();
        Ok(megabytes(size))
    })
}
