//! What writers to three masters notice of etcd's elections: how long nothing is acknowledged when the leader's machine
//! dies, and how often the load alone makes etcd elect. Both for the time-outs that are set, and for etcd's defaults.

use std::time::Duration;

use super::{Bench, Figure, Measured};
use crate::{
    bench::nodes::MastheadCluster,
    cluster::Cluster,
    error::Result,
    patience::Look,
    plan::ClusterPlan,
    writers::{Pace, Writers},
};

const MASTERS: [&str; 3] = ["m1", "m2", "m3"];
/// What a client waits for an answer before it tries again.
const TIMEOUT: Duration = Duration::from_millis(250);
/// Of all masters together.
const WRITERS: usize = 8;
/// Acknowledged writes before and after the death, by which the writers are known to go on.
const GO_ON: usize = 100;
/// How long writers may take to go on on a real machine, generously.
const NOMINAL: Duration = Duration::from_secs(60);
/// How long the load lasts in which elections are counted.
const LOAD: Duration = Duration::from_secs(10 * 60);

/// Heartbeat and election time-out of etcd, and the lines of the seed that set them.
const TIMINGS: [(&str, &str); 2] = [
    ("50 ms and 500 ms", ""),
    (
        "100 ms and 1 s",
        "[kubernetes.flags]\netcd = { heartbeat-interval = \"100\", election-timeout = \"1000\" }\n",
    ),
];

/// The longest time without an acknowledged write through the two masters that stay, when the leader's power is cut.
pub(super) fn outage(bench: &Bench) -> Result<Measured> {
    let mut figures = Vec::new();
    for (timing, seed) in TIMINGS {
        let mut gaps = Vec::new();
        let masters = formed(bench, seed)?;
        for _ in 0..bench.runs {
            gaps.push(one_outage(masters.cluster())?.as_secs_f64());
        }
        masters.remove()?;
        let what = format!("longest gap between acknowledged writes, {timing}");
        figures.push(Figure::new(what, "s", gaps));
    }
    Ok(Measured {
        figures,
        notes: vec![
            format!("{WRITERS} writers of ConfigMaps through the apiservers of the two masters that stay; each gives a try up after 250 ms and tries the same write again. The power of the machine whose etcd leads is cut in each run."),
            "The times are etcd's heartbeat and election time-out; the first pair is what Masthead sets, the second one etcd's defaults.".to_owned(),
        ],
    })
}

/// How often etcd elects while writers keep three masters of one machine busy.
pub(super) fn elections(bench: &Bench) -> Result<Measured> {
    let mut figures = Vec::new();
    for (timing, seed) in TIMINGS {
        let masters = formed(bench, seed)?;
        let cluster = masters.cluster();
        let before = term(cluster)?;
        let writers = Writers::start(cluster, &MASTERS, WRITERS.div_ceil(3), Pace::fast(TIMEOUT))?;
        std::thread::sleep(LOAD);
        let written = writers.stop().count();
        let elected = term(cluster)?.saturating_sub(before);
        masters.remove()?;
        let counts = [
            ("elections", usize::try_from(elected).unwrap_or(usize::MAX)),
            ("acknowledged writes", written),
        ];
        for (what, count) in counts {
            let what = format!("{what} in 10 min, {timing}");
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let count = count as f64;
            figures.push(Figure::new(what, "", vec![count]));
        }
    }
    Ok(Measured {
        figures,
        notes: vec![
            "Writers without a pause through all three masters, which share the processors of one machine: no master dies, and every election is the load's.".to_owned(),
        ],
    })
}

fn formed(bench: &Bench, seed: &str) -> Result<MastheadCluster> {
    let mut plan = ClusterPlan::new(3, bench.directory.join("labs/writers"), &bench.image);
    seed.clone_into(&mut plan.seed_extra);
    let masters = MastheadCluster::new(bench, plan)?;
    masters.cluster().power_on()?;
    masters.cluster().wait_until_ready()?;
    Ok(masters)
}

fn one_outage(cluster: &Cluster) -> Result<Duration> {
    let patience = cluster.patience();
    patience.wait_until("a leader and all voters", NOMINAL, || {
        cluster.look_at_voters(&MASTERS, 3)
    })?;
    let leader = cluster.etcd_leader(&MASTERS)?;
    let stay: Vec<&str> = MASTERS.into_iter().filter(|name| *name != leader).collect();
    let writers = Writers::start(cluster, &stay, WRITERS / stay.len(), Pace::fast(TIMEOUT))?;
    let go_on = || {
        let enough = writers.acknowledged() + GO_ON;
        patience.wait_until("writes", NOMINAL, || {
            let now = writers.acknowledged();
            Look::at(now >= enough, || format!("{now} of {enough}"))
        })
    };
    go_on()?;
    let node = cluster.node(&leader)?;
    node.cut_power()?;
    go_on()?;
    let written = writers.stop();
    node.power_on()?;
    cluster.wait_until_ready()?;
    Ok(written.longest_gap(None))
}

/// etcd's term: each election begins a new one.
fn term(cluster: &Cluster) -> Result<u64> {
    let [first, ..] = MASTERS;
    Ok(cluster.etcd_status(first)?.term)
}
