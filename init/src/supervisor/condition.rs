//! Whether the node has what the tables say: kernel settings, mounts, limits.

use std::fs;
use std::path::Path;

use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_policy::{FileSystems, KernelSettings, Mounts, readback};

use crate::node::NodeKind;
use crate::process::Without;

/// What differs from `configs/node/` on this node, as reasons for the status. What a kind of node does
/// without by its nature is no difference.
pub(super) fn of_node(kind: NodeKind, without: &[Without]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let machine = kind.is_machine();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut differences = Vec::new();
    if let Ok(table) = KernelSettings::embedded() {
        differences.extend(readback::kernel_settings(&table, machine, |setting| {
            fs::read_to_string(Path::new("/proc/sys").join(setting))
        }));
    }
    if let Ok(table) = Mounts::embedded() {
        differences.extend(readback::mounts(&table, machine, &mounts));
    }
    if machine && let Ok(table) = FileSystems::embedded() {
        differences.extend(readback::filesystems(&table, &mounts));
    }
    for difference in differences
        .into_iter()
        .filter(readback::Difference::is_fault)
    {
        reasons.push(
            Reason::new(ReasonCode::KernelSettingRefused, Timestamp::now())
                .with_cause(format!("{difference}.")),
        );
    }
    if machine {
        reasons.extend(without.iter().map(|without| {
            Reason::new(ReasonCode::ControllerMissing, Timestamp::now()).with_cause(format!(
                "{} cannot be set: {}.",
                without.setting, without.reason
            ))
        }));
    }
    reasons
}
