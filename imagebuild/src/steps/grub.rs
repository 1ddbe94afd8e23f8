//! GRUB, for machines without UEFI: of Debian's modules and with Debian's `grub-mkimage`, both from the locked packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Build;
use super::packages::Packages;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::files;
use crate::formats::cpio::{Kind, Writer};
use crate::process;
use crate::progress::megabytes;

/// The first sector of a disk: loads GRUB from the disk's BIOS boot partition.
pub const BOOT_SECTOR: &str = "grub-boot.img";
/// The same for a medium that is both CD and disk, where GRUB is inside of the ISO 9660 file system.
pub const HYBRID_SECTOR: &str = "grub-hybrid.img";
/// For the BIOS boot partition.
pub const DISK: &str = "grub-disk.img";
/// For an ISO 9660 file system, as its El Torito boot image.
pub const MEDIUM: &str = "grub-cd.img";

/// Modules that both have: what the scripts call, and GPT.
const MODULES: &[&str] = &[
    "biosdisk", "part_gpt", "memdisk", "newc", "normal", "test", "loadenv", "loopback", "linux",
    "echo", "sleep", "minicmd",
];
/// Modules, with the package that has them.
const FOLDER: &str = "/usr/lib/grub/i386-pc";
const TOOLS: &str = "/usr/bin";
const LOADER: &str = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
/// What the kernel of GRUB executes, which knows no conditions.
const BEGIN: &str = "normal (memdisk)/grub.cfg\n";

/// One GRUB.
struct Image {
    name: &'static str,
    script: &'static str,
    format: &'static str,
    /// Where `$root` is: a partition of the disk that GRUB comes from, or that whole disk.
    prefix: &'static str,
    modules: &'static [&'static str],
}

const IMAGES: [Image; 2] = [
    Image {
        name: DISK,
        script: "firmware/grub-disk.cfg",
        format: "i386-pc",
        // The EFI system partition (masthead_disk_layout::Role::Esp).
        prefix: "(,gpt2)/masthead",
        modules: &["fat", "regexp", "probe"],
    },
    Image {
        name: MEDIUM,
        script: "firmware/grub-cd.cfg",
        format: "i386-pc-eltorito",
        prefix: "/masthead",
        modules: &["iso9660"],
    },
];

/// The step: a folder with [`BOOT_SECTOR`], [`HYBRID_SECTOR`], [`DISK`] and [`MEDIUM`].
pub fn link(build: &Build<'_>, packages: &Packages) -> Result<Made> {
    let line = build.progress.line("grub");
    let tools = Tools::find(packages)?;
    let mut inputs = Inputs::of_step("grub", 1)
        .digest("packages", packages.made.digest)
        .text("begin", BEGIN);
    for image in &IMAGES {
        let script = build.root.join(image.script);
        inputs = inputs
            .digest(image.name, build.cache.memory().file(&script)?)
            .text("format", image.format)
            .text("prefix", image.prefix)
            .value("modules", &[MODULES, image.modules].concat());
    }
    build.cache.step("grub", inputs, line, |folder, line| {
        line.doing("linking");
        let mut bytes = 0;
        for image in &IMAGES {
            bytes += tools.link(image, &build.root.join(image.script), folder)?;
        }
        for (source, name) in [
            ("boot.img", BOOT_SECTOR),
            ("boot_hybrid.img", HYBRID_SECTOR),
        ] {
            files::copy(&tools.modules.join(source), folder, name, 0o644)?;
        }
        Ok(megabytes(bytes))
    })
}

/// What of Debian's packages is called, and with which libraries.
struct Tools {
    modules: PathBuf,
    programs: PathBuf,
    loader: PathBuf,
    libraries: String,
}

impl Tools {
    fn find(packages: &Packages) -> Result<Self> {
        let find = |path: &str, package: &str| {
            let found = packages.find(path).map(|(_, file)| file);
            found.with_context(|| {
                format!("no package of the manifest ([debian] packages and tools) has {path}: add {package}")
            })
        };
        let parent = |file: PathBuf| {
            let folder = file.parent().map(Path::to_owned);
            folder.context("a file is in a folder")
        };
        let loader = find(LOADER, "libc6")?;
        let below = Path::new(LOADER).parent().context("it is in a folder")?;
        let below = below.strip_prefix("/").context("it is absolute")?;
        let libraries = packages.lock.packages.iter().map(|package| {
            let folder = packages.folder(package).join(below);
            Ok(std::path::absolute(folder)?.display().to_string())
        });
        Ok(Self {
            modules: parent(find(&format!("{FOLDER}/kernel.img"), "grub-pc-bin")?)?,
            programs: parent(find(&format!("{TOOLS}/grub-mkimage"), "grub-common")?)?,
            loader,
            libraries: libraries.collect::<Result<Vec<_>>>()?.join(":"),
        })
    }

    /// A program of Debian's, with Debian's libraries and not the build machine's.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.loader);
        command
            .arg(self.programs.join(program))
            .env("LD_LIBRARY_PATH", &self.libraries)
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Returns how many bytes it has.
    fn link(&self, image: &Image, script: &Path, folder: &Path) -> Result<u64> {
        // A script with a fault would end in GRUB's command line.
        process::run(self.command("grub-script-check").arg(script))?;
        let reading = || format!("reading {}", script.display());
        let text = fs::read(script).with_context(reading)?;
        let mut archive = Writer::new(Vec::new(), 0);
        let packed = archive
            .add("grub.cfg", Kind::File, 0o644, &text)
            .and_then(|()| archive.finish())
            .context("packing the script")?;
        let scratch = tempfile::tempdir().context("creating a folder")?;
        let (memory, begin) = (scratch.path().join("memory"), scratch.path().join("begin"));
        for (file, content) in [(&memory, packed.as_slice()), (&begin, BEGIN.as_bytes())] {
            fs::write(file, content).with_context(|| format!("writing {}", file.display()))?;
        }
        let output = folder.join(image.name);
        process::run(
            self.command("grub-mkimage")
                .arg("--directory")
                .arg(&self.modules)
                .args(["--format", image.format])
                .arg("--memdisk")
                .arg(&memory)
                .arg("--config")
                .arg(&begin)
                // Behind the memory disk, which has another one.
                .args(["--prefix", image.prefix])
                .arg("--output")
                .arg(&output)
                .args(MODULES)
                .args(image.modules),
        )?;
        let looking = || format!("looking at {}", output.display());
        Ok(fs::metadata(&output).with_context(looking)?.len())
    }
}
