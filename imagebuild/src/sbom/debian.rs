//! Debian packages: who made them, and under which licences they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::spdx::{self, Package, UNKNOWN};
use crate::lock;
use crate::process;

/// Describes a package from its file and from what was unpacked of it. Texts of licences without
/// an SPDX identifier are added to `licenses`.
pub(super) fn describe(
    package: &lock::Package,
    suite: &str,
    file: &Path,
    unpacked: &Path,
    licenses: &mut BTreeMap<String, String>,
) -> Result<Package> {
    let format = "--showformat=${Maintainer}\n${source:Package}\n${source:Version}\n";
    let fields = process::output(Command::new("dpkg-deb").arg("--show").arg(format).arg(file))?;
    let mut fields = fields.lines();
    let mut next = || fields.next().unwrap_or(UNKNOWN);
    let (maintainer, source, source_version) = (next(), next(), next());
    let copyright = copyright_file(&package.name, unpacked);
    let copyright = fs::read_to_string(&copyright)
        .with_context(|| format!("reading {}", copyright.display()))?;
    Ok(Package::new("debian", &package.name, &package.version)
        .supplier("Organization: Debian")
        .originator(&format!("Organization: {maintainer}"))
        .source(format!("source package {source} {source_version}"))
        .license(&expression(&package.name, &copyright, licenses))
        .sha256(package.sha256)
        .purl(format!(
            "pkg:deb/debian/{}@{}?arch=amd64&distro={suite}",
            package.name.replace('+', "%2B"),
            package.version.replace('+', "%2B")
        )))
}

/// Where it is, in the unpacked package, or beside that in one of the same source to which its folder is a link (Debian policy, 12.5).
fn copyright_file(package: &str, unpacked: &Path) -> PathBuf {
    let folder = |unpacked: &Path, name: &Path| unpacked.join("usr/share/doc").join(name);
    let own = folder(unpacked, Path::new(package));
    let folder = match fs::read_link(&own) {
        Ok(other) => folder(&unpacked.with_file_name(&other), &other),
        Err(_) => own,
    };
    folder.join("copyright")
}

/// All licences of a machine-readable copyright file (Debian's copyright-format 1.0), of which the
/// binary may be under any: the file speaks of the source.
fn expression(package: &str, copyright: &str, licenses: &mut BTreeMap<String, String>) -> String {
    if !copyright.starts_with("Format:") {
        let id = format!("LicenseRef-Debian-{}", spdx::identifier(package));
        licenses.insert(id.clone(), copyright.to_owned());
        return id;
    }
    let mut terms = BTreeSet::new();
    for paragraph in copyright.split("\n\n") {
        let Some(name) = paragraph
            .lines()
            .find_map(|line| line.strip_prefix("License:"))
            .map(str::trim)
            .filter(|name| !name.is_empty())
        else {
            continue;
        };
        let term = name.split(" and ").map(|alternatives| {
            let alternatives: Vec<_> = alternatives
                .split(" or ")
                .map(|name| simple(package, name.trim(), paragraph, licenses))
                .collect();
            match alternatives.as_slice() {
                [one] => one.clone(),
                several => format!("({})", several.join(" OR ")),
            }
        });
        terms.extend(term);
    }
    if terms.is_empty() {
        return UNKNOWN.to_owned();
    }
    terms.into_iter().collect::<Vec<_>>().join(" AND ")
}

/// Debian's short name as SPDX's identifier, or as one of our own that comes with its text.
fn simple(
    package: &str,
    name: &str,
    paragraph: &str,
    licenses: &mut BTreeMap<String, String>,
) -> String {
    let known = match name {
        "0BSD" | "BSL-1.0" | "CC0-1.0" | "FSFAP" | "ISC" | "Unicode-DFS-2016" => name,
        "Apache-2" | "Apache-2.0" => "Apache-2.0",
        "BSD-2-clause" | "BSD-2-Clause" => "BSD-2-Clause",
        "BSD-3-clause" | "BSD-3-Clause" => "BSD-3-Clause",
        "BSD-4-clause" => "BSD-4-Clause",
        "Expat" => "MIT",
        "GPL-2" => "GPL-2.0-only",
        "GPL-2+" => "GPL-2.0-or-later",
        "GPL-2 with Linux-syscall-note exception" => "GPL-2.0-only WITH Linux-syscall-note",
        "GPL-3+" => "GPL-3.0-or-later",
        "LGPL-2" => "LGPL-2.0-only",
        "LGPL-2+" => "LGPL-2.0-or-later",
        "LGPL-2.1" => "LGPL-2.1-only",
        "LGPL-2.1+" => "LGPL-2.1-or-later",
        "LGPL-3+" => "LGPL-3.0-or-later",
        _ => {
            let id = format!(
                "LicenseRef-Debian-{}-{}",
                spdx::identifier(package),
                spdx::identifier(name)
            );
            // The text stands once; other paragraphs only name it.
            let text = licenses.entry(id.clone()).or_default();
            if text.len() < paragraph.len() {
                paragraph.clone_into(text);
            }
            return id;
        }
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_translated_or_quoted() {
        let mut licenses = BTreeMap::new();
        let text = "Format: 1.0\n\nFiles: *\nLicense: GPL-2+\n\nFiles: a\nLicense: Expat or Kazlib\n\n\
                    License: Kazlib\n All rights reserved, but take it.\n";
        assert_eq!(
            expression("e2fsprogs", text, &mut licenses),
            "(MIT OR LicenseRef-Debian-e2fsprogs-Kazlib) AND GPL-2.0-or-later AND \
             LicenseRef-Debian-e2fsprogs-Kazlib"
        );
        assert!(licenses["LicenseRef-Debian-e2fsprogs-Kazlib"].contains("take it"));
    }

    #[test]
    fn a_folder_that_is_a_link_leads_to_another_package() {
        let store = tempfile::tempdir().expect("a folder for the test");
        let unpacked = store.path().join("grub-pc-bin");
        let documents = unpacked.join("usr/share/doc");
        fs::create_dir_all(&documents).expect("created");
        std::os::unix::fs::symlink("grub-common", documents.join("grub-pc-bin")).expect("linked");
        let found = |package: &str| copyright_file(package, &unpacked);
        let other = store.path().join("grub-common/usr/share/doc/grub-common");
        assert_eq!(found("grub-pc-bin"), other.join("copyright"));
        assert_eq!(found("x"), documents.join("x/copyright"));
    }

    #[test]
    fn a_file_for_people_is_quoted_whole() {
        let mut licenses = BTreeMap::new();
        assert_eq!(
            expression("x", "Do as you like.", &mut licenses),
            "LicenseRef-Debian-x"
        );
        assert_eq!(licenses["LicenseRef-Debian-x"], "Do as you like.");
    }
}
