//! `mounts.toml`: the file systems that PID 1 mounts, in order.

use serde::Deserialize;

use crate::{TableError, Where, parse, table};

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mounts {
    /// In the order in which they are mounted.
    #[serde(rename = "mount")]
    pub mounts: Vec<Mount>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The device, or for a virtual file system the name to be shown.
    pub source: String,
    /// The absolute path; PID 1 makes the directory where the parent is writable.
    pub target: String,
    /// The file system's type, as in `/proc/filesystems`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The generic flags.
    #[serde(default)]
    pub flags: Vec<MountFlag>,
    /// Options of the file system itself, as for mount(2).
    #[serde(default)]
    pub data: Option<String>,
    /// On which nodes.
    #[serde(default, rename = "where")]
    pub on: Where,
    /// Whether a kernel may lack this file system; then its absence is only reported.
    #[serde(default)]
    pub optional: bool,
}

/// A generic mount flag, as `/proc/self/mountinfo` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountFlag {
    /// `MS_RDONLY`
    Ro,
    /// `MS_NOSUID`
    Nosuid,
    /// `MS_NODEV`
    Nodev,
    /// `MS_NOEXEC`
    Noexec,
    /// `MS_NOATIME`
    Noatime,
    /// `MS_RELATIME`
    Relatime,
    /// `MS_LAZYTIME`
    Lazytime,
    /// `MS_NOSYMFOLLOW`
    Nosymfollow,
}

impl MountFlag {
    /// As the kernel spells it in `/proc/self/mounts`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ro => "ro",
            Self::Nosuid => "nosuid",
            Self::Nodev => "nodev",
            Self::Noexec => "noexec",
            Self::Noatime => "noatime",
            Self::Relatime => "relatime",
            Self::Lazytime => "lazytime",
            Self::Nosymfollow => "nosymfollow",
        }
    }
}

impl Mounts {
    /// The table of this image.
    pub fn embedded() -> Result<Self, TableError> {
        parse("mounts.toml", table!("mounts.toml"))
    }

    /// The mounts of a machine (`true`) or of a namespace node (`false`), in order.
    pub fn on(&self, machine: bool) -> impl Iterator<Item = &Mount> {
        self.mounts
            .iter()
            .filter(move |mount| mount.on.holds_on(machine))
    }
}
