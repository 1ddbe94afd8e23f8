//! `/init check-seed`: what a node asks the image that it was sent.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn ask(seed: &str) -> Output {
    let mut init = Command::new(env!("CARGO_BIN_EXE_init"))
        .arg("check-seed")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = init.stdin.take().expect("a pipe");
    input.write_all(seed.as_bytes()).expect("it reads");
    drop(input);
    init.wait_with_output().expect("it ends")
}

#[test]
fn a_seed_is_taken_or_all_that_is_wrong_with_it_is_said() {
    let good = include_str!("../../configs/seeds/three-masters.toml");
    let taken = ask(good);
    assert_eq!(taken.status.code(), Some(0), "{taken:?}");
    assert!(taken.stdout.is_empty(), "{taken:?}");
    let refused = ask(&good.replace("version ", "verison "));
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(
        said.contains("`verison`") && said.contains("did you mean"),
        "{said}"
    );
}
