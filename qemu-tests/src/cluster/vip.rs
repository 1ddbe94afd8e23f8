//! The virtual address, as the masters see it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
        let told = names.iter().filter_map(|name| self.vip_by(name).ok());
        let owned = told
            .filter(|told| told.owner.is_some())
            .max_by_key(|told| told.epoch);
        owned.unwrap_or(VipDescription {
            address: ENDPOINT.to_string(),
            owner: None,
            epoch: 0,
        })
    }

    /// The owner's name; an error while nobody says that it is the owner.
    pub fn vip_owner(&self) -> Result<String> {
        let owner = self.vip().owner;
        owner.ok_or_else(|| Error::Refused(format!("no master says that it owns {ENDPOINT}")))
    }

    /// What one master says: `owner` is none unless it is the owner.
    fn vip_by(&self, name: &str) -> Result<VipDescription> {
        let status = self.access.status_of(name)?;
        let told = status
            .pointer("/nodes/0/status/virtual_addresses/0")
            .cloned()
            .unwrap_or_default();
        let text = |field: &str| told.get(field).and_then(Value::as_str);
        let owns = text("state") == Some("owner");
        Ok(VipDescription {
            address: text("address").unwrap_or_default().to_owned(),
            owner: owns.then(|| name.to_owned()),
            epoch: told.get("epoch").and_then(Value::as_u64).unwrap_or(0),
        })
    }
}
