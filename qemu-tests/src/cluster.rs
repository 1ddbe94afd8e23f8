//! A cluster: nodes on one provider, and the way of an operator into it.

use std::{
    collections::BTreeMap, net::SocketAddrV4, path::PathBuf, process::Command, sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    directory::{Directory, write_private},
    error::{Error, Result},
    namespace::NamespaceProvider,
    patience::{Look, Patience, wait_until},
    plan::{ClusterPlan, MAXIMUM_MASTERS},
    provider::{Forward, Node, Power, PowerEvent, Provider, ProviderKind},
    qemu::{MachineOptions, VmProvider},
    tools::{Tools, run},
};

/// From power on to a cluster that answers, on a real machine. Measured: 3 s.
const NOMINAL_FOUNDING: Duration = Duration::from_secs(30);

/// A cluster. Dropping it ends it, and leaves its folder.
pub struct Cluster {
    plan: ClusterPlan,
    directory: Directory,
    nodes: Vec<Arc<dyn Node>>,
    forwards: BTreeMap<String, Forwards>,
    access: Access,
    // Last: the nodes are on its wire.
    provider: Box<dyn Provider>,
}

/// The loopback ports that lead to one node.
struct Forwards {
    kubernetes: Forward,
    management: Forward,
}

impl Cluster {
    /// Prepares a cluster in the plan's folder, which is made anew: seed, operator's key, disks,
    /// wire and forwarders. The nodes are off.
    pub fn new(plan: ClusterPlan, kind: ProviderKind, tools: &Tools) -> Result<Self> {
        check(&plan)?;
        let directory = Directory::new(&plan.directory);
        directory.prepare(tools)?;
        let access = Access::new(&directory);
        let seed = plan.seed(&access.new_secret()?, &[access.new_operator()?]);
        write_private(&directory.seed(), &seed)?;

        let provider = provider(kind, &plan, tools)?;
        let mut nodes = Vec::new();
        let mut forwards = BTreeMap::new();
        for node in plan.nodes() {
            let both = Forwards {
                kubernetes: provider.forward(node.kubernetes())?,
                management: provider.forward(node.management())?,
            };
            nodes.push(provider.add_node(&node, &seed)?);
            forwards.insert(node.name, both);
        }
        Ok(Self {
            plan,
            directory,
            nodes,
            forwards,
            access,
            provider,
        })
    }

    /// Powers on all nodes that are off.
    pub fn power_on(&self) -> Result<()> {
        self.nodes
            .iter()
            .filter(|node| node.power() == Power::Off)
            .try_for_each(|node| node.power_on())
    }

    /// All nodes, m1 first.
    pub fn nodes(&self) -> &[Arc<dyn Node>] {
        &self.nodes
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&dyn Node> {
        self.nodes
            .iter()
            .find(|node| node.plan().name == name)
            .map(AsRef::as_ref)
            .ok_or_else(|| {
                let names: Vec<&str> = self
                    .nodes
                    .iter()
                    .map(|node| node.plan().name.as_str())
                    .collect();
                Error::Refused(format!("no node `{name}`: there are {}", names.join(", ")))
            })
    }

    /// What the cluster was made from.
    pub fn plan(&self) -> &ClusterPlan {
        &self.plan
    }

    /// The cluster's folder.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The factor on all deadlines in it.
    pub fn timing_scale(&self) -> f64 {
        self.provider.timing_scale()
    }

    /// How long to wait for things in it.
    pub fn patience(&self) -> Patience {
        Patience::new(self.provider.timing_scale())
    }

    /// kubectl with the cluster's configuration; add arguments, then run it.
    pub fn kubectl(&self) -> Command {
        self.access.kubectl()
    }

    /// mastctl with the cluster's configuration; add arguments, then run it.
    pub fn mastctl(&self) -> Command {
        self.access.mastctl()
    }

    /// A new forwarder to any address on the wire, for tests that speak to etcd themselves.
    pub fn forward(&self, to: SocketAddrV4) -> Result<Forward> {
        self.provider.forward(to)
    }

    /// How long the cluster may take from power on to ready.
    pub fn patience_for_founding(&self) -> Duration {
        self.patience().of(NOMINAL_FOUNDING)
    }

    /// Waits until every node's apiserver is ready, logging in on the way.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait_until(
            "the cluster to be ready",
            self.patience_for_founding(),
            || all_ready(&self.look_at_all()),
        )
    }

    /// One look at every node on its way to being ready, m1 first.
    pub fn look_at_all(&self) -> Vec<Progress> {
        self.nodes
            .iter()
            .map(|node| self.look(node.as_ref()))
            .collect()
    }

    /// One look at a node on its way to being ready, which takes the next step if one is possible:
    /// login, kubeconfig, `/readyz`, and a request as the operator.
    pub fn look(&self, node: &dyn Node) -> Progress {
        let (ready, seen) = match self.step(node) {
            Ok(()) => (true, "ready".to_owned()),
            Err(waiting) => (false, waiting),
        };
        Progress {
            node: node.plan().name.clone(),
            power: node.power(),
            ready,
            seen,
        }
    }

    fn step(&self, node: &dyn Node) -> Result<(), String> {
        if node.power() == Power::Off {
            let last = node
                .history()
                .pop()
                .map(|event| format!(" ({})", event.change));
            return Err(format!("off{}", last.unwrap_or_default()));
        }
        let Some(ports) = self.forwards.get(&node.plan().name) else {
            return Err("no port leads to it".to_owned());
        };
        self.access.log_in(node, ports.management.local)?;
        if !self.directory.kubeconfig().exists() {
            self.access.fetch_kubeconfig(node, ports.kubernetes.local)?;
        }
        let server = format!("--server=https://{}", ports.kubernetes.local);
        let name = format!("--tls-server-name={}", node.plan().address());
        let ask = |request: &[&str]| {
            let mut kubectl = self.kubectl();
            kubectl.args([&server, &name, "--request-timeout=5s"]);
            run(kubectl.args(request))
        };
        let ready = ask(&["get", "--raw=/readyz"]).is_ok_and(|answer| answer == "ok");
        // The binding that lets operators in, and the first namespace, come a moment later.
        let usable = ready && ask(&["get", "namespace", "default", "--output=name"]).is_ok();
        if usable {
            Ok(())
        } else {
            Err(self.access.waits_for(node))
        }
    }

    /// What programs may want to know about the cluster.
    pub fn describe(&self) -> Description {
        Description {
            provider: self.provider.kind(),
            directory: self.directory.path().to_owned(),
            timing_scale: self.provider.timing_scale(),
            nodes: self
                .nodes
                .iter()
                .map(|node| self.describe_node(node.as_ref()))
                .collect(),
        }
    }

    fn describe_node(&self, node: &dyn Node) -> NodeDescription {
        let plan = node.plan();
        let look = self.look(node);
        let port = |choose: fn(&Forwards) -> &Forward| {
            self.forwards
                .get(&plan.name)
                .map(|both| choose(both).local.to_string())
        };
        NodeDescription {
            name: plan.name.clone(),
            power: node.power(),
            ready: look.ready,
            waits_for: (!look.ready).then_some(look.seen),
            address: plan.address().to_string(),
            kubernetes: port(|both| &both.kubernetes),
            management: port(|both| &both.management),
            console: plan.console(),
            init_process: node.init_process().ok(),
            history: node.history(),
        }
    }
}

