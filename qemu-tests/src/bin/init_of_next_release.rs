//! `/init` as the release after this one will be for its peers: it speaks the next version of their protocol, and this
//! one. Tests put it into some masters' roots, so that a cluster has both, as in the middle of an upgrade.

use std::process::ExitCode;

use masthead_init::Release;
use masthead_peer_protocol::{SPOKEN, Versions};

fn main() -> ExitCode {
    masthead_init::run(Release {
        versions: Versions::of_release(SPOKEN.newest.0 + 1),
        ..Release::THIS
    })
}
