//! The programs of the build machine that the build calls.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// A program, and the Debian package (or else the advice) that brings it.
struct Tool {
    program: &'static str,
    source: Source,
}

enum Source {
    Debian(&'static str),
    Advice(&'static str),
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "apt-get",
        source: Source::Debian("apt"),
    },
    Tool {
        program: "apt-cache",
        source: Source::Debian("apt"),
    },
    Tool {
        program: "dpkg-deb",
        source: Source::Debian("dpkg"),
    },
    Tool {
        program: "mkfs.erofs",
        source: Source::Debian("erofs-utils"),
    },
    Tool {
        program: "xorriso",
        source: Source::Debian("xorriso"),
    },
    Tool {
        program: "cargo",
        source: Source::Advice("Rust 1.90 or newer, best by rustup"),
    },
];

/// Only for components that are built here.
const GO: Tool = Tool {
    program: "go",
    source: Source::Advice("Go 1.26 or newer, from its download page or Debian's golang-go"),
};

/// Only for components that come in archives.
const TAR: Tool = Tool {
    program: "tar",
    source: Source::Debian("tar"),
};

/// What a build needs beside the tools that every build needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    Nothing,
    /// The Go tool chain.
    Go,
    /// An unpacker of archives.
    Tar,
}

/// Fails with one message that names every missing program and what to install for it.
pub fn require(extra: Extra) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // System programs are not in everybody's search path, yet can be called by everybody.
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .collect();
    let there = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    match complaint(extra, there) {
        None => Ok(()),
        Some(text) => bail!(text),
    }
}

fn complaint(extra: Extra, there: impl Fn(&str) -> bool) -> Option<String> {
    let extra = match extra {
        Extra::Nothing => None,
        Extra::Go => Some(&GO),
        Extra::Tar => Some(&TAR),
    };
    let missing: Vec<&Tool> = TOOLS
        .iter()
        .chain(extra)
        .filter(|tool| !there(tool.program))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let names: Vec<_> = missing.iter().map(|tool| tool.program).collect();
    let mut text = format!("missing on this machine: {}", names.join(", "));
    let mut packages: Vec<_> = missing
        .iter()
        .filter_map(|tool| match tool.source {
            Source::Debian(package) => Some(package),
            Source::Advice(_) => None,
        })
        .collect();
    packages.dedup();
    if !packages.is_empty() {
        let _ = write!(
            text,
            "\n  install with: apt-get install {}",
            packages.join(" ")
        );
    }
    for tool in missing {
        if let Source::Advice(advice) = tool.source {
            let _ = write!(text, "\n  {}: {advice}", tool.program);
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_missing_is_said_at_once() {
        let text = complaint(Extra::Go, |program| program == "dpkg-deb").expect("a complaint");
        assert_eq!(
            text,
            "missing on this machine: apt-get, apt-cache, mkfs.erofs, xorriso, cargo, go\n  \
             install with: apt-get install apt erofs-utils xorriso\n  \
             cargo: Rust 1.90 or newer, best by rustup\n  \
             go: Go 1.26 or newer, from its download page or Debian's golang-go"
        );
    }

    #[test]
    fn nothing_is_said_when_all_is_there() {
        assert_eq!(complaint(Extra::Tar, |_| true), None);
    }
}
