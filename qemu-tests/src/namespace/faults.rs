//! Faults of the wire between namespace nodes: who does not hear whom, and bad cables.
//!
//! The bridge's own filter (nftables, family `bridge`, hook `forward`) sees what goes from node to node, and not what
//! the host says to a node. Frames are delayed where they leave the bridge, by a queue of the kernel's (`netem`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::wire::Wire;
use crate::{
    error::{Error, Result},
    provider::{Cable, ProviderKind},
};

/// The faults of one wire.
pub(super) struct Faults {
    wire: Wire,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: Vec<BTreeSet<String>>,
    /// Of the nodes that have a bad one.
    cables: BTreeMap<String, Cable>,
}

impl Faults {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire,
            state: Mutex::default(),
        }
    }

    /// See [`crate::provider::Provider::partition`].
    pub(super) fn partition(&self, groups: &[BTreeSet<String>]) -> Result<()> {
        let mut state = self.state();
        state.groups = groups.to_vec();
        self.filter(&state)
    }

    /// See [`crate::provider::Node::set_cable`]. A node that is not plugged in gets it by [`Self::plugged_in`].
    pub(super) fn set_cable(&self, node: &str, plugged_in: bool, cable: Cable) -> Result<()> {
        let mut state = self.state();
        if plugged_in {
            self.delay(node, cable)?;
        }
        if cable == Cable::default() {
            state.cables.remove(node);
        } else {
            state.cables.insert(node.to_owned(), cable);
        }
        self.filter(&state)
    }

    /// Does to a cable that was just plugged in what its predecessor had.
    pub(super) fn plugged_in(&self, node: &str) -> Result<()> {
        match self.state().cables.get(node) {
            Some(cable) => self.delay(node, *cable),
            None => Ok(()),
        }
    }

    fn filter(&self, state: &State) -> Result<()> {
        let rules = rules(&state.groups, &state.cables);
        self.wire.run("nft", &["--file", "-"], rules)
    }

    fn delay(&self, node: &str, cable: Cable) -> Result<()> {
        if cable.delay.is_zero() {
            // There is none to remove, mostly.
            let _ = self
                .wire
                .run("tc", &["qdisc", "del", "dev", node, "root"], String::new());
            return Ok(());
        }
        let delay = format!("{}us", cable.delay.as_micros());
        let set = [
            "qdisc", "replace", "dev", node, "root", "netem", "delay", &delay,
        ];
        match self.wire.run("tc", &set, String::new()) {
            Err(Error::Program { output, .. }) if output.contains("qdisc kind is unknown") => {
                Err(Error::Unsupported {
                    kind: ProviderKind::Namespace,
                    operation: "have a slow cable",
                    reason: "this kernel has no netem (CONFIG_NET_SCH_NETEM); use --provider vm",
                })
            }
            result => result,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All rules of the bridge's filter, as one transaction that replaces those before.
fn rules(groups: &[BTreeSet<String>], cables: &BTreeMap<String, Cable>) -> String {
    let mut rules = String::new();
    let mut rule = |rule: String| {
        // Writing to a string does not fail.
        let _ = writeln!(rules, "    {rule}");
    };
    for (index, group) in groups.iter().enumerate() {
        let others = groups.iter().enumerate();
        let others = others.filter(|(other, _)| *other != index);
        for (from, to) in group.iter().flat_map(|from| {
            others
                .clone()
                .flat_map(|(_, other)| other)
                .map(move |to| (from, to))
        }) {
            rule(format!("iifname \"{from}\" oifname \"{to}\" drop"));
        }
    }
    for (node, cable) in cables.iter().filter(|(_, cable)| cable.loss_percent > 0.0) {
        // Of a million numbers from 0 on, the last that means a loss.
        let lost = (cable.loss_percent.min(100.0) * 10_000.0).round().max(1.0) - 1.0;
        for direction in ["iifname", "oifname"] {
            rule(format!(
                "{direction} \"{node}\" numgen random mod 1000000 <= {lost} drop"
            ));
        }
    }
    // Named first, so that there is one to remove.
    format!(
        "table bridge faults\n\
         delete table bridge faults\n\
         table bridge faults {{\n  chain between-nodes {{\n    type filter hook forward priority 0\n{rules}  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn group(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_partition_cuts_both_ways_and_nobody_else() {
        let rules = rules(&[group(&["m1"]), group(&["m2", "m3"])], &BTreeMap::new());
        let dropped: Vec<&str> = rules
            .lines()
            .filter(|line| line.contains("drop"))
            .map(str::trim)
            .collect();
        assert_eq!(
            dropped,
            [
                r#"iifname "m1" oifname "m2" drop"#,
                r#"iifname "m1" oifname "m3" drop"#,
                r#"iifname "m2" oifname "m1" drop"#,
                r#"iifname "m3" oifname "m1" drop"#,
            ]
        );
    }

    #[test]
    fn a_bad_cable_loses_both_ways() {
        let cable = Cable {
            delay: Duration::ZERO,
            loss_percent: 2.5,
        };
        let rules = rules(&[], &BTreeMap::from([("m2".to_owned(), cable)]));
        assert!(
            rules.contains(r#"iifname "m2" numgen random mod 1000000 <= 24999 drop"#),
            "{rules}"
        );
        assert!(
            rules.contains(r#"oifname "m2" numgen random mod 1000000 <= 24999 drop"#),
            "{rules}"
        );
    }
}
