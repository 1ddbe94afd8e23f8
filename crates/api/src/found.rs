//! Founding the cluster without some of the masters that the seed lists, at an operator's word.

use serde::{Deserialize, Serialize};

/// Asks the planner to found without some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The names of the listed masters to leave out.
    pub without: Vec<String>,
    /// The cluster's name, typed by a person: it must be the seed's.
    pub cluster: String,
}

/// The founding begins. The node's status says how it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
}
