//! `mastctl`: see `docs/mastctl.md`.

use std::process::ExitCode;

use clap::Parser;
use masthead_ctl::{Cli, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = cli.output();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(output);
            failure.exit.into()
        }
    }
}
