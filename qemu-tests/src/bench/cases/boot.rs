//! `/init` to `/readyz`: Masthead against the same programs started bare.

use std::time::Duration;

use super::{Bench, Figure, Measured};
use crate::{
    bench::{
        bare,
        figure::ratio,
        nodes::{Bare, Masthead, empty, remove},
    },
    error::Result,
    provider::ProviderKind,
};

/// Times of one kind of node.
#[derive(Default)]
struct Times {
    /// On blank disks.
    first: Vec<f64>,
    /// On the disks of a first boot whose power was cut.
    second: Vec<f64>,
}

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let changes = bench.directory.join("labs/bare-changes");
    let folder = bench.directory.join("labs/bare");
    empty(&changes)?;
    let (mut ours, mut bares) = (Times::default(), Times::default());
    // In turn, so that what else happens on the machine happens to both.
    for run in 0..bench.runs {
        let masthead = Masthead::new(bench, ProviderKind::Namespace, "boot")?;
        ours.first.push(seconds(masthead.time_boot()?));
        if run == 0 {
            bare::capture(masthead.node(), &changes)?;
        }
        masthead.node().cut_power()?;
        ours.second.push(seconds(masthead.time_boot()?));
        masthead.remove()?;

        let node = Bare::new(bench, &folder, &changes)?;
        bares.first.push(seconds(node.time_boot()?));
        node.node().cut_power()?;
        bares.second.push(seconds(node.time_boot()?));
    }
    remove(&changes)?;
    remove(&folder)?;
    let mut figures = Vec::new();
    for (boot, ours, bare) in [
        ("first boot", ours.first, bares.first),
        ("boot after a power cut", ours.second, bares.second),
    ] {
        let ours = Figure::new(format!("{boot}, Masthead"), "s", ours);
        let bare = Figure::new(format!("{boot}, bare"), "s", bare);
        let ratio = ratio(boot, &ours, &bare, super::GOAL_BOOT_RATIO);
        figures.extend([ours, bare, ratio]);
    }
    Ok(Measured {
        figures,
        notes: vec![
            "From the execution of /init to the first answer 200 of /readyz, asked for every 10 ms over a kept connection from outside of the node.".to_owned(),
            "Masthead and bare in turn; each run has disks of its own. The ratios are of the two of a turn.".to_owned(),
        ],
    })
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
