//! `/init` whose owners count their time from the answer of etcd, and not from when they asked. Tests put it into some masters' roots, and
//! must see two owners.

use std::process::ExitCode;

use masthead_lab::broken::run_with;
use masthead_vip_faults::Fault;

fn main() -> ExitCode {
    run_with(|setup| masthead_lab::broken::ownership(setup, Fault::HoldFromAnswer))
}
