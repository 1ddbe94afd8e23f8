//! Power on to a cluster of three: the same programs started bare, with everything prepared.

use super::{Bench, Figure, Measured};
use crate::{
    bench::{
        nodes::{BareCluster, empty, remove},
        prepared,
    },
    error::Result,
    plan::ClusterPlan,
};

const MASTERS: u8 = 3;

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let folder = bench.directory.join("labs/formation-bare");
    let mut times = Vec::new();
    for _ in 0..bench.runs {
        empty(&folder)?;
        let plan = ClusterPlan::new(MASTERS, folder.join("nodes"), &bench.image);
        let changes = prepared::prepare(&plan, &folder.join("changes"))?;
        let cluster = BareCluster::new(bench, &plan, &changes)?;
        times.push(cluster.time_formation()?.as_secs_f64());
    }
    remove(&folder)?;
    Ok(Measured {
        figures: vec![Figure::new("cluster of three, bare", "s", times)],
        notes: vec![
            "From the first node's power on, all at once, to the last apiserver's first answer 200 of /readyz.".to_owned(),
            "Bare: all authorities, certificates and command lines are prepared, and nobody asks who is there.".to_owned(),
        ],
    })
}
