//! Standard output and standard error of the programs that people run.
//!
//! Rust ignores SIGPIPE, so a reader that has seen enough (`lab status | head -1`) shows as an error of a write, and
//! `println!` makes a panic of it. Here it is decided once: **a closed standard output ends the program, with status
//! 0**, as the signal would have ended it, but without a failure for `set -o pipefail` to see. What was asked for is done
//! by then: these programs write their results last. A closed standard error changes nothing: it is for people, and
//! nobody is there.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Write};
use std::process;

/// Writes to standard output, at once. Does not return when nobody reads it any more; other errors, a full
/// disk for example, are the caller's.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    end_with_reader(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Ends the program when a write to standard output says that nobody reads it any more.
pub fn end_with_reader<T>(written: io::Result<T>) -> io::Result<T> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        written => written,
    }
}

/// Writes to standard error, if anybody is there.
pub fn note(text: &str) {
    // There is nowhere left to say that it cannot be said.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
