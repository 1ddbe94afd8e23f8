//! A bare cluster of several masters with everything prepared: what forming one costs at least.
//!
//! Authorities, certificates, addresses and command lines are those that Masthead would have after it has formed
//! the cluster (`masthead-control-plane` plans them); every node finds them in its root and only starts etcd and
//! kube-apiserver.

use std::{
    fs::{self, DirBuilder, Permissions},
    net::IpAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use masthead_control_plane::{
    AuditStore, Component, ControlPlane, EtcdStart, Inputs, Member, Paths, plan, subject_names,
};
use masthead_machine::Scale;
use masthead_pki::{Leaves, Roots};
use masthead_policy::Services;
use masthead_seed::{OperatorKey, Secret, Seed};
use time::OffsetDateTime;

use super::bare::{self, Bare, Program, below};
use crate::{
    error::{Attempt, Error, Result},
    namespace::first_user,
    plan::{ClusterPlan, NodePlan},
};

/// Writes a folder of root changes for each node of the plan below `folder`, and returns them in the nodes' order.
pub(super) fn prepare(cluster: &ClusterPlan, folder: &Path) -> Result<Vec<PathBuf>> {
    let seed = seed(cluster)?;
    let now = OffsetDateTime::now_utc();
    let cluster_id = format!("{:032x}", now.unix_timestamp_nanos());
    let roots = Roots::generate(&cluster_id, now).map_err(impossible)?;
    let members: Vec<Member> = cluster
        .nodes()
        .iter()
        .map(|node| Member {
            machine_id: format!("{:032x}", node.number),
            address: IpAddr::V4(node.address()),
        })
        .collect();
    let services = Services::embedded().map_err(impossible)?;
    let prepare_one = |((node, master), member): ((NodePlan, _), &Member)| {
        let names = |purpose| subject_names(purpose, &seed, master);
        let leaves = Leaves::issue(&roots, names, now).map_err(impossible)?;
        let inputs = Inputs {
            seed: &seed,
            master,
            cluster_id: &cluster_id,
            machine_id: &member.machine_id,
            members: &members,
            etcd_start: EtcdStart::New,
            roots: &roots,
            leaves: &leaves,
            audit: AuditStore::Disk,
            scale: Scale::REAL,
            paths: Paths::default(),
        };
        let changes = folder.join(&node.name);
        write(&plan(&inputs), &services, &node, &changes)?;
        Ok(changes)
    };
    let nodes = cluster.nodes().into_iter().zip(&seed.masters);
    nodes.zip(&members).map(prepare_one).collect()
}

fn seed(cluster: &ClusterPlan) -> Result<Seed> {
    let mut random = [0; 32];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .attempt(|| "get random numbers")?;
    let secret = Secret::generate(random).map_err(impossible)?.to_text();
    let text = cluster.seed(&secret, &[OperatorKey([7; 32]).to_string()]);
    Seed::parse("seed.toml", text.as_bytes())
        .map_err(|report| Error::Refused(format!("the lab's own seed is refused: {report:?}")))
}

/// Writes what a node of that plan finds: owned by the node's users, as the host numbers them.
fn write(plan: &ControlPlane, services: &Services, node: &NodePlan, changes: &Path) -> Result<()> {
    let root = first_user(node);
    let user = |component: Component| {
        services
            .get(component.name())
            .map_or(0, |service| service.uid)
    };
    let place = |path: &Path| {
        let path = path.strip_prefix(bare::USUAL_CONFIGURATION).unwrap_or(path);
        below(changes, bare::CONFIGURATION).join(path)
    };
    for directory in &plan.directories {
        let path = place(&directory.path);
        let owner = root + directory.owner.map_or(0, user);
        DirBuilder::new()
            .recursive(true)
            .create(&path)
            .and_then(|()| chown(&path, Some(owner), Some(owner)))
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(directory.mode)))
            .attempt(|| format!("make {}", path.display()))?;
    }
    for file in &plan.files {
        let path = place(&file.path);
        let owner = root + file.owner.map_or(0, user);
        fs::write(&path, file.contents.expose())
            .and_then(|()| chown(&path, Some(owner), Some(owner)))
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(file.mode)))
            .attempt(|| format!("write {}", path.display()))?;
    }
    let programs = plan.services.iter().filter_map(|service| {
        let name = service.component.name();
        let (_, folder) = bare::SERVICES.iter().find(|(known, _)| *known == name)?;
        let program = service.program.display().to_string();
        Some(Program {
            name: name.to_owned(),
            folder: (*folder).to_owned(),
            arguments: [program]
                .into_iter()
                .chain(service.arguments.clone())
                .collect(),
            user: user(service.component),
        })
    });
    let bare = Bare {
        address: node.address(),
        programs: programs.collect(),
    };
    bare.write(changes)
}

/// What can go wrong only when the programs do not fit each other.
fn impossible(error: impl std::error::Error) -> Error {
    Error::Refused(format!(
        "a bare cluster cannot be prepared: {}",
        crate::error::chain(&error)
    ))
}
