//! The tables under `configs/node/`, as types: what every node mounts, sets, loads, and grants.
//!
//! The files are part of the binary (`include_str!`), so that a node and its tables cannot differ;
//! each `embedded()` parses its file anew, because they are used once, at start. [`readback`]
//! compares the tables with what a running node has.

#![forbid(unsafe_code)]

pub mod filesystems;
pub mod kernel;
pub mod modules;
pub mod mounts;
pub mod readback;
pub mod services;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use filesystems::{FileSystem, FileSystems};
pub use kernel::{KernelSettings, Setting};
pub use modules::{ModuleList, Modules};
pub use mounts::{Mount, MountFlag, Mounts};
pub use services::{Directory, Limits, Service, Services, Supervisor};

/// On which kind of node a line of a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// On every node.
    #[default]
    Everywhere,
    /// Only on a machine: in a namespace it belongs to the host.
    Machine,
    /// Only in a namespace.
    Namespace,
}

impl Where {
    /// Whether the line holds on a machine (`true`) or in a namespace (`false`).
    pub fn holds_on(self, machine: bool) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Machine => machine,
            Self::Namespace => !machine,
        }
    }
}

/// An embedded table that does not parse: a fault of the build, which the tests of this crate find.
#[derive(Debug, thiserror::Error)]
#[error("the table configs/node/{file} of this image is not valid")]
pub struct TableError {
    /// The file's name.
    pub file: &'static str,
    /// What is wrong with it, with line and column.
    #[source]
    pub source: toml::de::Error,
}

fn parse<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<T, TableError> {
    toml::from_str(text).map_err(|source| TableError { file, source })
}

/// The text of a table.
macro_rules! table {
    ($file:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../configs/node/",
            $file
        ))
    };
}
pub(crate) use table;
