//! Test clusters of Masthead: the same `init` binary in QEMU machines or in namespaces.
//!
//! A [`cluster::Cluster`] is made from a [`plan::ClusterPlan`] and runs on a
//! [`provider::Provider`], which knows one way to have a node: switch it on, cut its power, take
//! its link or its disk away. `lab` (the program) and the cluster tests drive both providers
//! through that one interface and cannot tell them apart, except where a node kind has no means
//! for something and says so ([`error::Error::Unsupported`]).
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | names, addresses, disks, the seed's text: all that follows from a few numbers |
//! | [`provider`] | the interface between a cluster and the way its nodes are run |
//! | [`namespace`] | nodes as PID 1 of new namespaces, at native speed |
//! | [`qemu`] | nodes as virtual machines; [`block`] their disks, [`switch`] their wire |
//! | [`cluster`] | nodes on a provider, with an operator's way into them |
//! | [`saved`] | a cluster in a folder, to be restored |
//! | [`directory`], [`tools`] | `.lab/`, and the programs that a cluster needs |
//! | [`tap`], [`witness`] | an ear on the wire, and who is heard there with the virtual address |
//! | [`partition`] | what a wire that is cut between groups does not carry |
//! | [`console`] | reading what a node shows |
//! | [`daemon`] | the process behind `lab up`, and how the other commands speak to it |
//! | [`readyz`] | whether an apiserver is ready, at little cost |
//! | [`enter`] | running a program inside of a namespace node |
//! | [`patience`] | the measured speed of this machine; waiting for a condition |
//! | [`writers`], [`watcher`] | clients that write while masters die, and one that waits |
//! | [`broken`] | programs that are built to be found faulty |
//! | [`bench`] | the figures of `docs/benchmarks.md` |
//! | [`error`] | what can go wrong |

pub mod bench;
pub mod block;
pub mod broken;
pub mod cluster;
pub mod console;
mod credentials;
pub mod daemon;
pub mod directory;
pub mod enter;
pub mod error;
pub mod image;
pub mod namespace;
pub mod partition;
pub mod patience;
pub mod plan;
mod power;
pub mod provider;
pub mod qemu;
pub mod readyz;
pub mod saved;
pub mod switch;
pub mod system_partition;
pub mod tap;
pub mod tools;
pub mod watcher;
pub mod witness;
pub mod writers;
