//! A cluster: nodes on one provider, and the way of an operator into it.
//!
//! | module | what it is |
//! |---|---|
//! | `access` | logging in, by mastctl |
//! | `description` | how far each node is, and `lab status` |
//! | `etcd` | what etcd says of itself |
//! | `vip` | who owns the virtual address |

mod access;
mod description;
mod etcd;
mod vip;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, SocketAddrV4},
    process::Command,
    sync::Arc,
    time::Duration,
};

pub(crate) use description::all_ready;
pub use description::{Description, NodeDescription, Progress};
pub use etcd::{EtcdMember, EtcdStatus};
pub use vip::VipDescription;

use crate::{
    directory::{Claim, Directory, write_private},
    error::{Error, Result},
    namespace::NamespaceProvider,
    partition::{Direction, cuts},
    patience::{Patience, wait_until},
    plan::{ClusterPlan, ENDPOINT, KUBERNETES_PORT, MAXIMUM_MASTERS, MAXIMUM_SPARES},
    provider::{Forward, Node, Power, Provider, ProviderKind},
    qemu::{MachineOptions, VmProvider},
    tap::Tap,
    tools::{Tools, run},
};
use access::Access;

/// From power on to a cluster that answers, on a real machine. Measured: 3 s.
const NOMINAL_FOUNDING: Duration = Duration::from_secs(30);

/// A cluster. Dropping it ends it, and leaves its folder.
pub struct Cluster {
    plan: ClusterPlan,
    directory: Directory,
    nodes: Vec<Arc<dyn Node>>,
    /// Leads to the virtual address.
    endpoint: Forward,
    forwards: BTreeMap<String, Forwards>,
    access: Access,
    // The nodes are on its wire.
    provider: Box<dyn Provider>,
    // Last: until all of it is gone, the folder is nobody else's.
    _claim: Claim,
}

/// The loopback ports that lead to one node.
struct Forwards {
    kubernetes: Forward,
    management: Forward,
    metrics: Forward,
}

impl Cluster {
    /// Prepares a cluster in the plan's folder, which is made anew: seed, operator's key, disks,
    /// wire and forwarders. The nodes are off.
    pub fn new(plan: ClusterPlan, kind: ProviderKind, tools: &Tools) -> Result<Self> {
        check(&plan)?;
        let directory = Directory::new(&plan.directory);
        let claim = directory.prepare(tools)?;
        let access = Access::new(&directory, Patience::new(1.0));
        let seed = plan.seed(&access.new_secret()?, &[access.new_operator()?]);
        write_private(&directory.seed(), &seed)?;
        let provider = provider(kind, &plan, tools)?;
        Self::assemble(plan, directory, claim, provider, &seed)
    }

    /// A cluster of a folder that has seed and operator's key, with its nodes on that provider, off.
    pub(crate) fn assemble(
        plan: ClusterPlan,
        directory: Directory,
        claim: Claim,
        provider: Box<dyn Provider>,
        seed: &str,
    ) -> Result<Self> {
        let mut nodes = Vec::new();
        let mut forwards = BTreeMap::new();
        let patience = Patience::new(provider.timing_scale());
        for node_plan in plan.nodes() {
            let ports = Forwards {
                kubernetes: provider.forward(node_plan.kubernetes())?,
                management: provider.forward(node_plan.management())?,
                metrics: provider.forward(node_plan.metrics())?,
            };
            let node = provider.add_node(&node_plan, seed)?;
            nodes.push(node);
            forwards.insert(node_plan.name, ports);
        }
        Ok(Self {
            plan,
            access: Access::new(&directory, patience),
            directory,
            nodes,
            endpoint: provider.forward(SocketAddrV4::new(ENDPOINT, KUBERNETES_PORT))?,
            forwards,
            provider,
            _claim: claim,
        })
    }

    pub(crate) fn provider(&self) -> &dyn Provider {
        self.provider.as_ref()
    }

    /// Powers on all masters that are off; spares stay off.
    pub fn power_on(&self) -> Result<()> {
        self.power_on_without(&[])
    }

