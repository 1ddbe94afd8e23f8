//! Compiles `init` and the first stage of the initramfs, so that the same source gives the same bytes wherever it lies.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Build;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::files;
use crate::process;
use crate::progress::megabytes;

/// What the binary is made of, besides the compiler.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    ".cargo",
    "init",
    "crates",
    "configs/node",
];

/// The two programs: of the root, and of the initramfs.
const PROGRAMS: [&str; 2] = ["init", "first-stage"];

/// The step: a folder with `init` and `first-stage`.
pub fn compile(build: &Build<'_>) -> Result<Made> {
    let line = build.progress.line("init");
    let compiler = process::output(Command::new("rustc").arg("-vV"))?;
    let mut inputs = Inputs::of_step("init", 2).text("compiler", &compiler);
    for source in SOURCES {
        inputs = inputs.digest(source, build.cache.memory().tree(&build.root.join(source))?);
    }
    build.cache.step("init", inputs, line, |folder, line| {
        line.doing("compiling");
        let binaries = cargo(&build.root, &build.cache.place("cargo"), build.time)?;
        let mut size = 0;
        for name in PROGRAMS {
            let binary = binaries.join(name);
            files::copy(&binary, folder, name, 0o755)?;
            let looking = || format!("looking at {name}");
            size += binary.metadata().with_context(looking)?.len();
        }
        Ok(megabytes(size))
    })
}

/// Runs cargo in a target folder of its own: its flags differ from those of everyday builds, and
/// would have them compile everything anew. Returns the folder of the programs.
fn cargo(root: &Path, target: &Path, time: u64) -> Result<PathBuf> {
    let root = std::path::absolute(root).context("naming the repository")?;
    let target = std::path::absolute(target).context("naming the target folder")?;
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")))
        .context("neither CARGO_HOME nor HOME says where cargo keeps its sources")?;
    // Warnings are what `make lint` is for; here they would hide an error.
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Awarnings".to_owned(),
    ];
    // The last that matches wins: the target folder may lie in the repository.
    for (path, name) in [
        (&home, "/cargo"),
        (&root, "/masthead"),
        (&target, "/target"),
    ] {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    }
    process::run(
        Command::new("cargo")
            .args([
                "build",
                "--quiet",
                "--profile=image",
                "--locked",
                "--package",
                "masthead-init",
                "--bins",
            ])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(&root)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env("SOURCE_DATE_EPOCH", time.to_string())
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET"),
    )?;
    Ok(target.join("x86_64-unknown-linux-gnu/image"))
}
