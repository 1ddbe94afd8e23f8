//! `/init` of the initramfs: mounts the root, and goes on as the `/init` in there.
//!
//! A program of its own, because the whole of PID 1 and the supervisor would be ten times its size, and be in the image
//! twice.

use std::process::{self, ExitCode};

use masthead_init::pid1;

/// `EX_USAGE` of sysexits(3).
const WRONG_USAGE: u8 = 64;

fn main() -> ExitCode {
    if process::id() == 1 {
        pid1::first_stage()
    }
    eprintln!("init: this is PID 1 of an initramfs, and process 1 is another one here");
    ExitCode::from(WRONG_USAGE)
}
