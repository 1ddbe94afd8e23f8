//! `lab`: clusters of Masthead on one machine. See `docs/lab.md`.

mod command_line;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use masthead_streams::note;

fn main() -> ExitCode {
    match commands::run(command_line::CommandLine::parse()) {
        Ok(code) => code,
        Err(error) => {
            note(&format!("lab: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}
