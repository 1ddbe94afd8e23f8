//! An ear on the cluster's wire, and a mouth: what leaves each node, where it leaves it, in one order.

use std::time::{Duration, Instant};

use crate::{error::Result, plan::Mac};

/// So many bytes of each frame are heard: the headers.
pub const HEARD: usize = 64;

/// A frame that a node has sent.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When it was heard. Of two frames the earlier one is told first, whatever this says.
    pub at: Instant,
    /// By which node.
    pub from: Mac,
    /// Its first bytes, [`HEARD`] at most.
    pub bytes: Vec<u8>,
}

/// An ear and a mouth on the wire, where the lab is.
pub trait Tap: Send {
    /// The next frame, if one comes in that time.
    fn hear(&mut self, patience: Duration) -> Result<Option<Heard>>;

    /// Sends a frame to all nodes, or to the one that it is addressed to.
    fn say(&mut self, frame: &[u8]) -> Result<()>;

    /// How many frames were lost on the way to the ear.
    fn missed(&mut self) -> Result<u64>;
}
