//! Virtual addresses that the masters own in turn.
//!
//! - [`record`], [`store`]: the key in etcd;
//! - [`health`]: whether this node's apiserver can serve;
//! - [`gate`]: the kernel's word on who answers for an address;
//! - [`announce`]: the neighbours' word on where it is.
//!
//! Who owns one is `masthead-vip`'s business. Nothing drives these yet.

pub mod announce;
pub mod gate;
pub mod health;
pub mod record;
pub mod store;
