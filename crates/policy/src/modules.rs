//! `modules.toml`: the kernel modules that are loaded by name; the devices' own are found by
//! modalias.

use serde::Deserialize;

use crate::{TableError, parse, table};

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Drivers of watchdogs, which the initramfs loads first; imagebuild leaves out those that the kernel lacks.
    pub watchdogs: Vec<String>,
    /// What the initramfs loads before it can mount the root; imagebuild puts these, and what
    /// they depend on, under `/modules`.
    pub initramfs: Vec<String>,
    /// Lists in the order in which PID 1 loads them once the root is mounted.
    #[serde(rename = "list")]
    pub lists: Vec<ModuleList>,
    /// Modules that are never loaded, whatever device asks for them.
    pub refused: Vec<String>,
}

/// Modules with one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleList {
    /// A word for the log.
    pub name: String,
    /// What they are for.
    pub why: String,
    /// Their names, with underscores. One that is built in counts as loaded; one that the
    /// kernel lacks is reported.
    pub modules: Vec<String>,
    /// Whether an image may be built without one of them, as kernel flavours differ.
    #[serde(default)]
    pub optional: bool,
}

impl Modules {
    /// The table of this image.
    pub fn embedded() -> Result<Self, TableError> {
        parse("modules.toml", table!("modules.toml"))
    }

    /// Every module that is loaded by name after the initramfs, in order.
    pub fn listed(&self) -> impl Iterator<Item = &str> {
        self.lists
            .iter()
            .flat_map(|list| list.modules.iter().map(String::as_str))
    }

    /// Whether a module, by its name with underscores, is never loaded for a device.
    pub fn refuses(&self, name: &str) -> bool {
        self.refused.iter().any(|refused| refused == name)
    }
}
