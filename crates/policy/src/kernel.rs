//! `kernel.toml`: the kernel settings (sysctls) that PID 1 writes.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{TableError, Where, parse, table};

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSettings {
    /// In the order in which they are written.
    #[serde(rename = "setting")]
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// As sysctl(8) writes it, `kernel.panic`; the parts are file names under `/proc/sys`.
    pub name: String,
    /// What is written.
    pub value: String,
    /// Why it is so.
    pub why: String,
    /// On which nodes.
    #[serde(default, rename = "where")]
    pub on: Where,
    /// Whether a kernel may lack the setting; then its absence is reported and is no fault.
    #[serde(default)]
    pub optional: bool,
}

impl Setting {
    /// Its file, relative to `/proc/sys`.
    pub fn path(&self) -> PathBuf {
        self.name.split('.').collect()
    }
}

impl KernelSettings {
    /// The table of this image.
    pub fn embedded() -> Result<Self, TableError> {
        parse("kernel.toml", table!("kernel.toml"))
    }

    /// The settings of a machine (`true`) or of a namespace node (`false`), in order.
    pub fn on(&self, machine: bool) -> impl Iterator<Item = &Setting> {
        self.settings
            .iter()
            .filter(move |setting| setting.on.holds_on(machine))
    }
}
