//! Go modules that a program is linked from, as the linker recorded them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::spdx::{Package, UNKNOWN};
use crate::digest::Memory;
use crate::process;

/// Describes every module in a program, and the standard library.
pub(super) fn describe(program: &Path, memory: &Memory) -> Result<Vec<Package>> {
    let listing = process::output(Command::new("go").args(["version", "-m"]).arg(program))?;
    let cache = process::output(Command::new("go").args(["env", "GOMODCACHE"]))?;
    let cache = PathBuf::from(cache.trim());
    let (compiler, modules) = linked(&listing);
    let mut packages = vec![
        Package::new("go", "stdlib", compiler)
            .supplier("Organization: The Go Authors")
            .license("BSD-3-Clause")
            .purl(format!(
                "pkg:golang/stdlib@{}",
                compiler.trim_start_matches("go")
            )),
    ];
    for module in modules {
        let folder = cache.join(format!(
            "{}@{}",
            escaped(module.path),
            escaped(module.version)
        ));
        let archive = cache
            .join("cache/download")
            .join(escaped(module.path))
            .join("@v")
            .join(format!("{}.zip", escaped(module.version)));
        let mut package = Package::new("go", module.path, module.version)
            .supplier(&format!("Organization: {}", publisher(module.path)))
            .license(license(&folder)?)
            .source(format!("go.sum {}", module.sum))
            .purl(format!("pkg:golang/{}@{}", module.path, module.version));
        if archive.is_file() {
            package = package.sha256(memory.file(&archive)?);
        }
        packages.push(package);
    }
    Ok(packages)
}

#[derive(Debug, PartialEq, Eq)]
struct Module<'a> {
    path: &'a str,
    version: &'a str,
    sum: &'a str,
}

/// Reads `go version -m`: the compiler, and the modules; a replacement takes its module's place.
fn linked(listing: &str) -> (&str, Vec<Module<'_>>) {
    let compiler = listing
        .lines()
        .next()
        .and_then(|line| line.rsplit(": ").next())
        .unwrap_or(UNKNOWN);
    let mut modules = Vec::new();
    for line in listing.lines().skip(1) {
        let words: Vec<_> = line.trim().split('\t').collect();
        match words.as_slice() {
            ["dep", path, version, rest @ ..] => modules.push(Module {
                path,
                version,
                sum: rest.first().copied().unwrap_or_default(),
            }),
            ["=>", path, version, sum] => {
                modules.pop();
                modules.push(Module { path, version, sum });
            }
            _ => {}
        }
    }
    (compiler, modules)
}

/// How the module cache writes names for file systems that ignore case: `!` and the small letter.
fn escaped(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, letter| {
        if letter.is_ascii_uppercase() {
            text.push('!');
        }
        text.push(letter.to_ascii_lowercase());
        text
    })
}

/// The host, and on a forge its owner: `github.com/spf13`, `k8s.io`.
fn publisher(path: &str) -> String {
    let mut parts = path.split('/');
    match (parts.next(), parts.next()) {
        (Some("github.com"), Some(owner)) => format!("github.com/{owner}"),
        (Some(host), _) => host.to_owned(),
        (None, _) => UNKNOWN.to_owned(),
    }
}

/// The licence of a module, by the words of its licence file.
fn license(folder: &Path) -> Result<&'static str> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(UNKNOWN);
    };
    let mut files: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_lowercase();
            path.is_file() && (name.starts_with("licen") || name.starts_with("copying"))
        })
        .collect();
    files.sort();
    for file in files {
        let text = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        if let Some(found) = recognised(&String::from_utf8_lossy(&text)) {
            return Ok(found);
        }
    }
    Ok(UNKNOWN)
}

/// The identifier of a licence text.
fn recognised(text: &str) -> Option<&'static str> {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let has = |phrase: &str| words.contains(phrase);
    if has("Apache License") && has("Version 2.0") {
        Some("Apache-2.0")
    } else if has("Mozilla Public License") && has("2.0") {
        Some("MPL-2.0")
    } else if has("Permission is hereby granted, free of charge, to any person") {
        Some("MIT")
    } else if has(
        "Permission to use, copy, modify, and/or distribute this software for any purpose",
    ) || has(
        "Permission to use, copy, modify, and distribute this software for any purpose",
    ) {
        Some("ISC")
    } else if has("Redistribution and use in source and binary forms") {
        let third = has("Neither the name")
            || has("names of its contributors")
            || has("may not be used to endorse");
        Some(if third {
            "BSD-3-Clause"
        } else {
            "BSD-2-Clause"
        })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_takes_its_modules_place() {
        let listing = "program: go1.26.8\n\tpath\tmasthead.dev/components\n\tmod\tm\t(devel)\t\n\
                       \tdep\ta.example/one\tv1.0.0\th1:a=\n\tdep\tk8s.io/api\tv0.0.0\n\
                       \t=>\tk8s.io/api\tv0.36.3\th1:b=\n\tbuild\t-compiler=gc\n";
        let (compiler, modules) = linked(listing);
        assert_eq!(compiler, "go1.26.8");
        assert_eq!(modules.len(), 2);
        assert_eq!(
            modules[1],
            Module {
                path: "k8s.io/api",
                version: "v0.36.3",
                sum: "h1:b="
            }
        );
    }

    #[test]
    fn names_are_escaped_as_in_the_module_cache() {
        assert_eq!(
            escaped("github.com/NYTimes/gziphandler"),
            "github.com/!n!y!times/gziphandler"
        );
    }

    #[test]
    fn licences_are_recognised_across_line_breaks() {
        assert_eq!(
            recognised("Apache License\n  Version 2.0, January 2004"),
            Some("Apache-2.0")
        );
        assert_eq!(
            recognised(
                "Redistribution and use in source\nand binary forms ... Neither the\nname of"
            ),
            Some("BSD-3-Clause")
        );
        assert_eq!(recognised("Do as you like."), None);
    }
}
