//! Power on to a cluster of three: Masthead, which founds it, against the same programs started bare with everything
//! prepared.

use super::{Bench, Figure, Measured};
use crate::{
    bench::{
        figure::ratio,
        nodes::{BareCluster, MastheadCluster, empty, remove},
        prepared,
    },
    error::Result,
    plan::ClusterPlan,
};

const MASTERS: u8 = 3;
/// Masthead to bare, at most.
const GOAL_RATIO: f64 = 1.5;

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let folder = bench.directory.join("labs/formation-bare");
    let founded = bench.directory.join("labs/formation");
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    // In turn, so that what else happens on the machine happens to both.
    for _ in 0..bench.runs {
        let plan = ClusterPlan::new(MASTERS, &founded, &bench.image);
        let masthead = MastheadCluster::new(bench, plan)?;
        ours.push(masthead.time_formation()?.as_secs_f64());
        masthead.remove()?;

        empty(&folder)?;
        let plan = ClusterPlan::new(MASTERS, folder.join("nodes"), &bench.image);
        let changes = prepared::prepare(&plan, &folder.join("changes"))?;
        let cluster = BareCluster::new(bench, &plan, &changes)?;
        bares.push(cluster.time_formation()?.as_secs_f64());
    }
    remove(&folder)?;
    let ours = Figure::new("cluster of three, Masthead", "s", ours);
    let bare = Figure::new("cluster of three, bare", "s", bares);
    let ratio = ratio("cluster of three", &ours, &bare, GOAL_RATIO);
    Ok(Measured {
        figures: vec![ours, bare, ratio],
        notes: vec![
            "From the first node's power on, all at once, to the last apiserver's first answer 200 of /readyz.".to_owned(),
            "Masthead begins with blank disks and one seed. Bare: all authorities, certificates and command lines are prepared, and nobody asks who is there.".to_owned(),
        ],
    })
}
