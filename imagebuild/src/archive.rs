//! Debian's archive, through apt, with private lists and folders.
//!
//! apt does what it is good at: it verifies the archive's signature against Debian's keyring,
//! follows it down to each package's SHA-256, and knows how the host reaches the network. The host's
//! own lists, sources, preferences and hooks are neither used nor changed; only how to connect
//! (`Acquire`: proxies and certificates) and the mirror's address are taken over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::digest::Digest;
use crate::files;
use crate::process;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the packages come from, when the host's own configuration shall not decide.
#[derive(Debug, Clone, Default)]
pub struct Mirrors {
    /// Base address of the main archive, as in `deb ADDRESS trixie main`.
    pub main: Option<String>,
    /// Base address of the security archive.
    pub security: Option<String>,
}

/// A view of one release of the archive.
pub struct Archive {
    folder: PathBuf,
}

/// A package file that the archive has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// Name of the package.
    pub name: String,
    /// Debian's version.
    pub version: String,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// What it depends on, as the archive writes it.
    pub depends: String,
}

impl Archive {
    /// Writes the private configuration below `folder` and fetches the lists of `suite`, its
    /// updates and its security updates.
    pub fn open(folder: &Path, suite: &str, mirrors: &Mirrors) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "{KEYRING} is missing, without which packages cannot be verified: \
             apt-get install debian-archive-keyring"
        );
        let archive = Self {
            folder: std::path::absolute(folder).context("making the apt folder absolute")?,
        };
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        for below in ["lists/partial", "archives/partial"] {
            files::folder(folder, below)?;
        }
        files::write_atomically(&folder.join("status"), b"")?;
        let mirrors = Self::found(mirrors)?;
        files::write_atomically(
            &folder.join("sources.list"),
            sources(suite, &mirrors).as_bytes(),
        )?;
        let how_to_connect = process::output(Command::new("apt-config").args(["dump", "Acquire"]))?;
        files::write_atomically(
            &folder.join("apt.conf"),
            configuration(&archive.folder, &how_to_connect).as_bytes(),
        )?;
        process::run(archive.apt("apt-get").args(["update", "--error-on=any"]))
            .with_context(|| format!("fetching the package lists of {suite}"))?;
        Ok(archive)
    }

    /// The given mirrors, or those that the host itself uses.
    fn found(given: &Mirrors) -> Result<Mirrors> {
        let mut found = given.clone();
        if found.main.is_none() || found.security.is_none() {
            let targets = process::output(Command::new("apt-get").args([
                "indextargets",
                "--format",
                "$(ORIGIN)|$(LABEL)|$(REPO_URI)",
            ]))?;
            let of_label = |label: &str| {
                targets.lines().find_map(|line| {
                    let address = line.strip_prefix("Debian|")?.strip_prefix(label)?;
                    Some(address.strip_prefix('|')?.trim_end_matches('/').to_owned())
                })
            };
            found.main = found.main.or_else(|| of_label("Debian"));
            found.security = found.security.or_else(|| of_label("Debian-Security"));
        }
        ensure!(
            found.main.is_some(),
            "this machine's apt knows no Debian mirror (or has not fetched its lists yet): \
             run `apt-get update`, or give one with --mirror ADDRESS"
        );
        Ok(found)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.folder.join("archives"));
        command
    }

    /// The newest version of each package; one error names all that the archive does not have.
    pub fn newest(&self, names: &[&str]) -> Result<Vec<Available>> {
        let found = self.show(names)?;
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !found.iter().any(|package| package.name == **name))
            .copied()
            .collect();
        ensure!(
            missing.is_empty(),
            "the archive has no package {}",
            missing.join(", ")
        );
        Ok(found)
    }

    /// The package of exactly this version, if the archive still has it.
    pub fn exactly(&self, name: &str, version: &str) -> Result<Option<Available>> {
        Ok(self.show(&[&format!("{name}={version}")])?.pop())
    }

    fn show(&self, names: &[&str]) -> Result<Vec<Available>> {
        // A package that is not there is not an error here but an absent paragraph.
        let output = self
            .apt("apt-cache")
            .args(["show", "--no-all-versions", "--quiet=2", "--"])
            .args(names)
            .output()
            .context("starting apt-cache show")?;
        let text = String::from_utf8(output.stdout).context("reading the output of apt-cache")?;
        paragraphs(&text)
    }

    /// Fetches a package file and moves it to `target`, if it has the expected digest.
    pub fn fetch(&self, name: &str, version: &str, expected: Digest, target: &Path) -> Result<()> {
        let parent = target.parent().context("a package is kept in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        let scratch = tempfile::tempdir_in(parent)
            .with_context(|| format!("creating a folder in {}", parent.display()))?;
        process::run(
            self.apt("apt-get")
                .args(["download", &format!("{name}={version}")])
                .current_dir(scratch.path()),
        )
        .with_context(|| format!("fetching {name} {version}"))?;
        let files = files::walk(scratch.path())?;
        let [_, file] = files.as_slice() else {
            bail!("apt-get download left {} files for {name}", files.len() - 1);
        };
        let file = scratch.path().join(file);
        let digest = Digest::of_file(&file)?;
        ensure!(
            digest == expected,
            "{name} {version} has SHA-256 {digest}, the lock has {expected}: \
             this is not the package that was locked, and it is not used"
        );
        fs::rename(&file, target).with_context(|| format!("keeping {}", target.display()))
    }
}

