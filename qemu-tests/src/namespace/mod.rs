//! Nodes as PID 1 of new namespaces, at native speed.
//!
//! The kernel is the host's; everything above is the image's: the same EROFS root, the same
//! `/init`. User 0 of a node is an unprivileged user of the host, so that the host's clock, modules,
//! kernel settings and reboot are out of the node's reach by the kernel's word, not by our care.
//!
//! | module | what it is |
//! |---|---|
//! | `launcher` | the process behind one power-on of one node |
//! | `pid1` | from the clone to `/init` |
//! | `root`, `disks` | what the node finds mounted |
//! | `cgroup` | the node's own control groups |
//! | `faults` | partitions and bad cables |
//! | `wire` | the network namespace with the bridge, and the way into it |
//! | `node` | the lab's side of a node: [`crate::provider::Node`] |
//! | `protocol` | what lab and launcher say to each other |
//! | `kernel` | the system calls that need `unsafe` |

mod boot_disk;
mod cgroup;
mod disks;
mod faults;
mod inside;
mod kernel;

pub mod launcher;
mod node;
mod pid1;
mod protocol;
mod root;
mod tap;
mod wire;

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    error::{Attempt, Error, Result},
    partition::Cut,
    plan::NodePlan,
    provider::{Forward, Node, Provider, ProviderKind},
    tap::Tap,
};
use faults::Faults;
pub(crate) use launcher::first_user;
use node::{Machinery, NamespaceNode};
use wire::Wire;

/// Begins the names of our control groups; the process id of the lab follows.
const GROUP_PREFIX: &str = "masthead-lab-";

/// Runs the nodes of one cluster in namespaces.
pub struct NamespaceProvider {
    machinery: Arc<Machinery>,
}

impl NamespaceProvider {
    /// Prepares the wire and the control group of a cluster. `lab` is the path of the lab program.
    pub fn new(lab: impl Into<PathBuf>) -> Result<Self> {
        launcher::check_privileges()?;
        let wire = Wire::new()?;
        Ok(Self {
            machinery: Arc::new(Machinery {
                lab: lab.into(),
                faults: Faults::new(wire.clone()),
                wire,
                group: ClusterGroup::new()?,
            }),
        })
    }
}

impl Provider for NamespaceProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Namespace
    }

    fn timing_scale(&self) -> f64 {
        1.0
    }

    fn add_node(&self, plan: &NodePlan, seed: &str) -> Result<Arc<dyn Node>> {
        let image = plan.image.join("root.erofs");
        if !image.exists() {
            return Err(Error::Refused(format!(
                "there is no {}: build the image first (make image)",
                image.display()
            )));
        }
        fs::create_dir_all(&plan.directory)
            .attempt(|| format!("make {}", plan.directory.display()))?;
        for &(role, size_mib) in &plan.disks {
            disks::create(plan, role, size_mib)?;
        }
        Ok(Arc::new(NamespaceNode::new(
            plan.clone(),
            seed.to_owned(),
            Arc::clone(&self.machinery),
        )))
    }

    fn forward(&self, to: SocketAddrV4) -> Result<Forward> {
        let (local, guard) = self.machinery.wire.forward(to)?;
        Ok(Forward::new(local, guard))
    }

    fn tap(&self) -> Result<Box<dyn Tap>> {
        Ok(Box::new(self.machinery.wire.tap()?))
    }

    fn partition(&self, cuts: &BTreeSet<Cut>) -> Result<()> {
        self.machinery.faults.partition(cuts)
    }
}

/// The control group of a cluster, removed with it.
struct ClusterGroup {
    path: PathBuf,
}

impl ClusterGroup {
    fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mount_point = cgroup::mount_point()?;
        remove_stale_groups(&mount_point);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = mount_point.join(format!("{GROUP_PREFIX}{}-{number}", std::process::id()));
        cgroup::remove(&path)?;
        fs::create_dir(&path).attempt(|| format!("make {}", path.display()))?;
        cgroup::pass_controllers_on(&path)?;
        Ok(Self { path })
    }

    /// Where a node's group is.
    fn of(&self, node: &str) -> PathBuf {
        self.path.join(node)
    }
}

impl Drop for ClusterGroup {
    fn drop(&mut self) {
        // What cannot be removed now is stale at the next start.
        let _ = cgroup::remove(&self.path);
    }
}

/// Removes what labs have left that were killed, as far as this process may.
pub fn remove_leftovers() {
    if let Ok(mount_point) = cgroup::mount_point() {
        remove_stale_groups(&mount_point);
    }
}

/// Removes what labs have left that were killed together with their launchers.
fn remove_stale_groups(mount_point: &Path) {
    for entry in fs::read_dir(mount_point).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(GROUP_PREFIX))
            .and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner
            && !runs(owner)
        {
            // Somebody else may be removing it at this moment.
            let _ = cgroup::remove(&entry.path());
        }
    }
}

/// Whether a process runs. One that has ended, and that nobody has waited for yet, does not.
fn runs(process: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/status"))
        .is_ok_and(|status| !status.lines().any(|line| line.starts_with("State:\tZ")))
}
