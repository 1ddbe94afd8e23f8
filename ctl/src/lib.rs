//! `mastctl`, the operator's client of the management API.
//!
//! - [`cli`]: the command line; `commands`: one module for each command;
//! - [`config`]: contexts (nodes, pinned authority, certificate, key) in `mastctl.toml`;
//! - [`client`]: one request over mutual TLS; `tls`: whom to believe;
//! - [`failure`]: what failed, where, why and what to do next, with the exit code;
//! - `table`, `text`: what people see.

#![forbid(unsafe_code)]

mod commands;
mod duration;
mod files;
mod table;
mod text;
mod tls;

pub mod cli;
pub mod client;
pub mod config;
pub mod failure;

pub use cli::Cli;
pub use failure::{Exit, Failure};

/// Runs a command line. What it has to say goes to standard output, notices to standard error.
pub fn run(cli: Cli) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("start", &error, "Free some memory or descriptors."))?
        .block_on(commands::run(cli))
}
