//! Assembles the root file system and packs it as EROFS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use masthead_policy::services::Services;
use serde::Serialize;

use super::Build;
use super::components::{Components, MULTICALL};
use super::grub;
use super::modules::Modules;
use crate::cache::Made;
use crate::digest::{Digest, Inputs};
use crate::files;
use crate::process;
use crate::progress::megabytes;

/// Mount points; `/host` is where the lab of a namespace node hands files in.
const MOUNT_POINTS: &[&str] = &[
    "data", "dev", "etcd", "host", "proc", "run", "state", "sys", "tmp",
];

/// Where the boot loader for UEFI is, and in which folder the parts of the one for BIOS are.
const BOOT_LOADER: &str = "/boot/systemd-bootx64.efi";
const GRUB: &str = "/boot";

/// What `/etc/masthead/release.json` says.
#[derive(Debug, Serialize)]
pub struct Release<'a> {
    /// Version of the image.
    pub version: &'a str,
    /// Its build time (Unix seconds); a node's clock is never earlier.
    pub build_time: u64,
    /// Release of the kernel.
    pub kernel: &'a str,
    /// Such as `v1.36.3`.
    pub kubernetes: &'a str,
    /// Such as `3.6.16`.
    pub etcd: &'a str,
}

/// What goes into the root.
pub struct Parts<'a> {
    /// PID 1 and the supervisor.
    pub init: &'a Made,
    /// etcd and Kubernetes.
    pub components: &'a Components,
    /// Kernel modules.
    pub modules: &'a Modules,
    /// Programs from Debian.
    pub programs: &'a Made,
    /// systemd-boot, which a node puts on its disk.
    pub boot_loader: PathBuf,
    /// GRUB, which it puts there, too.
    pub grub: &'a Made,
}

/// The step: a folder with `root.erofs`.
pub fn pack(build: &Build<'_>, parts: &Parts<'_>) -> Result<Made> {
    let line = build.progress.line("root");
    let services = Services::embedded()?;
    let release = Release {
        version: &build.manifest.version,
        build_time: build.time,
        kernel: &parts.modules.release,
        kubernetes: &parts.components.versions.kubernetes,
        etcd: &parts.components.versions.etcd,
    };
    let mut inputs = Inputs::of_step("root", 5)
        .text("mkfs", &mkfs_version()?)
        .text("passwd", &services.passwd())
        .text("group", &services.group())
        .value("release", &release)
        .value("files", &build.manifest.files)
        .digest("init", parts.init.digest)
        .digest("components", parts.components.made.digest)
        .digest("modules", parts.modules.made.digest)
        .digest("programs", parts.programs.digest)
        .digest("grub", parts.grub.digest)
        .digest(
            "boot loader",
            build.cache.memory().file(&parts.boot_loader)?,
        );
    for file in &build.manifest.files {
        let digest = build.cache.memory().file(&build.root.join(&file.source))?;
        inputs = inputs.digest(&file.target, digest);
    }
    build
        .cache
        .step("root", inputs.clone(), line, |folder, line| {
            line.doing("assembling");
            let tree = folder.join("tree");
            let uuid = inputs.key().uuid();
            assemble(build, parts, &services, &release, &tree)?;
            // By this a node knows an image again as the one that it runs.
            let name = format!("{uuid}\n");
            files::put(&tree, "/etc/masthead/image", 0o644, name.as_bytes())?;
            line.doing("compressing");
            let image = folder.join("root.erofs");
            process::run(
                packer()
                    .arg("--all-root")
                    .arg(format!("-T{}", build.time))
                    .arg(format!("-U{uuid}"))
                    .arg(&image)
                    .arg(&tree),
            )?;
            fs::remove_dir_all(&tree).context("removing the assembled tree")?;
            let size = fs::metadata(&image)
                .context("looking at the root image")?
                .len();
            Ok(megabytes(size))
        })
}

