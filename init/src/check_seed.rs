//! `/init check-seed`: whether this release takes a seed, which comes on the standard input.
//!
//! A node that is sent an image asks that image's `/init` so, before anything is changed by which the image would be started: every release keeps
//! this as it is.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use masthead_seed::Seed;

/// The seed is not taken, and the standard output says why: `EX_DATAERR` of sysexits(3).
pub(crate) const NOT_TAKEN: u8 = 65;
/// The seed could not be read: `EX_IOERR`.
const UNREAD: u8 = 74;

/// Reads a seed, and says what is wrong with it.
pub(crate) fn run() -> ExitCode {
    let mut seed = Vec::new();
    if let Err(error) = io::stdin().read_to_end(&mut seed) {
        eprintln!("init: the seed cannot be read: {error}");
        return ExitCode::from(UNREAD);
    }
    match Seed::parse("seed.toml", &seed) {
        Ok(_) => ExitCode::SUCCESS,
        Err(report) => {
            // Whoever asks may have gone.
            let _ = write!(io::stdout(), "{report}");
            ExitCode::from(NOT_TAKEN)
        }
    }
}
