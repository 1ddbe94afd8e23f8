//! Writing what `configs/node/kernel.toml` says.

use std::fs;
use std::io;
use std::path::Path;

use masthead_policy::KernelSettings;

use super::log::say;
use crate::node::NodeKind;

/// Writes the whole table below `root`, `/proc/sys`. A setting that fails is reported, and the node
/// goes on: the cluster tests compare the table with a running node.
pub(super) fn write_all(table: &KernelSettings, kind: NodeKind, root: &Path) {
    let mut missing = Vec::new();
    for setting in table.on(kind.is_machine()) {
        match fs::write(root.join(setting.path()), &setting.value) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && setting.optional => {
                missing.push(setting.name.as_str());
            }
            Err(error) => say!("cannot set {} to {}: {error}", setting.name, setting.value),
        }
    }
    if !missing.is_empty() {
        say!(
            "settings that this kernel does not have: {}",
            missing.join(", ")
        );
    }
}