/// Whether all nodes are ready. One that is off never will be.
pub(crate) fn all_ready(nodes: &[Progress]) -> Look<()> {
    if let Some(off) = nodes.iter().find(|node| node.power == Power::Off) {
        return Look::Never(Error::WrongPower {
            node: off.node.clone(),
            state: off.seen.clone(),
            remedy: "see its console, then power it on",
        });
    }
    Look::at(nodes.iter().all(|node| node.ready), || {
        nodes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    })
}

/// How far a node is on its way to being ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The node's name.
    pub node: String,
    /// Whether it runs.
    pub power: Power,
    /// Its apiserver says that it is ready.
    pub ready: bool,
    /// What it waits for.
    pub seen: String,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.node, self.seen)
    }
}

/// `lab status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Description {
    /// How the nodes are run.
    pub provider: ProviderKind,
    /// The cluster's folder.
    pub directory: PathBuf,
    /// The factor on all deadlines.
    pub timing_scale: f64,
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
    /// The file of its console.
    pub console: PathBuf,
    /// Its PID 1 on the host, where it is a process of the host.
    pub init_process: Option<i32>,
    /// What happened to its power.
    pub history: Vec<PowerEvent>,
}

fn check(plan: &ClusterPlan) -> Result<()> {
    match plan.masters {
        1 => Ok(()),
        2..=MAXIMUM_MASTERS => Err(Error::Refused(format!(
            "{} masters asked for, but this version founds clusters of one: say --masters 1",
            plan.masters
        ))),
        other => Err(Error::Refused(format!(
            "{other} masters asked for: a cluster has 1 to {MAXIMUM_MASTERS}"
        ))),
    }
}

fn provider(kind: ProviderKind, plan: &ClusterPlan, tools: &Tools) -> Result<Box<dyn Provider>> {
    // A machine executes what its image holds; only a root on the host can be changed.
    if plan.root_changes.is_some() && kind == ProviderKind::Vm {
        return Err(Error::Unsupported {
            kind,
            operation: "run with a changed root",
            reason: "its image is the real one; use a namespace",
        });
    }
    match kind {
        ProviderKind::Namespace => Ok(Box::new(NamespaceProvider::new(&tools.lab)?)),
        ProviderKind::Vm => Ok(Box::new(VmProvider::new(
            &plan.image,
            MachineOptions::default(),
        )?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_several_masters_are_refused_for_now() {
        let error = check(&ClusterPlan::new(3, "/lab", "/image")).expect_err("not yet");
        assert!(
            error
                .to_string()
                .contains("this version founds clusters of one"),
            "{error}"
        );
    }
}
