//! Processes of services: born in their control group, watched by pidfd, adopted after a crash.
//!
//! A populated leaf `services/NAME` is the record that a service runs. [`start`] therefore makes
//! the child *in* its leaf (`CLONE_INTO_CGROUP`) and refuses a populated one, and a restarted
//! supervisor [`adopt`]s what it finds there. Killed between any two system calls, a supervisor
//! leaves either an empty leaf or exactly one process of the service in it.
//!
//! | module | what |
//! |---|---|
//! | [`leaf`] | the control group of a service: limits, who is in it, kill, wait until empty |
//! | [`launch`] | what to start: program, account, capabilities, limits |
//! | `policy` | both of the latter from `configs/node/services.toml` |
//! | [`start`](mod@start) | starts it, and tells which step failed |
//! | `plan` | what the parent prepares for the child, and what that reports |
//! | `child` | the one unsafe module: `clone3` and what the child does before `execve` |
//! | [`running`] | a process held by its pidfd; adoption |
//!
//! The supervisor waits for its children by pidfd only. It must never call `waitpid(-1)`, which
//! would take the exit status away from the [`Running`] that waits for it.

mod child;
pub mod launch;
pub mod leaf;
mod plan;
mod policy;
pub mod running;
pub mod start;
mod stat;

pub use launch::{Account, Launch, ResourceLimit, Rights};
pub use leaf::{Leaf, LeafError, Limits, Services, Without};
pub use policy::InvalidRights;
pub use running::{AdoptError, Adopted, End, Running, adopt};
pub use start::{StartError, start};
