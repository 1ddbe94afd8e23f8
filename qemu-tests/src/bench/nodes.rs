//! Nodes to measure: of Masthead, and bare.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Bench;
use crate::{
    cluster::Cluster,
    error::{Attempt, Error, Result, chain},
    namespace::NamespaceProvider,
    patience::{Look, Patience},
    plan::ClusterPlan,
    provider::{Forward, Node, Provider, ProviderKind},
    qemu::{MachineOptions, VmProvider},
    readyz,
    tools::{Tools, run},
};

/// From power on to ready on a real machine, generously.
const NOMINAL: Duration = Duration::from_secs(60);

/// A cluster of one Masthead node. Dropping it ends it.
pub(super) struct Masthead {
    // Before the cluster: it ends first.
    apiserver: Forward,
    pub(super) cluster: Cluster,
}

impl Masthead {
    /// Prepares a node in a folder of that name; it is off.
    pub(super) fn new(bench: &Bench, kind: ProviderKind, name: &str) -> Result<Self> {
        let tools = tools(bench)?;
        let plan = ClusterPlan::new(1, bench.directory.join("labs").join(name), &bench.image);
        let cluster = Cluster::new(plan, kind, &tools)?;
        let apiserver = cluster.forward(cluster.nodes()[0].plan().kubernetes())?;
        Ok(Self { apiserver, cluster })
    }

    /// The same, powered on and ready, also for kubectl and mastctl.
    pub(super) fn ready(bench: &Bench, name: &str) -> Result<Self> {
        let masthead = Self::new(bench, ProviderKind::Namespace, name)?;
        masthead.cluster.power_on()?;
        masthead.cluster.wait_until_ready()?;
        Ok(masthead)
    }

    pub(super) fn node(&self) -> &dyn Node {
        self.cluster.nodes()[0].as_ref()
    }

    /// Powers the node on, and returns the time from `/init` to ready.
    pub(super) fn time_boot(&self) -> Result<Duration> {
        time_boot(self.node(), &self.apiserver, self.cluster.patience())
    }

    /// Waits until the apiserver is ready, and returns when that was.
    pub(super) fn wait_until_ready(&self) -> Result<Instant> {
        readyz::wait(self.apiserver.local, self.cluster.patience().of(NOMINAL))
    }

    /// Waits until the node says that a service is ready.
    pub(super) fn wait_for_service(&self, name: &str) -> Result<()> {
        let patience = self.cluster.patience();
        let what = format!("{name} to be ready");
        patience.wait_until(&what, NOMINAL, || match self.state_of(name) {
            Ok(state) => Look::at(state == "ready", || state.to_string()),
            Err(error) => Look::NotYet(chain(&error)),
        })
    }

    /// The state of a service, from the management API.
    fn state_of(&self, name: &str) -> Result<Value> {
        let mut mastctl = self.cluster.mastctl();
        let text = run(mastctl.args(["--timeout", "5s", "--output", "json", "status"]))?;
        let status: Value = serde_json::from_str(&text)
            .map_err(|error| Error::Refused(format!("mastctl status: {error}")))?;
        let services = status["nodes"][0]["status"]["services"].as_array();
        let service =
            services.and_then(|services| services.iter().find(|service| service["name"] == name));
        Ok(service.map_or(Value::Null, |service| service["state"].clone()))
    }

    /// Ends the cluster and removes its folder.
    pub(super) fn remove(self) -> Result<()> {
        let Self { apiserver, cluster } = self;
        drop(apiserver);
        end(cluster)
    }
}

/// One bare node. Dropping it ends it.
pub(super) struct Bare {
    apiserver: Forward,
    node: Arc<dyn Node>,
    // Last: the node is on its wire.
    _provider: NamespaceProvider,
}

impl Bare {
    /// Prepares a bare node in `folder`, which is made anew, from what [`super::bare::capture`] wrote to `changes`.
    pub(super) fn new(bench: &Bench, folder: &Path, changes: &Path) -> Result<Self> {
        empty(folder)?;
        let mut plan = ClusterPlan::new(1, folder, &bench.image);
        plan.root_changes = Some(changes.to_owned());
        let plan = plan
            .nodes()
            .into_iter()
            .next()
            .ok_or_else(|| Error::Refused("a plan without nodes".to_owned()))?;
        let provider = NamespaceProvider::new(tools(bench)?.lab)?;
        let node = provider.add_node(&plan, "")?;
        let apiserver = provider.forward(plan.kubernetes())?;
        Ok(Self {
            apiserver,
            node,
            _provider: provider,
        })
    }

    pub(super) fn node(&self) -> &dyn Node {
        self.node.as_ref()
    }

    /// Powers the node on, and returns the time from `/init` to ready.
    pub(super) fn time_boot(&self) -> Result<Duration> {
        time_boot(self.node(), &self.apiserver, Patience::new(1.0))
    }
}

/// Bare nodes on one wire. Dropping it ends them.
pub(super) struct BareCluster {
    nodes: Vec<(Arc<dyn Node>, Forward)>,
    // Last: the nodes are on its wire.
    _provider: NamespaceProvider,
}

