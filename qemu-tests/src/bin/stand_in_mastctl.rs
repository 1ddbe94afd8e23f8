//! A `mastctl` for tests of the lab that have no Masthead in their nodes: it prints what a key and a
//! secret look like, and refuses everything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "secret") {
        println!("mh1-stand-in");
    } else if std::env::args().any(|argument| argument == "keygen") {
        println!("mk1-stand-in");
    } else {
        eprintln!("nobody answers");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
