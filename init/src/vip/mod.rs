//! Virtual addresses that the masters own in turn.
//!
//! Who owns one is `masthead-vip`'s business: a [`driver`] for each address feeds its machine and carries its actions out.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`] | all addresses of this node, on whichever interface it has |
//! | [`driver`] | one address: the machine, its timer, its tasks |
//! | [`deciding`] | which machine that is |
//! | [`record`], [`keys`], [`store`] | the keys in etcd |
//! | [`sensors`], [`health`] | what this node's own member and apiserver say |
//! | [`exchange`] | what owner and other masters tell each other |
//! | [`gate`], [`gatekeeper`] | the kernel's word on who answers for an address |
//! | [`interface`] | the address on the interface |
//! | [`announce`], [`announcing`] | the neighbours' word on where it is |
//! | [`claims`] | others who say that they have it |
//! | [`probe`] | whether a stranger has it |
//! | [`connections`], [`tickle`] | clients that are connected to it |
//! | [`report`] | what people are told |

pub mod announce;
pub mod connections;
pub mod deciding;
pub mod gate;
pub mod health;
pub mod probe;
pub mod record;
pub mod report;
pub mod store;
pub mod tickle;

mod announcing;
mod claims;
mod driver;
mod exchange;
mod gatekeeper;
mod interface;
mod keys;
mod node;
mod sensors;

pub use deciding::{Decides, Deciding};
pub use exchange::{Answer, Question};
pub use node::{Config, Handle, spawn};
