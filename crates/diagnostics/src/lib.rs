//! Reads TOML files that people write, and reports every fault at once.
#![forbid(unsafe_code)]

mod report;

pub use report::{Diagnostic, Report, Severity};
