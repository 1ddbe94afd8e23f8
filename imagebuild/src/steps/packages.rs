//! Fetches the locked packages and unpacks each into a folder of its name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::Build;
use crate::archive::{Archive, Available};
use crate::cache::Made;
use crate::digest::Inputs;
use crate::lock::{Lock, Package, series};
use crate::manifest::Manifest;
use crate::process;
use crate::progress::{Line, megabytes};

/// The unpacked packages, and which they are in the end.
pub struct Packages {
    /// Where they are: `NAME/usr/…`.
    pub made: Made,
    /// The lock, or what was taken instead of what the archive has dropped.
    pub lock: Lock,
}

impl Packages {
    /// The folder into which a package was unpacked.
    pub fn folder(&self, package: &Package) -> PathBuf {
        self.made.path.join(&package.name)
    }

    /// The locked package that the manifest calls `wanted`.
    pub fn package(&self, wanted: &str) -> Result<&Package> {
        self.lock
            .package(wanted)
            .with_context(|| format!("the lock has no {wanted}"))
    }

    /// A file of the image's file system, looked for in every package. Debian has moved
    /// everything below `/usr`; programs are still known by their old names.
    pub fn find(&self, path: &str) -> Option<(&Package, PathBuf)> {
        let below = path.trim_start_matches('/');
        self.lock.packages.iter().find_map(|package| {
            let folder = self.folder(package);
            [folder.join(below), folder.join("usr").join(below)]
                .into_iter()
                .find(|file| file.is_file())
                .map(|file| (package, file))
        })
    }
}

/// Where the package file with this digest is kept.
pub fn kept(store: &Path, package: &Package) -> PathBuf {
    store.join(format!("{}.deb", package.sha256))
}

/// The step.
pub fn unpack(build: &Build<'_>) -> Result<Packages> {
    let line = build.progress.line("packages");
    let store = build.cache.place("packages");
    let lock = fetch(build, &store, &line)?;
    let inputs = lock
        .packages
        .iter()
        .fold(Inputs::of_step("packages", 1), |inputs, package| {
            inputs.digest(&package.name, package.sha256)
        });
    let made = build.cache.step("packages", inputs, line, |folder, line| {
        line.doing("unpacking");
        for package in &lock.packages {
            process::run(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(kept(&store, package))
                    .arg(folder.join(&package.name)),
            )?;
        }
        let size = lock.packages.iter().map(|package| package.size).sum();
        Ok(format!(
            "{} packages, {}",
            lock.packages.len(),
            megabytes(size)
        ))
    })?;
    Ok(Packages { made, lock })
}

/// Fetches what is not there yet; returns the lock as it holds for this build.
fn fetch(build: &Build<'_>, store: &Path, line: &Line) -> Result<Lock> {
    let mut lock = build.lock.clone();
    let absent = |package: &Package| !kept(store, package).is_file();
    if !lock.packages.iter().any(absent) {
        return Ok(lock);
    }
    line.doing("asking the archive");
    let archive = Archive::open(&build.cache.place("apt"), &lock.suite, build.mirrors)?;
    for package in lock.packages.iter_mut().filter(|package| absent(package)) {
        if archive.exactly(&package.name, &package.version)?.is_none() {
            substitute(build, &archive, package)?;
        }
    }
    line.of_bytes(
        lock.packages
            .iter()
            .filter(|package| absent(package))
            .map(|package| package.size)
            .sum(),
    );
    for package in lock.packages.iter().filter(|package| absent(package)) {
        line.doing(&format!("fetching {} {}", package.name, package.version));
        let target = kept(store, package);
        archive.fetch(&package.name, &package.version, package.sha256, &target)?;
        line.advance(package.size);
    }
    Ok(lock)
}

