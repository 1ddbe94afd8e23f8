//! `image.toml`: what an image is made of.

mod read;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use masthead_diagnostics::{Document, Report};
use serde::Serialize;

use crate::digest::Digest;

/// The whole manifest. Paths in it are relative to the root of the repository, where the build
/// runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Version of the image: letters, digits, dots, hyphens.
    pub version: String,
    /// The kernel and its modules.
    pub kernel: Kernel,
    /// What comes from Debian beside the kernel.
    pub debian: Debian,
    /// Where etcd and Kubernetes come from.
    pub components: Components,
    /// Further files of the root, by their place in it.
    pub files: Vec<ExtraFile>,
    /// What the result may not exceed.
    pub limits: Limits,
}

/// The kernel and its modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Debian's build of it: the package is the newest `linux-image-FLAVOUR`.
    pub flavour: Flavour,
    /// Its command line, word by word.
    pub command_line: Vec<String>,
    /// Drivers for devices, which a node loads when it finds the device. What it loads by name is
    /// in `configs/node/modules.toml`, and is in the image without being said here.
    pub modules: Vec<String>,
}

/// A build of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// For virtual machines: small, few drivers.
    Cloud,
    /// For metal.
    Full,
}

impl Flavour {
    /// The meta package that depends on the newest kernel of the flavour.
    pub const fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Full => "linux-image-amd64",
        }
    }
}

/// Programs from Debian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Debian {
    /// The release by its code name.
    pub suite: String,
    /// Packages from which the programs and their libraries are taken, systemd's EFI stub, and the boot loaders.
    pub packages: Vec<String>,
    /// Packages of programs that the build calls, with their libraries: nothing of these is in the image.
    pub tools: Vec<String>,
    /// Programs of these packages, by their place in the image.
    pub programs: Vec<String>,
    /// Other files of these packages, by their place in the image.
    pub files: Vec<String>,
}

/// Where etcd and Kubernetes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub enum Components {
    /// Compiled here, from a Go module that pins them.
    Build {
        /// Folder of the module.
        path: PathBuf,
    },
    /// Programs that lie in a folder, each by its name.
    Directory {
        /// The folder.
        path: PathBuf,
        /// What the programs are.
        versions: Versions,
    },
    /// Programs that are fetched, each with its SHA-256.
    Urls {
        /// What is fetched.
        fetch: Vec<Fetch>,
        /// What the programs are.
        versions: Versions,
    },
}

/// Versions of components that were not built here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// Such as `v1.36.3`.
    pub kubernetes: String,
    /// Such as `3.6.16`.
    pub etcd: String,
}

/// One file to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetch {
    /// The program that it is or holds.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Its SHA-256.
    pub sha256: Digest,
    /// If it is a compressed tar archive: the path of the program in it.
    pub member: Option<String>,
}

/// A file of the repository that goes into the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtraFile {
    /// The file here.
    pub source: PathBuf,
    /// Its place in the root.
    pub target: String,
    /// Its permissions.
    pub mode: u32,
}

/// What the result may not exceed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of the unified kernel image.
    pub uki: u64,
}

/// The programs that a node cannot do without.
pub const PROGRAMS: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

/// Those that an image has when its components bring them.
pub const OPTIONAL_PROGRAMS: &[&str] = &["etcdctl", "etcdutl", "konnectivity-server", "kubectl"];

impl Manifest {
    /// Reads a manifest from text; `file` names it in the report.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, Report> {
        let document = Document::decode(file, text)?;
        let (manifest, report) = document.read(read::manifest);
        manifest.ok_or(report)
    }

    /// Reads a manifest from a file. The error is a [`Report`] if the file is wrong.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path)
            .with_context(|| format!("reading the image manifest {}", path.display()))?;
        Ok(Self::parse(&path.display().to_string(), &text)?)
    }

    /// Every package that the build needs, as the manifest calls it.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.kernel.flavour.package())
            .chain(self.debian.packages.iter().map(String::as_str))
            .chain(self.debian.tools.iter().map(String::as_str))
    }
}
