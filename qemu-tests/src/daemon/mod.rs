//! The process behind `lab up`: it owns the cluster; the other commands ask it.
//!
//! It runs in a session of its own, so that a terminal may close or press Ctrl-C. Everything of
//! the cluster lives and dies with it. [`client`] is the commands' side, [`server`] its own,
//! [`protocol`] what they say to each other.

pub mod client;
pub mod protocol;
pub mod server;
