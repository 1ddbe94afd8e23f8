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
    partition::Cut,
    provider::{Cable, ProviderKind},
};

/// The faults of one wire.
pub(super) struct Faults {
    wire: Wire,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cuts: BTreeSet<Cut>,
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
    pub(super) fn partition(&self, cuts: &BTreeSet<Cut>) -> Result<()> {
        let mut state = self.state();
        state.cuts.clone_from(cuts);
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
        let rules = rules(&state.cuts, &state.cables);
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
fn rules(cuts: &BTreeSet<Cut>, cables: &BTreeMap<String, Cable>) -> String {
    let mut rules = String::new();
    let mut rule = |rule: String| {
        // Writing to a string does not fail.
        let _ = writeln!(rules, "    {rule}");
    };
    for Cut { from, to } in cuts {
        rule(format!("iifname \"{from}\" oifname \"{to}\" drop"));
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

    #[test]
    fn a_cut_drops_what_goes_in_its_direction() {
        let cut = Cut {
            from: "m1".to_owned(),
            to: "m2".to_owned(),
        };
        let rules = rules(&BTreeSet::from([cut]), &BTreeMap::new());
        let dropped: Vec<&str> = rules
            .lines()
            .filter(|line| line.contains("drop"))
            .map(str::trim)
            .collect();
        assert_eq!(dropped, [r#"iifname "m1" oifname "m2" drop"#]);
    }

    #[test]
    fn a_bad_cable_loses_both_ways() {
        let cable = Cable {
            delay: Duration::ZERO,
            loss_percent: 2.5,
        };
        let rules = rules(
            &BTreeSet::new(),
            &BTreeMap::from([("m2".to_owned(), cable)]),
        );
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
