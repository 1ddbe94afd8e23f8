//! Which of its roles the binary is started in.

use std::env;
use std::ffi::OsString;
use std::process::{self, ExitCode};

use masthead_peer_protocol::{SPOKEN, Versions};

use crate::node::SupervisorOptions;
use crate::vip::{Deciding, deciding};
use crate::{check_seed, pid1, supervisor};

/// `EX_USAGE` of sysexits(3).
const WRONG_USAGE: u8 = 64;

/// What may differ between an `/init` and another one.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// Of the peer protocol: a release speaks its own and the one before.
    pub versions: Versions,
    /// Who decides about virtual addresses.
    pub deciding: Deciding,
}

impl Release {
    /// The one that is shipped.
    pub const THIS: Self = Self {
        versions: SPOKEN,
        deciding: deciding::shipped,
    };
}

/// Runs as PID 1, or with the argument `supervisor` as that.
pub fn run(release: Release) -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((role, options)) if role == "supervisor" => match SupervisorOptions::parse(options) {
            Ok(options) => supervisor::run(&options, release),
            Err(error) => refuse(&error),
        },
        Some((role, [])) if role == "check-seed" => check_seed::run(),
        _ if process::id() == 1 => pid1::main(&arguments),
        _ => refuse(&"this is PID 1 of a Masthead node, and process 1 is another one here"),
    }
}

fn refuse(reason: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("init: {reason}");
    ExitCode::from(WRONG_USAGE)
}
