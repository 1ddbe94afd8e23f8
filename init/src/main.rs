//! `/init`: PID 1 of a node, and as `/init supervisor` its supervisor.

use std::process::ExitCode;

fn main() -> ExitCode {
    masthead_init::run(masthead_init::Release::THIS)
}
