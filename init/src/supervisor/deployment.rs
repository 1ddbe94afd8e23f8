//! From a plan of the control plane to services that can be run: their files, control groups and launches.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use masthead_control_plane::{AuditStore, ControlPlane, EtcdStart, Inputs, Paths, Service, plan};
use masthead_pki::Leaves;
use masthead_policy::Services as ServicesTable;
use masthead_seed::{DiskSelector, Master, Seed};

use super::log;
use crate::error_chain::with_sources;
use crate::identity::{Identity, Owners, make_service_directories, write_plan};
use crate::node::NodeOptions;
use crate::process::{self, Launch, Rights, Without};
use crate::services::{self, Managed};

/// Where control groups are.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// How long a disk may take to make the services' directories, which are nearly always there.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// What the services' configuration follows from, beside the leaves.
#[derive(Clone)]
pub(super) struct Deployment {
    pub(super) node: NodeOptions,
    pub(super) seed: Arc<Seed>,
    pub(super) master: Arc<Master>,
    pub(super) identity: Arc<Identity>,
}

impl Deployment {
    fn plan(&self, leaves: &Leaves, etcd_start: EtcdStart) -> ControlPlane {
        // In memory, /data is a tmpfs: the same place, with less room.
        let audit = match self.master.disk {
            DiskSelector::Match(_) => AuditStore::Disk,
            DiskSelector::Memory => AuditStore::Memory,
        };
        plan(&Inputs {
            seed: &self.seed,
            master: &self.master,
            cluster_id: &self.identity.cluster_id,
            machine_id: &self.identity.machine_id,
            members: &self.identity.members,
            etcd_start,
            roots: &self.identity.roots,
            leaves,
            audit,
            scale: self.node.scale,
            paths: Paths::default(),
        })
    }

    /// Writes what the services read, makes their control groups, and says how each is run, and what this kernel
    /// refuses them.
    pub(super) async fn prepare(
        &self,
        leaves: &Leaves,
        etcd_start: EtcdStart,
    ) -> anyhow::Result<(Vec<Managed>, Vec<Without>)> {
        let plan = self.plan(leaves, etcd_start);
        let table = ServicesTable::embedded().context("read configs/node/services.toml")?;
        write_plan(&plan, &Owners::of(&table)).context("write the services' configuration")?;
        self.make_directories(&table).await;
        let groups = process::Services::prepare(Path::new(CONTROL_GROUPS))
            .context("prepare the services' control groups")?;
        let mut without = Vec::new();
        let mut managed = Vec::new();
        for service in plan.services {
            let name = service.component.name();
            let policy = policy_of(&table, name)?;
            let leaf = groups.leaf(name, &policy.into())?;
            without.extend(leaf.without().iter().cloned());
            managed.push(Managed {
                name: service.name(),
                leaf,
                launch: self.launch(&service, policy, &mut without)?,
                policy: service.policy,
                readiness: Some(service.readiness),
                liveness: Some(service.liveness),
            });
        }
        Ok((managed, without))
    }

    /// Hands a changed plan to services that run: files at once, command lines with their next start. Those that read
    /// a changed file only when they start are restarted.
    pub(super) fn renew(
        &self,
        leaves: &Leaves,
        etcd_start: EtcdStart,
        handle: &services::Handle,
    ) -> anyhow::Result<()> {
        let plan = self.plan(leaves, etcd_start);
        let table = ServicesTable::embedded()?;
        let changes = write_plan(&plan, &Owners::of(&table))?;
        for service in &plan.services {
            let name = service.component.name();
            let policy = policy_of(&table, name)?;
            // What the kernel refuses was told when the service was prepared.
            let launch = self.launch(service, policy, &mut Vec::new())?;
            handle.relaunch_as(name, launch)?;
        }
        for component in changes.restart {
            tracing::info!(
                service = component.name(),
                "restarts to read what was renewed"
            );
            handle.restart(component.name())?;
        }
        Ok(())
    }

    fn launch(
        &self,
        service: &Service,
        policy: &masthead_policy::Service,
        without: &mut Vec<Without>,
    ) -> anyhow::Result<Launch> {
        let mut rights = Rights::try_from(policy)?;
        let refused = rights.fit(self.node.kind);
        without.extend(refused.context("read the supervisor's own limits")?);
        let variables = service.environment.iter();
        Ok(Launch {
            program: service.program.clone(),
            arguments: service.arguments.iter().map(Into::into).collect(),
            environment: variables
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            directory: PathBuf::from("/"),
            output: Path::new(log::OUTPUT).join(service.component.name()),
            rights,
        })
    }

    /// Makes the services' directories on the disks. A disk that refuses them, or does not answer, is that service's
    /// trouble: it will say so in its own output, and the others, and whatever runs already, are none the worse
    /// for it.
    async fn make_directories(&self, table: &ServicesTable) {
        let services = table.services.clone();
        let making = tokio::task::spawn_blocking(move || {
            for service in &services {
                if let Err(error) = make_service_directories(service) {
                    let error = with_sources(&error);
                    tracing::error!(service = service.name, %error, "a directory cannot be made");
                }
            }
        });
        if tokio::time::timeout(self.node.scale * DISK_PATIENCE, making)
            .await
            .is_err()
        {
            tracing::error!("the services' directories are not looked at: a disk does not answer");
        }
    }
}

fn policy_of<'a>(
    table: &'a ServicesTable,
    name: &str,
) -> anyhow::Result<&'a masthead_policy::Service> {
    table
        .get(name)
        .with_context(|| format!("configs/node/services.toml has no service `{name}`"))
}
