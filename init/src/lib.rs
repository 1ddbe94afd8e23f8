//! PID 1 and the supervisor of a Masthead node: one binary, two roles.
//!
//! See `ARCHITECTURE.md` for the map. `pid1` and `link` are synchronous and allocate nothing in
//! their loop; everything else belongs to the supervisor.

mod check_seed;
pub mod console;
pub mod descriptor;
pub mod disk;
pub mod disruption;
mod error_chain;
pub mod etcd;
pub mod firewall;
pub mod formation;
pub mod identity;
pub mod link;
pub mod listeners;
pub mod loop_device;
pub mod management;
pub mod network;
pub mod network_time;
pub mod node;
pub mod operators;
pub mod output;
pub mod peer;
pub mod pid1;
pub mod process;
mod random;
mod role;
pub mod seed_source;
pub mod services;
mod serving;
pub mod slots;
pub mod supervisor;
pub mod vip;
pub mod volume;

pub use role::{Release, run};
