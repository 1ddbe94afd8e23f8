//! `/init` whose supervisor ends as soon as it starts. Tests put it into an image, and must see the master give that image up.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("supervisor") {
        return ExitCode::FAILURE;
    }
    masthead_init::run(masthead_init::Release::THIS)
}
