//! What is known about a cluster at one moment.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::VipDescription;
use crate::{
    error::Error,
    patience::Look,
    provider::{Power, PowerEvent, ProviderKind},
};

/// How far a node is on its way to being ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The node's name.
    pub node: String,
    /// Whether it runs.
    pub power: Power,
    /// Nobody has ever powered it on, so that nobody waits for it.
    pub spare: bool,
    /// Its apiserver says that it is ready.
    pub ready: bool,
    /// What it waits for.
    pub seen: String,
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.node, self.seen)
    }
}

/// Whether all nodes that were ever on are ready. One of them that is off never will be.
pub(crate) fn all_ready(nodes: &[Progress]) -> Look<()> {
    let mut awaited = nodes.iter().filter(|node| !node.spare).peekable();
    if awaited.peek().is_none() {
        return Look::Never(Error::Refused(
            "all nodes are off: power one on first".to_owned(),
        ));
    }
    if let Some(off) = awaited.clone().find(|node| node.power == Power::Off) {
        return Look::Never(Error::WrongPower {
            node: off.node.clone(),
            state: off.seen.clone(),
            remedy: "see its console, then power it on",
        });
    }
    Look::at(awaited.all(|node| node.ready), || {
        nodes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    })
}

/// `lab status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Description {
    /// How the nodes are run.
    pub provider: ProviderKind,
    /// The cluster's folder.
    pub directory: PathBuf,
    /// How many masters its seed lists.
    pub masters: u8,
    /// How many machines more there are.
    pub spares: u8,
    /// The folder of the image that they run.
    pub image: PathBuf,
    /// Memory of each machine, in MiB; namespaces share the host's.
    pub memory_mib: u32,
    /// The factor on all deadlines.
    pub timing_scale: f64,
    /// The loopback address and port that lead to the virtual address.
    pub endpoint: String,
    /// The master that it leads to: `vip.owner`.
    pub endpoint_leads_to: Option<String>,
    /// The virtual address.
    pub vip: VipDescription,
    /// The nodes, m1 first.
    pub nodes: Vec<NodeDescription>,
}

/// One node in `lab status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeDescription {
    /// m1, …
    pub name: String,
    /// On or off.
    pub power: Power,
    /// Whether its apiserver is ready.
    pub ready: bool,
    /// If it is not: why.
    pub waits_for: Option<String>,
    /// Its address on the wire.
    pub address: String,
    /// The loopback address and port that lead to its apiserver.
    pub kubernetes: Option<String>,
    /// The loopback address and port that lead to its management API.
    pub management: Option<String>,
    /// The loopback address and port that lead to its metrics.
    pub metrics: Option<String>,
    /// The file of its console.
    pub console: PathBuf,
    /// Its PID 1 on the host, where it is a process of the host.
    pub init_process: Option<i32>,
    /// What happened to its power.
    pub history: Vec<PowerEvent>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, power: Power, spare: bool, ready: bool) -> Progress {
        Progress {
            node: name.to_owned(),
            power,
            spare,
            ready,
            seen: "seen".to_owned(),
        }
    }

    #[test]
    fn a_node_that_was_never_on_is_not_waited_for() {
        let one = node("m1", Power::On, false, true);
        let two = node("m2", Power::Off, true, false);
        assert!(matches!(all_ready(&[one, two.clone()]), Look::Done(())));
        assert!(matches!(all_ready(&[two]), Look::Never(_)));
    }

    #[test]
    fn a_node_that_went_off_is_not_waited_for_in_vain() {
        let one = node("m1", Power::On, false, false);
        assert!(matches!(
            all_ready(std::slice::from_ref(&one)),
            Look::NotYet(_)
        ));
        let two = node("m2", Power::Off, false, false);
        assert!(matches!(all_ready(&[one, two]), Look::Never(_)));
    }
}
