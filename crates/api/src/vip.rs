//! What operators may ask of a virtual address.

use serde::{Deserialize, Serialize};

/// Asks for another owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRequest {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The name of the master that shall own it.
    pub to: String,
    /// Which address; all of them when there is none.
    #[serde(default)]
    pub address: Option<String>,
    /// Only say what would be done, and whether it would be refused.
    #[serde(default)]
    pub plan: bool,
}

/// Who owned which address, and who owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveAnswer {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// One for each address that was asked for.
    pub moves: Vec<Move>,
}

/// A move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The address.
    pub address: String,
    /// The name of the master that owned it when this was asked.
    pub from: String,
    /// The name of the one that was asked for. It is the same when there was nothing to do.
    pub to: String,
    /// How long nobody owned it, in milliseconds, as far as the former owner has seen; absent when it did not move.
    #[serde(default)]
    pub took: Option<u64>,
}
