//! Orderly reboot and power-off.

use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::cluster::Availability;
use crate::disruption::{Disruption, Purpose};
use crate::upgrade::Image;

/// Asks for an orderly reboot or power-off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// Only say what would be done, and whether it would be refused.
    #[serde(default)]
    pub plan: bool,
    /// Go even if nothing can be written meanwhile, or if another master is out of service on purpose.
    #[serde(default)]
    pub accept_outage: bool,
}

/// The node has begun, or says what it would do. It answers before it stops its services; that it is back is seen by
/// `boot_id` of its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The boot that ends now.
    pub boot_id: String,
    /// What is done.
    pub plan: PowerPlan,
}

/// What a reboot or power-off does, and what speaks against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerPlan {
    /// The master that goes down.
    pub node: String,
    /// What for.
    pub purpose: Purpose,
    /// The image that it starts next, where that is another one than before.
    #[serde(default)]
    pub image: Option<Image>,
    /// How etcd is now; none when no member answers, and for a node that belongs to no cluster.
    #[serde(default)]
    pub availability: Option<Availability>,
    /// How many more voters may fail while the node is down; negative when nothing can be written then.
    #[serde(default)]
    pub spare_meanwhile: Option<i64>,
    /// The master that etcd's leader hands over to first; none when the node does not lead, or nobody can take over.
    #[serde(default)]
    pub hand_over_to: Option<String>,
    /// The node's services, in the order in which they are stopped.
    #[serde(default)]
    pub services: Vec<String>,
    /// Whether the node takes the disruption lock first. It goes without where etcd cannot be asked for it.
    #[serde(default)]
    pub takes_lock: bool,
    /// Who holds that lock now.
    #[serde(default)]
    pub lock: Option<Disruption>,
    /// Why it is refused; empty when it is not.
    #[serde(default)]
    pub refusals: Vec<Reason>,
    /// What would be a refusal if the operator had not accepted it.
    #[serde(default)]
    pub accepted: Vec<Reason>,
}
