//! What the virtual address costs while nothing fails: planned moves, moves that nobody needed, and its owner's work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Bench, Figure, Measured, NOMINAL,
    idle::{Part, used},
};
use crate::{
    bench::{figure::Statistic, nodes::MastheadCluster},
    cluster::Cluster,
    error::{Error, Result, chain},
    patience::Look,
    plan::ClusterPlan,
    tools::run,
    witness::Witness,
    writers::{Pace, Writers},
};

const MASTERS: [&str; 3] = ["m1", "m2", "m3"];
const WRITERS: usize = 8;
const TIMEOUT: Duration = Duration::from_millis(250);
/// Acknowledged writes after a move, by which clients are known to go on.
const GO_ON: usize = 40;
/// Of planned moves.
const MOVES: usize = 100;
/// How long the load lasts under which nobody is to move the address.
const LOAD: Duration = Duration::from_secs(60 * 60);
/// Before an idle cluster is looked at, and how long one look is.
const SETTLE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(60);

const GOAL_MOVE_SECONDS: f64 = 0.1;
const GOAL_OWNER_PERCENT: f64 = 0.5;

/// An operator moves the address from master to master, and clients go on writing.
pub(super) fn moves(bench: &Bench) -> Result<Measured> {
    let masters = formed(bench)?;
    let cluster = masters.cluster();
    let (mut unowned, mut unheard) = (Vec::new(), Vec::new());
    let pace = Pace {
        timeout: TIMEOUT,
        pause: Duration::from_millis(50),
        retry: Pace::CALM,
    };
    let writers = Writers::through_endpoint(cluster, WRITERS, pace)?;
    for number in 0..MOVES {
        let to = MASTERS[number % MASTERS.len()];
        if cluster.vip_owner()? == to {
            continue;
        }
        let witness = Witness::begin(cluster)?;
        cluster
            .patience()
            .wait_until("a move", NOMINAL, || match moved(cluster, to) {
                Ok(took) => {
                    unowned.push(took.as_secs_f64());
                    Look::Done(())
                }
                Err(error) => Look::NotYet(chain(&error)),
            })?;
        let enough = writers.acknowledged() + GO_ON;
        cluster.patience().wait_until("writes", NOMINAL, || {
            let now = writers.acknowledged();
            Look::at(now >= enough, || format!("{now} of {enough}"))
        })?;
        if let [before, after] = &witness.end_unjudged()?[..] {
            unheard.push(after.from.saturating_sub(before.to).as_secs_f64());
        }
    }
    let written = writers.stop();
    masters.remove()?;
    Ok(Measured {
        figures: vec![
            Figure::new("nobody owned the address", "s", unowned)
                .goal(Statistic::Maximum, GOAL_MOVE_SECONDS),
            Figure::new("nobody was heard with it on the wire", "s", unheard)
                .goal(Statistic::Maximum, GOAL_MOVE_SECONDS),
            count("requests that failed, and their first retry, too", written.failed_twice().len())
                .goal(Statistic::Maximum, 0.0),
            count("acknowledged writes", written.count()),
        ],
        notes: vec![
            format!("Of {MOVES} moves in turn to each master, those that were to another one than the owner. {WRITERS} writers go on through the address, with a connection for each write."),
            "The first figure is what mastctl vip move says: from the old owner's last instant to the new one's first acknowledged transaction. The second one is a witness's, who asks every 5 ms.".to_owned(),
        ],
    })
}

/// For how long nobody owned it.
fn moved(cluster: &Cluster, to: &str) -> Result<Duration> {
    let mut mastctl = cluster.mastctl();
    let text = run(mastctl.args(["--output", "json", "vip", "move", to]))?;
    let told: Value = serde_json::from_str(&text)
        .map_err(|error| Error::Refused(format!("mastctl vip move: {error}")))?;
    let took = told.pointer("/moves/0/took").and_then(Value::as_u64);
    took.map(Duration::from_millis)
        .ok_or_else(|| Error::Refused(format!("mastctl vip move does not say how long: {told}")))
}

