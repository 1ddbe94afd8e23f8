//! `/init` of a release that takes no seed of today's. Tests put it into an image, and must see that the image is not started.

use std::{
    env,
    io::{self, Read as _},
    process::ExitCode,
};

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("check-seed") {
        let mut seed = String::new();
        let read = io::stdin().read_to_string(&mut seed);
        println!("seed.toml: a seed of {read:?} bytes, of an older format");
        return ExitCode::from(65); // EX_DATAERR, as `check_seed` says it
    }
    masthead_init::run(masthead_init::Release::THIS)
}