fn sources(suite: &str, mirrors: &Mirrors) -> String {
    let line =
        |address: &str, suite: &str| format!("deb [signed-by={KEYRING}] {address} {suite} main\n");
    let mut text = String::new();
    if let Some(address) = &mirrors.main {
        text += &line(address, suite);
        text += &line(address, &format!("{suite}-updates"));
    }
    if let Some(address) = &mirrors.security {
        text += &line(address, &format!("{suite}-security"));
    }
    text
}

/// apt reads this file first (`APT_CONFIG`), and by its words none of the host's files after it.
fn configuration(folder: &Path, how_to_connect: &str) -> String {
    let folder = folder.display();
    format!(
        "{how_to_connect}
Dir::Etc::main \"/dev/null\";
Dir::Etc::parts \"/dev/null\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
Dir::Etc::sourcelist \"{folder}/sources.list\";
Dir::Etc::sourceparts \"/dev/null\";
Dir::State \"{folder}\";
Dir::State::lists \"{folder}/lists\";
Dir::State::status \"{folder}/status\";
Dir::Cache \"{folder}\";
Dir::Cache::archives \"{folder}/archives\";
APT::Architecture \"amd64\";
APT::Architectures {{ \"amd64\"; }};
APT::Sandbox::User \"root\";
Acquire::Languages \"none\";
Acquire::Retries \"3\";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";
"
    )
}

/// Reads what `apt-cache show` prints: paragraphs of `Key: value`, long values indented.
fn paragraphs(text: &str) -> Result<Vec<Available>> {
    text.split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty())
        .map(|paragraph| {
            let field = |key: &str| {
                paragraph
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
            };
            let needed = |key: &str| {
                field(key).with_context(|| format!("apt-cache shows a package without {key}"))
            };
            Ok(Available {
                name: needed("Package")?.to_owned(),
                version: needed("Version")?.to_owned(),
                size: needed("Size")?
                    .parse()
                    .context("reading a package's size")?,
                sha256: needed("SHA256")?.parse()?,
                depends: field("Depends").unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_read() {
        let digest = Digest::of(b"");
        let text = format!(
            "Package: linux-image-cloud-amd64\nVersion: 6.12.117-1\n\
             Depends: linux-image-6.12.117+deb13-cloud-amd64 (= 6.12.117-1)\nSize: 1400\n\
             Description: Linux\n of any size\nSHA256: {digest}\n\n\n"
        );
        let found = paragraphs(&text).expect("well-formed");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].version, "6.12.117-1");
        assert_eq!(found[0].size, 1400);
        assert!(found[0].depends.starts_with("linux-image-6.12.117"));
        assert!(paragraphs("Package: a\nVersion: 1\n").is_err());
    }

    #[test]
    fn sources_name_three_parts_of_the_archive() {
        let mirrors = Mirrors {
            main: Some("file:/main".to_owned()),
            security: Some("file:/security".to_owned()),
        };
        let text = sources("trixie", &mirrors);
        let suites: Vec<_> = text
            .lines()
            .filter_map(|line| line.split(' ').nth(3))
            .collect();
        assert_eq!(suites, ["trixie", "trixie-updates", "trixie-security"]);
        assert!(text.lines().all(|line| line.contains("signed-by=")));
    }
}