    /// Powers on all masters that are off, but for these.
    pub fn power_on_without(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.node(name)?;
        }
        self.masters()
            .filter(|node| node.power() == Power::Off && !names.contains(&node.plan().name))
            .try_for_each(Node::power_on)
    }

    /// The nodes that the seed lists.
    pub fn masters(&self) -> impl Iterator<Item = &dyn Node> {
        let masters = usize::from(self.plan.masters);
        self.nodes.iter().take(masters).map(AsRef::as_ref)
    }

    /// Cuts the wire between groups of nodes; a node in no group hears everybody, and is heard. Replaces what was cut
    /// before.
    pub fn partition(&self, groups: &[BTreeSet<String>], direction: Direction) -> Result<()> {
        for name in groups.iter().flatten() {
            self.node(name)?;
        }
        self.provider.partition(&cuts(groups, direction)?)
    }

    /// Puts the wire between nodes together again.
    pub fn heal(&self) -> Result<()> {
        self.provider.partition(&BTreeSet::new())
    }

    /// All nodes, m1 first, spares last.
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

    /// Where kubectl's configuration leads: a loopback port to the virtual address.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint.local
    }

    /// The loopback address and port that lead to the apiserver of a node.
    pub fn apiserver(&self, node: &str) -> Result<SocketAddr> {
        let ports = self.forwards.get(node);
        ports
            .map(|ports| ports.kubernetes.local)
            .ok_or_else(|| Error::Refused(format!("no node `{node}`")))
    }

    /// A new forwarder to any address on the wire, for tests that speak to etcd themselves.
    pub fn forward(&self, to: SocketAddrV4) -> Result<Forward> {
        self.provider.forward(to)
    }

    /// An ear on its wire.
    pub fn tap(&self) -> Result<Box<dyn Tap>> {
        self.provider.tap()
    }

    /// How long the cluster may take from power on to ready.
    pub fn patience_for_founding(&self) -> Duration {
        self.patience().of(NOMINAL_FOUNDING)
    }

    /// Waits until the apiserver of every node that was ever on is ready, logging in on the way.
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
            spare: node.history().is_empty(),
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
        self.access
            .log_in(node, ports.management.local, self.endpoint.local)?;
        if !self.directory.kubeconfig().exists() {
            self.access.fetch_kubeconfig(node)?;
        }
        let server = format!("--server=https://{}", ports.kubernetes.local);
        let ask = |request: &[&str]| {
            let mut kubectl = self.kubectl();
            kubectl.args([&server, &self.access.request_timeout()]);
            run(kubectl.args(request))
        };
        let ready = ask(&["get", "--raw=/readyz"]).is_ok_and(|answer| answer == "ok");
        // The binding that lets operators in, and the first namespace, come a moment later.
        let usable = ready && ask(&["get", "namespace", "default", "--output=name"]).is_ok();
        if !usable {
            return Err(self.access.waits_for(node));
        }
        match self.vip_by(&node.plan().name) {
            Ok(told) if told.is_owned => Ok(()),
            Ok(told) => Err(format!("nobody owns {} as far as it knows", told.address)),
            Err(error) => Err(crate::error::chain(&error)),
        }
    }

    /// What programs may want to know about the cluster.
    pub fn describe(&self) -> Description {
        let vip = self.vip();
        Description {
            provider: self.provider.kind(),
            directory: self.directory.path().to_owned(),
            masters: self.plan.masters,
            spares: self.plan.spares,
            image: self.plan.image.clone(),
            memory_mib: self.plan.memory_mib,
            timing_scale: self.provider.timing_scale(),
            endpoint: self.endpoint.local.to_string(),
            endpoint_leads_to: vip.owner.clone(),
            vip,
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
                .map(|ports| choose(ports).local.to_string())
        };
        NodeDescription {
            name: plan.name.clone(),
            power: node.power(),
            ready: look.ready,
            waits_for: (!look.ready).then_some(look.seen),
            address: plan.address().to_string(),
            kubernetes: port(|ports| &ports.kubernetes),
            management: port(|ports| &ports.management),
            metrics: port(|ports| &ports.metrics),
            console: plan.console(),
            init_process: node.init_process().ok(),
            history: node.history(),
        }
    }
}

fn check(plan: &ClusterPlan) -> Result<()> {
    if !(1..=MAXIMUM_MASTERS).contains(&plan.masters) {
        return Err(Error::Refused(format!(
            "{} masters asked for: a cluster has 1 to {MAXIMUM_MASTERS}",
            plan.masters
        )));
    }
    if plan.spares > MAXIMUM_SPARES {
        return Err(Error::Refused(format!(
            "{} spares asked for: there are at most {MAXIMUM_SPARES}",
            plan.spares
        )));
    }
    Ok(())
}

fn provider(kind: ProviderKind, plan: &ClusterPlan, tools: &Tools) -> Result<Box<dyn Provider>> {
    // A machine executes what its image holds; only a root on the host can be changed.
    let changed = plan.nodes().iter().any(|node| node.root_changes.is_some());
    if changed && kind == ProviderKind::Vm {
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
    fn a_cluster_has_one_to_seven_masters() {
        for masters in 1..=MAXIMUM_MASTERS {
            check(&ClusterPlan::new(masters, "/lab", "/image")).expect("a cluster");
        }
        for masters in [0, MAXIMUM_MASTERS + 1] {
            let error =
                check(&ClusterPlan::new(masters, "/lab", "/image")).expect_err("too few or many");
            assert!(error.to_string().contains("1 to 7"), "{error}");
        }
    }
}