fn assemble(
    build: &Build<'_>,
    parts: &Parts<'_>,
    services: &Services,
    release: &Release<'_>,
    tree: &Path,
) -> Result<()> {
    fs::create_dir(tree).with_context(|| format!("creating {}", tree.display()))?;
    for name in MOUNT_POINTS {
        files::folder(tree, name)?;
    }
    files::copy(&parts.init.path.join("init"), tree, "/init", 0o755)?;
    programs(&parts.components.made.path, tree)?;
    overlay(&parts.modules.made.path.join("root"), tree)?;
    overlay(&parts.programs.path, tree)?;
    files::copy(&parts.boot_loader, tree, BOOT_LOADER, 0o644)?;
    for name in [grub::BOOT_SECTOR, grub::DISK] {
        let source = parts.grub.path.join(name);
        files::copy(&source, tree, &format!("{GRUB}/{name}"), 0o644)?;
    }
    let release = serde_json::to_string_pretty(release).context("writing release.json")?;
    let put = |target: &str, text: &str| files::put(tree, target, 0o644, text.as_bytes());
    put("/etc/masthead/release.json", &format!("{release}\n"))?;
    // Without a resolver library programs look here first; etcd asks for localhost.
    put("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    // The supervisor writes the seed's name servers there.
    files::link("/run/masthead/resolv.conf", tree, "/etc/resolv.conf")?;
    put("/etc/passwd", &services.passwd())?;
    put("/etc/group", &services.group())?;
    for file in &build.manifest.files {
        files::copy(
            &build.root.join(&file.source),
            tree,
            &file.target,
            file.mode,
        )?;
    }
    Ok(())
}

/// Puts the components under `/bin`; kubectl is for the lab, not for a node.
fn programs(source: &Path, tree: &Path) -> Result<()> {
    for name in files::walk(source)?.iter().skip(1) {
        let name = name.to_string_lossy();
        let path = source.join(&*name);
        let target = format!("/bin/{name}");
        if name == "kubectl" {
            continue;
        }
        if path.is_symlink() {
            files::link(MULTICALL, tree, &target)?;
        } else {
            files::copy(&path, tree, &target, 0o755)?;
        }
    }
    Ok(())
}

/// Copies a tree over another.
fn overlay(source: &Path, tree: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for below in files::walk(source)?.iter().skip(1) {
        let path = source.join(below);
        let target = format!("/{}", below.display());
        let looking = || format!("looking at {}", path.display());
        let metadata = fs::symlink_metadata(&path).with_context(looking)?;
        if metadata.is_dir() {
            files::folder(tree, &target)?;
        } else if metadata.is_symlink() {
            let destination = fs::read_link(&path).with_context(looking)?;
            files::link(&destination.to_string_lossy(), tree, &target)?;
        } else {
            let mode = metadata.permissions().mode() & 0o777;
            files::copy(&path, tree, &target, mode)?;
        }
    }
    Ok(())
}

/// mkfs.erofs as roots are packed by it; what is to be packed follows.
pub fn packer() -> Command {
    let mut command = mkfs();
    // Clusters of 128 KiB are 1.5 % smaller than of 64 KiB and cost the same when single pages are read at random; larger
    // ones save less and less.
    command.args(["-zlz4hc,12", "-C131072", "-x-1", "--quiet"]);
    command
}

fn mkfs() -> Command {
    // It lies where only root's search path leads.
    let program = [
        "/usr/bin/mkfs.erofs",
        "/usr/sbin/mkfs.erofs",
        "/sbin/mkfs.erofs",
    ]
    .map(PathBuf::from)
    .into_iter()
    .find(|path| path.is_file())
    .unwrap_or_else(|| PathBuf::from("mkfs.erofs"));
    Command::new(program)
}

/// Another release of mkfs.erofs may pack the same files differently. Its digest says more than
/// its version, which it prints in another way in each release.
fn mkfs_version() -> Result<String> {
    let program = mkfs();
    let path = Path::new(program.get_program());
    if path.is_absolute() {
        return Ok(Digest::of_file(path)?.to_string());
    }
    Ok("unknown".to_owned())
}
