//! What a founded node is.

use std::collections::BTreeMap;
use std::sync::Arc;

use masthead_api::ReasonCode;
use masthead_control_plane::Member;
use masthead_formation::{MachineId, Plan};
use masthead_pki::Roots;
use masthead_seed::{Master, Seed};

use super::problem::Problem;
use crate::error_chain::with_sources;
use crate::formation::sealed;

/// What this node is, as its cluster's plan says.
#[derive(Clone, Debug)]
pub struct Identity {
    /// 32 random hexadecimal digits, made at the first boot.
    pub machine_id: String,
    /// 32 random hexadecimal digits, made when the cluster was founded.
    pub cluster_id: String,
    /// The founding members, this one with its present address.
    pub members: Vec<Member>,
    /// The masters' names, by machine id, which is what etcd knows members by.
    pub names: BTreeMap<String, String>,
    /// Authorities and keys.
    pub roots: Arc<Roots>,
}

impl Identity {
    /// That of a member of that plan, which `master` of the `seed` is now.
    pub fn of_plan(
        plan: &Plan,
        machine_id: MachineId,
        seed: &Seed,
        master: &Master,
    ) -> Result<Self, Problem> {
        let founded = sealed::open(&plan.document().sealed).map_err(|error| {
            Problem::new(
                ReasonCode::IdentityDamaged,
                format!(
                    "The plan on STATE cannot be used: {}.",
                    with_sources(&error)
                ),
            )
        })?;
        let services = seed.kubernetes.services.to_string();
        for (what, founded, now) in [
            ("cluster", &plan.document().cluster, &seed.cluster),
            ("kubernetes.services", &founded.services, &services),
        ] {
            if founded != now {
                return Err(Problem::new(
                    ReasonCode::SeedChanged,
                    format!(
                        "The seed says {what} = \"{now}\"; this node's cluster was founded with \"{founded}\"."
                    ),
                ));
            }
        }
        let members = plan.members().iter().map(|member| Member {
            machine_id: member.machine_id.to_string(),
            address: if member.machine_id == machine_id {
                master.address
            } else {
                member.address
            },
        });
        // By the seed as it is now, if it still has a master there.
        let name = |member: &masthead_formation::Member| {
            let master = if member.machine_id == machine_id {
                Some(master)
            } else {
                let masters = &mut seed.masters.iter();
                masters.find(|master| master.address == member.address)
            };
            master.map_or(&member.name, |master| &master.name).clone()
        };
        let names = plan
            .members()
            .iter()
            .map(|member| (member.machine_id.to_string(), name(member)));
        Ok(Self {
            machine_id: machine_id.to_string(),
            cluster_id: plan.cluster_id().to_string(),
            members: members.collect(),
            names: names.collect(),
            roots: Arc::new(founded.roots),
        })
    }
}
