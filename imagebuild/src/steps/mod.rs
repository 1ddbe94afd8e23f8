//! The steps from a manifest to an image, each kept by the digest of its inputs.
//!
//! ```text
//! packages ─┬─ modules ──┐
//!           ├─ programs ─┤                            ┌─ iso ─────┐
//!           └─ grub ─────┤                            ├─ disk ────┤
//! components ────────────┼─ root ── initramfs ── uki ─┴─ install ─┴─ output
//! init ──────────────────┘
//! ```

pub mod components;
pub mod disk;
pub mod grub;
pub mod init;
pub mod initramfs;
pub mod install;
pub mod iso;
pub mod modules;
pub mod packages;
pub mod programs;
pub mod publish;
pub mod root;
pub mod uki;

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::archive::Mirrors;
use crate::cache::Cache;
use crate::lock::Lock;
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::sbom;

/// What all steps know.
pub struct Build<'a> {
    /// What to make.
    pub manifest: &'a Manifest,
    /// Of which packages.
    pub lock: &'a Lock,
    /// Whether a package that the archive has dropped stops the build.
    pub locked: bool,
    /// Where packages come from.
    pub mirrors: &'a Mirrors,
    /// The repository.
    pub root: PathBuf,
    /// Time of everything in the image (Unix seconds).
    pub time: u64,
    /// Results.
    pub cache: &'a Cache,
    /// What the user sees.
    pub progress: &'a Progress,
}

/// Carries out every step, those that do not need each other at the same time.
pub fn run(build: &Build<'_>, output: &Path) -> Result<()> {
    let (components, init, packages) = thread::scope(|scope| {
        let components = scope.spawn(|| components::provide(build));
        let init = scope.spawn(|| init::compile(build));
        let packages = packages::unpack(build).and_then(|packages| {
            let modules = modules::choose(build, &packages)?;
            let programs = programs::gather(build, &packages)?;
            let grub = grub::link(build, &packages)?;
            Ok((packages, modules, programs, grub))
        });
        (finished(components), finished(init), packages)
    });
    let (packages, modules, programs, grub) = packages?;
    let (components, init) = (components?, init?);

    let (_, boot_loader) = packages
        .find("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
        .context("no package of the manifest has systemd-boot: add systemd-boot-efi")?;
    let parts = root::Parts {
        init: &init,
        components: &components,
        modules: &modules,
        programs: &programs,
        boot_loader: boot_loader.clone(),
        grub: &grub,
    };
    let root = root::pack(build, &parts)?;
    let initramfs = initramfs::pack(build, &init, &modules, &root)?;
    let uki = uki::link(
        build,
        &packages,
        &modules,
        &components.versions,
        &root,
        &initramfs,
    )?;
    let install = install::pack(build, &uki)?;
    let iso = iso::write(build, &uki, &grub)?;
    let disk = disk::write(build, &uki, &boot_loader)?;
    let materials = sbom::write(build, &packages, &components, &init, &uki)?;
    let results = publish::Results {
        init: &init,
        components: &components,
        modules: &modules,
        root: &root,
        initramfs: &initramfs,
        uki: &uki,
        install: &install,
        iso: &iso,
        disk: &disk,
        materials: &materials,
        boot_loader,
        grub: &grub,
    };
    publish::publish(build, &results, output)?;
    packages::prune(&build.cache.place("packages"), &packages.lock);
    Ok(())
}

fn finished<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Unix seconds as RFC 3339, in UTC.
pub fn rfc3339(time: u64) -> Result<String> {
    i64::try_from(time)
        .ok()
        .and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .with_context(|| format!("{time} is no time that can be written as a date"))
}
