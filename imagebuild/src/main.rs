//! `imagebuild`: see the library.

use std::process::ExitCode;

use clap::Parser as _;
use masthead_imagebuild::command_line::CommandLine;

fn main() -> ExitCode {
    CommandLine::parse().run()
}
