//! The management API: HTTP over mutual TLS 1.3 on port 9440, and `/metrics` on 9441.
//!
//! - [`identity`]: what the server is and may issue; exchanged under way through a `watch`;
//! - [`node`]: what the server asks of the rest of the supervisor;
//! - [`server`]: connections and their bounds; `caller` is who is at the other end;
//! - `routes`: requests to answers; `login`, `operators`, `kubeconfig`, `logs`, `power`, `found` for the longer ones;
//! - `words`: handing an operator's word on, and awaiting what becomes of it;
//! - `challenges`: the nonces of logging in;
//! - [`metrics`]: a status as Prometheus text, and its listener.
//!
//! Every request is logged with who asked for what, and nothing that was in its body.

mod body;
mod caller;
mod challenges;
mod found;
mod kubeconfig;
mod login;
mod logs;
mod operators;
mod power;
mod routes;
mod words;

pub mod identity;
pub mod metrics;
pub mod node;
pub mod server;

pub use identity::{Identity, IdentityError, Issuers};
pub use logs::stream;
pub use node::{
    Answering, Bundle, Commands, FoundCommand, LogRequest, Node, PowerAction, PowerCommand,
};
pub use server::Server;