/// Takes the newest of the same series in place of a version that the archive has dropped.
fn substitute(build: &Build<'_>, archive: &Archive, package: &mut Package) -> Result<()> {
    let dropped = format!(
        "the archive no longer has {} {}",
        package.name, package.version
    );
    if build.locked {
        bail!(
            "{dropped}, and --locked allows no other; `imagebuild lock --update` locks what it has now"
        );
    }
    let newest = resolve_one(archive, package.wanted())?;
    ensure!(
        series(&newest.version) == series(&package.version),
        "{dropped}; the newest is {} of another series: \
         look at it, then run `imagebuild lock --update`",
        newest.version
    );
    build.progress.notice(&format!(
        "NOTICE: {dropped}; building with {} {} of the same series instead. \
         `imagebuild lock --update` makes it the locked one.",
        newest.name, newest.version
    ));
    *package = newest;
    Ok(())
}

/// The newest version of everything that a manifest wants, as a lock.
pub fn resolve(archive: &Archive, manifest: &Manifest, time: u64) -> Result<Lock> {
    let mut packages = manifest
        .packages()
        .map(|wanted| resolve_one(archive, wanted))
        .collect::<Result<Vec<_>>>()?;
    packages.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Lock {
        time,
        suite: manifest.debian.suite.clone(),
        packages,
    })
}

/// The newest version of a package; the real one, where `wanted` only stands for the newest kernel.
fn resolve_one(archive: &Archive, wanted: &str) -> Result<Package> {
    let newest = |name: &str| -> Result<Available> {
        archive
            .newest(&[name])?
            .pop()
            .with_context(|| format!("the archive shows nothing for {name}"))
    };
    let found = newest(wanted)?;
    // A meta package depends on the real one with exactly its own version.
    let exact = format!(" (= {})", found.version);
    let real = wanted
        .starts_with("linux-image-")
        .then(|| {
            found
                .depends
                .split(", ")
                .find_map(|dependency| dependency.strip_suffix(&exact))
        })
        .flatten();
    let (found, newest_of) = match real {
        Some(real) => (newest(real)?, Some(wanted.to_owned())),
        None => (found, None),
    };
    Ok(Package {
        name: found.name,
        newest_of,
        version: found.version,
        size: found.size,
        sha256: found.sha256,
    })
}

/// Why a lock does not serve a manifest; empty if it does.
pub fn mismatches(manifest: &Manifest, lock: &Lock) -> Vec<String> {
    let mut found = Vec::new();
    if lock.suite != manifest.debian.suite {
        found.push(format!(
            "the lock is for {}, the manifest for {}",
            lock.suite, manifest.debian.suite
        ));
    }
    found.extend(
        manifest
            .packages()
            .filter(|wanted| lock.package(wanted).is_none())
            .map(|wanted| format!("the lock has no {wanted}")),
    );
    let wanted: Vec<_> = manifest.packages().collect();
    found.extend(
        lock.packages
            .iter()
            .filter(|package| !wanted.contains(&package.wanted()))
            .map(|package| format!("the manifest does not ask for {}", package.wanted())),
    );
    found
}

/// What a newer lock has that an older one has not, a line for each package.
pub fn differences(old: Option<&Lock>, new: &Lock) -> Vec<String> {
    let versions = |lock: &Lock| -> BTreeMap<String, (String, String)> {
        lock.packages
            .iter()
            .map(|package| {
                let version = (package.version.clone(), package.sha256.to_string());
                (package.wanted().to_owned(), version)
            })
            .collect()
    };
    let old = old.map(versions).unwrap_or_default();
    let new = versions(new);
    let mut lines = Vec::new();
    for (name, (version, digest)) in &new {
        match old.get(name) {
            None => lines.push(format!("{name}: {version} is new")),
            Some((was, _)) if was != version => lines.push(format!("{name}: {was} → {version}")),
            Some((_, was)) if was != digest => {
                lines.push(format!("{name}: {version} has other bytes"));
            }
            Some(_) => {}
        }
    }
    lines.extend(
        old.iter()
            .filter(|(name, _)| !new.contains_key(*name))
            .map(|(name, (version, _))| format!("{name}: {version} is gone")),
    );
    lines
}

/// Removes package files that no lock has named for a while: everything but the locked ones.
pub fn prune(store: &Path, lock: &Lock) {
    let Ok(entries) = fs::read_dir(store) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if !lock
            .packages
            .iter()
            .any(|package| kept(store, package) == path)
        {
            // It would only take room.
            let _ = fs::remove_file(path);
        }
    }
}
