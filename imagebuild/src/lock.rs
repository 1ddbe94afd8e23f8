//! `image.lock`: name, version and SHA-256 of every fetched Debian package, and the image's time.
//!
//! Go modules are locked by `components/go.sum`, crates by `Cargo.lock`, and components from
//! elsewhere by the digests in the manifest; what Debian's archive delivers is locked here.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::files;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The image's build time (Unix seconds), unless SOURCE_DATE_EPOCH says otherwise: when the lock
    /// was last changed. It is the time of every file, and a node's clock is never earlier.
    pub time: u64,
    /// Debian's release by its code name.
    pub suite: String,
    /// What was fetched, by name.
    #[serde(rename = "package", default)]
    pub packages: Vec<Package>,
}

/// One binary package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The manifest asked for this instead: a meta package that stands for the newest of its kind.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub newest_of: Option<String>,
    /// Debian's version of it.
    pub version: String,
    /// Bytes of the package file.
    pub size: u64,
    /// SHA-256 of the package file.
    pub sha256: Digest,
}

impl Package {
    /// What the manifest calls it.
    pub fn wanted(&self) -> &str {
        self.newest_of.as_deref().unwrap_or(&self.name)
    }
}

const PREFACE: &str = "\
# What Debian's archive delivers for the image. Written by `imagebuild lock --update`;
# `imagebuild lock --check` says whether the archive has something newer.
";

impl Lock {
    /// Reads the file; `None` when there is none yet.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let lock = toml::from_str(&text).with_context(|| {
            format!(
                "{} is damaged; restore it, or write it anew with `imagebuild lock --update`",
                path.display()
            )
        })?;
        Ok(Some(lock))
    }

    /// Replaces the file.
    pub fn store(&self, path: &Path) -> Result<()> {
        files::write_atomically(path, self.text()?.as_bytes())
    }

    fn text(&self) -> Result<String> {
        let text = toml::to_string(self).context("writing the lock as TOML")?;
        Ok(format!("{PREFACE}{text}"))
    }

    /// The package that the manifest calls `wanted`.
    pub fn package(&self, wanted: &str) -> Option<&Package> {
        self.packages
            .iter()
            .find(|package| package.wanted() == wanted)
    }
}

/// The series of a version: the upstream version's first two numbers. Within a series a Debian
/// release only fixes faults.
///
/// `6.12.117-1` and `1:6.12.9+deb13` are both of the series 6.12.
pub fn series(version: &str) -> &str {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    let mut dots = 0;
    let end = upstream
        .find(|letter: char| {
            dots += usize::from(letter == '.');
            !letter.is_ascii_digit() && (letter != '.' || dots == 2)
        })
        .unwrap_or(upstream.len());
    &upstream[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_two_numbers() {
        assert_eq!(series("6.12.117-1"), "6.12");
        assert_eq!(series("1:6.12.9+deb13u1"), "6.12");
        assert_eq!(series("257.13-1~deb13u1"), "257.13");
        assert_eq!(series("2.41-12+deb13u4"), "2.41");
        assert_eq!(series("20250419"), "20250419");
        assert_eq!(series("5-1"), "5");
    }

    #[test]
    fn the_lock_survives_its_file() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("image.lock");
        assert_eq!(Lock::load(&path).expect("loading"), None);
        let lock = Lock {
            time: 1_700_000_000,
            suite: "trixie".to_owned(),
            packages: vec![Package {
                name: "linux-image-6.12.117+deb13-cloud-amd64".to_owned(),
                newest_of: Some("linux-image-cloud-amd64".to_owned()),
                version: "6.12.117-1".to_owned(),
                size: 1,
                sha256: Digest::of(b""),
            }],
        };
        lock.store(&path).expect("storing");
        let loaded = Lock::load(&path).expect("loading").expect("a lock");
        assert_eq!(loaded, lock);
        assert!(loaded.package("linux-image-cloud-amd64").is_some());
        std::fs::write(&path, "time = 'yesterday'").expect("damaging");
        let error = Lock::load(&path).expect_err("damage");
        assert!(format!("{error:#}").contains("lock --update"));
    }
}
