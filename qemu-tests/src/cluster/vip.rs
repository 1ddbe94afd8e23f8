//! The virtual address, as the masters see it.

use serde::{Deserialize, Serialize};

use super::Cluster;
use crate::{
    error::{Error, Result},
    plan::ENDPOINT,
    provider::{Node, Power},
};

/// The virtual address in `lab status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipDescription {
    /// The address.
    pub address: String,
    /// The master that says that it owns it.
    pub owner: Option<String>,
    /// How often it has had another owner; no two owners have the same number.
    pub epoch: u64,
    /// For how long each renewal holds, in milliseconds.
    pub hold: Option<u64>,
}

impl Cluster {
    /// Who owns the virtual address, by its owner's own word.
    pub fn vip(&self) -> VipDescription {
        let is_on = |node: &&dyn Node| node.power() == Power::On;
        let names: Vec<String> = self
            .masters()
            .filter(is_on)
            .map(|node| node.plan().name.clone())
            .collect();
        let told = names
            .into_iter()
            .filter_map(|name| Some((self.vip_by(&name).ok()?, name)));
        let owned = told
            .filter(|(told, _)| told.owns)
            .max_by_key(|(told, _)| told.epoch);
        let (told, owner) = owned.unzip();
        VipDescription {
            address: ENDPOINT.to_string(),
            owner,
            epoch: told.as_ref().map_or(0, |told| told.epoch),
            hold: told.and_then(|told| told.hold),
        }
    }

    /// The owner's name; an error while nobody says that it is the owner.
    pub fn vip_owner(&self) -> Result<String> {
        let owner = self.vip().owner;
        owner.ok_or_else(|| Error::Refused(format!("no master says that it owns {ENDPOINT}")))
    }

    /// What one master says.
    pub(super) fn vip_by(&self, name: &str) -> Result<ToldOfVip> {
        let status = self.access.status_of(name)?;
        // None of a master behind a load balancer.
        let told = status.pointer("/nodes/0/status/virtual_addresses/0");
        let text = |field: &str| told?.get(field)?.as_str();
        let state = text("state");
        Ok(ToldOfVip {
            address: text("address").unwrap_or_default().to_owned(),
            owns: state == Some("owner"),
            is_owned: state.is_none_or(|state| ["owner", "standby"].contains(&state)),
            epoch: told
                .and_then(|told| told.get("epoch")?.as_u64())
                .unwrap_or_default(),
            hold: told.and_then(|told| told.get("hold")?.as_u64()),
        })
    }
}

/// What one master says of the virtual address.
pub(super) struct ToldOfVip {
    pub(super) address: String,
    /// It is its own.
    owns: bool,
    /// It is its own, or another master's; or the cluster has none.
    pub(super) is_owned: bool,
    epoch: u64,
    hold: Option<u64>,
}
