//! Orderly reboot and power-off.

use serde::{Deserialize, Serialize};

/// Asks for an orderly reboot or power-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
}

/// The node has begun. It answers before it stops its services; that it is back is seen by
/// `boot_id` of its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The boot that ends now.
    pub boot_id: String,
}
