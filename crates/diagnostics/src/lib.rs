//! Reads TOML files that people write, and reports every fault of a file at once.
//!
//! ```
//! use masthead_diagnostics::Document;
//!
//! let document = Document::decode("node.toml", b"name = \"m1\"\nports = 6443\n").expect("it is UTF-8");
//! let (name, report) = document.read(|root| {
//!     let name = root.require("name", "name = \"m1\"")?.string()?;
//!     root.get("port").and_then(|port| port.integer(1..=65535));
//!     Some(name.to_owned())
//! });
//! assert_eq!(name, None, "a file with errors yields nothing");
//! assert_eq!(report.to_string(), "\
//! node.toml:2:1: error: unknown key `ports`
//! 2 | ports = 6443
//!   | ^^^^^
//!   = help: did you mean `port`?
//! ");
//! ```
//!
//! A [`Document`] decodes bytes; [`Document::read`] walks its tree through [`Table`] and [`Value`], which
//! write down what they find wrong and go on. Keys that nobody asked for are reported when their table
//! goes out of scope. A reader returns `None` for what it could not make, never stops at the first fault.
#![forbid(unsafe_code)]

mod document;
mod excerpt;
mod report;
mod suggest;
mod syntax;
mod table;
mod value;

pub use document::{Document, LIMIT, Place};
pub use report::{Diagnostic, Report, Severity};
pub use suggest::nearest;
pub use table::{Key, Table};
pub use value::{Shape, Value};
