//! Which of its two roles the binary is started in.

use std::env;
use std::ffi::OsString;
use std::process::{self, ExitCode};

use masthead_peer_protocol::Versions;

use crate::node::SupervisorOptions;
use crate::{pid1, supervisor};

/// `EX_USAGE` of sysexits(3).
const WRONG_USAGE: u8 = 64;

/// Runs as PID 1, or with the argument `supervisor` as that, which speaks these versions of the peer protocol: a release
/// its own and the one before.
pub fn run(versions: Versions) -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((role, options)) if role == "supervisor" => match SupervisorOptions::parse(options) {
            Ok(options) => supervisor::run(&options, versions),
            Err(error) => refuse(&error),
        },
        _ if process::id() == 1 => pid1::main(&arguments),
        _ => refuse(&"this is PID 1 of a Masthead node, and process 1 is another one here"),
    }
}

fn refuse(reason: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("init: {reason}");
    ExitCode::from(WRONG_USAGE)
}
