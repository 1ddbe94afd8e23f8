//! nf_tables over netlink, without the `nft` program: tables, chains, sets whose elements have a time, and rules.
//!
//! A [`Batch`] is carried out by the kernel as a whole or not at all ([`Connection::commit`]). The names of messages, attributes
//! and registers are those of `linux/netfilter/nf_tables.h`; numbers are in network byte order, as nfnetlink wants them.
//! There is no crate for this that is both alive and free of the GPL.

#![forbid(unsafe_code)]

mod attributes;
mod batch;
mod connection;
mod expression;

pub use batch::{Batch, Chain, Family, Hook, Set};
pub use connection::{Connection, Error};
pub use expression::{Compare, Expression, Header, Meta, Verdict};
