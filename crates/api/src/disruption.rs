//! The one disruption lock: who takes a master out of service on purpose, one at a time.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::open_enum::open_enum;

open_enum! {
    /// What a master goes out of service for.
    pub enum Purpose {
        /// It comes back by itself.
        Reboot = "reboot",
        /// It stays off until somebody powers it on.
        PowerOff = "power-off",
        /// It comes back with another image, on trial.
        Upgrade = "upgrade",
        /// It comes back with the image that it had before.
        Rollback = "rollback",
    }
}

/// Who holds the lock. This is also what etcd keeps, under a key that the masters share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disruption {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// Drawn anew each time the lock is taken, 32 hexadecimal digits.
    pub id: String,
    /// The name of the master that goes out of service.
    pub holder: String,
    /// Its machine id: who serves again under this one gives the lock back.
    pub machine_id: String,
    /// What for.
    pub purpose: Purpose,
    /// The operator's public key.
    pub by: String,
    /// Since when, by the holder's clock.
    pub since: Timestamp,
}

impl Disruption {
    /// As much of the id as people are shown.
    pub fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

/// Asks to take the lock away from a master that will not give it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The name of the master that holds it.
    pub holder: String,
    /// What the [`id`](Disruption::id) of the lock that is meant begins with: another one, which the same master has taken since, stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The lock is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// Who held it.
    pub held: Disruption,
}