impl BareCluster {
    /// Prepares the nodes of a plan, each with root changes of its own; they are off.
    pub(super) fn new(bench: &Bench, plan: &ClusterPlan, changes: &[PathBuf]) -> Result<Self> {
        let provider = NamespaceProvider::new(tools(bench)?.lab)?;
        let nodes = plan.nodes().into_iter().zip(changes);
        let nodes = nodes.map(|(mut plan, changes)| {
            plan.root_changes = Some(changes.clone());
            Ok((
                provider.add_node(&plan, "")?,
                provider.forward(plan.kubernetes())?,
            ))
        });
        Ok(Self {
            nodes: nodes.collect::<Result<_>>()?,
            _provider: provider,
        })
    }

    /// Powers all nodes on at once, and returns the time until the apiserver of the last is ready.
    pub(super) fn time_formation(&self) -> Result<Duration> {
        time_formation(&self.nodes, Patience::new(1.0))
    }
}

/// A cluster of several Masthead nodes. Dropping it ends it.
pub(super) struct MastheadCluster {
    nodes: Vec<(Arc<dyn Node>, Forward)>,
    cluster: Cluster,
}

impl MastheadCluster {
    /// Prepares the cluster of a plan, on blank disks; its nodes are off.
    pub(super) fn new(bench: &Bench, plan: ClusterPlan) -> Result<Self> {
        let cluster = Cluster::new(plan, ProviderKind::Namespace, &tools(bench)?)?;
        let nodes = cluster.nodes().iter().map(|node| {
            let apiserver = cluster.forward(node.plan().kubernetes())?;
            Ok((Arc::clone(node), apiserver))
        });
        Ok(Self {
            nodes: nodes.collect::<Result<_>>()?,
            cluster,
        })
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Powers all nodes on at once, and returns the time until the apiserver of the last is ready.
    pub(super) fn time_formation(&self) -> Result<Duration> {
        time_formation(&self.nodes, self.cluster.patience())
    }

    /// Ends the cluster and removes its folder.
    pub(super) fn remove(self) -> Result<()> {
        let Self { nodes, cluster } = self;
        drop(nodes);
        end(cluster)
    }
}

fn time_formation(nodes: &[(Arc<dyn Node>, Forward)], patience: Patience) -> Result<Duration> {
    let started = Instant::now();
    let ready = thread::scope(|scope| {
        let waiting: Vec<_> = nodes
            .iter()
            .map(|(node, apiserver)| {
                scope.spawn(move || {
                    node.power_on()?;
                    readyz::wait(apiserver.local, patience.of(NOMINAL))
                })
            })
            .collect();
        let outcomes = waiting.into_iter().map(|thread| {
            let gone = |_| Err(Error::Refused("a waiting thread panicked".to_owned()));
            thread.join().unwrap_or_else(gone)
        });
        outcomes.collect::<Result<Vec<Instant>>>()
    })?;
    Ok(ready.into_iter().max().unwrap_or(started) - started)
}

/// One bare machine. Dropping it ends it.
pub(super) struct BareMachine {
    apiserver: Forward,
    node: Arc<dyn Node>,
    // Last: the node is on its wire.
    _provider: VmProvider,
}

impl BareMachine {
    /// Prepares a machine in `folder`, which is made anew, of an image that [`super::bare::image::make`] made, with a
    /// copy of the disk of a Masthead machine that is off.
    pub(super) fn new(folder: &Path, image: &Path, of: &dyn Node) -> Result<Self> {
        empty(folder)?;
        let plan = ClusterPlan::new(1, folder, image);
        let plan = plan
            .nodes()
            .into_iter()
            .next()
            .ok_or_else(|| Error::Refused("a plan without nodes".to_owned()))?;
        empty(&plan.directory)?;
        let (from, to) = (of.plan().disk_image(), plan.disk_image());
        run(Command::new("cp").arg("--sparse=always").arg(from).arg(to))?;
        let provider = VmProvider::new(image, MachineOptions::default())?;
        // QEMU wants a seed that is not empty; nobody reads it.
        let node = provider.add_node(&plan, "none\n")?;
        let apiserver = provider.forward(plan.kubernetes())?;
        Ok(Self {
            apiserver,
            node,
            _provider: provider,
        })
    }

    pub(super) fn node(&self) -> &dyn Node {
        self.node.as_ref()
    }

    /// Waits until the apiserver is ready, and returns when that was.
    pub(super) fn wait_until_ready(&self, patience: Patience) -> Result<Instant> {
        readyz::wait(self.apiserver.local, patience.of(NOMINAL))
    }
}

/// `power_on` returns when the launcher has seen `/init` executed.
fn time_boot(node: &dyn Node, apiserver: &Forward, patience: Patience) -> Result<Duration> {
    node.power_on()?;
    let started = Instant::now();
    Ok(readyz::wait(apiserver.local, patience.of(NOMINAL))? - started)
}

/// Ends a cluster and removes its folder.
fn end(cluster: Cluster) -> Result<()> {
    let directory = cluster.directory().clone();
    drop(cluster);
    directory.remove()
}

/// Removes a folder with all in it.
pub(super) fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).attempt(|| format!("remove {}", folder.display()))
}

/// Makes a folder, or empties it.
pub(super) fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        remove(folder)?;
    }
    fs::create_dir_all(folder).attempt(|| format!("make {}", folder.display()))
}

/// The programs beside this one.
fn tools(bench: &Bench) -> Result<Tools> {
    let here = std::env::current_exe().attempt(|| "find the running program")?;
    Tools::find(&here.with_file_name("lab"), &bench.image)
}
