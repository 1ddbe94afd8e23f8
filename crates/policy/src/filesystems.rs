//! `filesystems.toml`: how the persistent file systems are made and mounted.

use serde::Deserialize;

use crate::mounts::MountFlag;
use crate::{TableError, parse, table};

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSystems {
    /// In the order in which they are mounted.
    #[serde(rename = "filesystem")]
    pub filesystems: Vec<FileSystem>,
}

/// One file system on a partition of ours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSystem {
    /// The partition's and the file system's name: `STATE`, `ETCD`, `DATA`.
    pub name: String,
    /// Where it is mounted.
    pub target: String,
    /// The file system's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Arguments of `mke2fs`, without the label and the device.
    pub mkfs: Vec<String>,
    /// Arguments of `e2fsck`, without the device.
    pub fsck: Vec<String>,
    /// The generic mount flags.
    pub flags: Vec<MountFlag>,
    /// ext4's own mount options, ext4(5).
    pub data: String,
    /// Why the options are as they are.
    pub why: String,
}

impl FileSystems {
    /// The table of this image.
    pub fn embedded() -> Result<Self, TableError> {
        parse("filesystems.toml", table!("filesystems.toml"))
    }

    /// The file system of this name.
    pub fn get(&self, name: &str) -> Option<&FileSystem> {
        self.filesystems
            .iter()
            .find(|filesystem| filesystem.name == name)
    }
}