/// All processors are busy for an hour, and no master dies.
pub(super) fn needless(bench: &Bench) -> Result<Measured> {
    let masters = formed(bench)?;
    let cluster = masters.cluster();
    let before = cluster.vip().epoch;
    let witness = Witness::begin(cluster)?;
    let writers = Writers::through_endpoint(cluster, WRITERS, Pace::fast(TIMEOUT * 4))?;
    let spinners = Spinners::start();
    thread::sleep(LOAD);
    drop(spinners);
    let written = writers.stop();
    let after = cluster.vip().epoch;
    let reigns = witness.end_unjudged()?;
    masters.remove()?;
    let moves = usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX);
    Ok(Measured {
        figures: vec![
            count("moves of the address in 60 min", moves).goal(Statistic::Maximum, 0.0),
            count(
                "changes of hands on the wire",
                reigns.len().saturating_sub(1),
            )
            .goal(Statistic::Maximum, 0.0),
            Figure::new(
                "longest gap between acknowledged writes",
                "s",
                vec![written.longest_gap(None).as_secs_f64()],
            ),
            count("acknowledged writes", written.count()),
        ],
        notes: vec![
            format!(
                "{WRITERS} writers without a pause through the address, and beside them as many threads that only count as the machine has processors."
            ),
            "No disk is slowed down: the kernel of this machine has no device mapper.".to_owned(),
        ],
    })
}

/// What PID 1 and the supervisor of the owner, and of another master, use of a processor while nothing happens.
pub(super) fn owner(bench: &Bench) -> Result<Measured> {
    let masters = formed(bench)?;
    let cluster = masters.cluster();
    thread::sleep(SETTLE);
    let owner = cluster.vip_owner()?;
    let other = MASTERS.into_iter().find(|name| **name != owner);
    let mut figures = Vec::new();
    let of = [(Some(&*owner), "the owner"), (other, "another master")];
    for (name, what) in of {
        let node = cluster.node(name.unwrap_or(&owner))?;
        let parts = [Part::of(node, "init")?, Part::of(node, "supervisor")?];
        let mut shares = Vec::new();
        for _ in 0..bench.runs.min(3) {
            let (began, before) = (Instant::now(), used(&parts)?);
            thread::sleep(WINDOW);
            let after = used(&parts)?;
            let all = |used: Vec<Duration>| used.into_iter().sum::<Duration>();
            let share = all(after).saturating_sub(all(before)).as_secs_f64();
            shares.push(100.0 * share / began.elapsed().as_secs_f64());
        }
        let what = format!("PID 1 and the supervisor of {what}, share of one processor");
        figures.push(Figure::new(what, "%", shares).goal(Statistic::Maximum, GOAL_OWNER_PERCENT));
    }
    masters.remove()?;
    Ok(Measured {
        figures,
        notes: vec![
            "Three masters in namespaces, ready for half a minute; each sample is a window of 60 s of one master. The owner renews every third of its hold.".to_owned(),
        ],
    })
}

fn formed(bench: &Bench) -> Result<MastheadCluster> {
    let plan = ClusterPlan::new(3, bench.directory.join("labs/address"), &bench.image);
    let masters = MastheadCluster::new(bench, plan)?;
    masters.cluster().power_on()?;
    masters.cluster().wait_until_ready()?;
    Ok(masters)
}

fn count(what: &str, number: usize) -> Figure {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Figure::new(what, "", vec![number as f64])
}

/// Threads that keep all processors busy. Dropping them ends them.
struct Spinners {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Spinners {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let processors = thread::available_parallelism().map_or(1, Into::into);
        let spin = |_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        Self {
            threads: (0..processors).map(spin).collect(),
            over,
        }
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It only counts.
            let _ = thread.join();
        }
    }
}
