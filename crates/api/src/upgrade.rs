//! Another image for a node: into the slot that does not run, and then, under the disruption lock, on trial.

use serde::{Deserialize, Serialize};

/// An image, as it says itself what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its version, such as `0.2.0`.
    pub version: String,
    /// UUID of its root file system: two images with the same one are the same.
    pub image: String,
    /// Its Kubernetes, such as `v1.36.3`.
    #[serde(default)]
    pub kubernetes: String,
    /// Its etcd, such as `3.6.16`.
    #[serde(default)]
    pub etcd: String,
}

/// The image of a bundle that was sent is in the slot that does not run, whole, or would be taken. Nothing starts it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// What it is.
    pub image: Image,
    /// What runs.
    pub running: Image,
    /// Where it was written: `A` or `B`. None if only the beginning of the bundle was sent, to ask whether it would be taken.
    #[serde(default)]
    pub slot: Option<String>,
}

/// Asks a node to reboot on trial into the image that it was sent before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The UUID of its root: another one that somebody else has sent meanwhile is not meant.
    pub image: String,
    /// Only say what would be done, and whether it would be refused. No image needs to have been sent for that.
    #[serde(default)]
    pub plan: bool,
    /// Go even if nothing can be written meanwhile, if another master is out of service on purpose, or without a snapshot.
    #[serde(default)]
    pub accept_outage: bool,
}
