//! The initramfs: what is needed to mount the root, and the root itself.

use std::fs;
use std::io::BufWriter;

use anyhow::{Context as _, Result};

use super::Build;
use super::modules::Modules;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::files;
use crate::formats::cpio::{Kind, Writer};
use crate::progress::megabytes;

/// Folders that `/init` mounts on, or moves from.
const FOLDERS: &[&str] = &["dev", "modules", "proc", "root", "sys"];

/// The step: a folder with `initrd`.
pub fn pack(build: &Build<'_>, init: &Made, modules: &Modules, root: &Made) -> Result<Made> {
    let line = build.progress.line("initramfs");
    let inputs = Inputs::of_step("initramfs", 1)
        .text("time", &build.time.to_string())
        .digest("init", init.digest)
        .digest("modules", modules.made.digest)
        .digest("root", root.digest);
    build.cache.step("initramfs", inputs, line, |folder, line| {
        line.doing("packing");
        let path = folder.join("initrd");
        let writing = || format!("writing {}", path.display());
        let file = fs::File::create(&path).with_context(writing)?;
        let time = u32::try_from(build.time).context("the image's time is after 2106")?;
        let mut archive = Writer::new(BufWriter::new(file), time);
        for name in FOLDERS {
            archive
                .add(name, Kind::Folder, 0o755, b"")
                .with_context(writing)?;
        }
        // Before devtmpfs is mounted, the kernel opens this for PID 1.
        archive
            .add("dev/console", Kind::CharacterDevice(5, 1), 0o600, b"")
            .with_context(writing)?;
        let source = modules.made.path.join("initramfs");
        let mut contents = vec![("init".to_owned(), 0o755, init.path.join("init"))];
        for name in files::walk(&source)?.iter().skip(1) {
            let target = format!("modules/{}", name.display());
            contents.push((target, 0o644, source.join(name)));
        }
        contents.push(("root.erofs".to_owned(), 0o644, root.path.join("root.erofs")));
        for (name, mode, path) in contents {
            let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            archive
                .add(&name, Kind::File, mode, &content)
                .with_context(writing)?;
        }
        archive.finish().with_context(writing)?;
        let size = fs::metadata(&path).with_context(writing)?.len();
        Ok(megabytes(size))
    })
}
