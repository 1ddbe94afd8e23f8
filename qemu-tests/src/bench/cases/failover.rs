//! What clients of a virtual address notice when masters fail: Masthead's address, and keepalived's beside it, on the same machines, in the same runs.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Bench, Figure, Measured, NOMINAL};
use crate::{
    bench::{
        figure::Statistic,
        keepalived::{self, DEFAULTS, KUBEADM, Keepalived},
        nodes::MastheadCluster,
        samples::Samples,
    },
    cluster::Cluster,
    error::{Error, Result, chain},
    partition::Direction,
    patience::Look,
    plan::{ClusterPlan, ENDPOINT, KUBERNETES_PORT},
    provider::{Forward, Link, Signal},
    tools::run,
    witness::Witness,
    writers::{Pace, Writers},
};

const MASTERS: [&str; 3] = ["m1", "m2", "m3"];
/// keepalived prefers it, and Masthead is told to.
const OWNER: &str = "m1";
const ANOTHER: &str = "m2";

/// What a client waits for an answer before it tries again.
const TIMEOUT: Duration = Duration::from_millis(250);
/// To each address.
const WRITERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(100);
/// Acknowledged writes by which the writers to an address are known to go on.
const GO_ON: usize = 40;
/// The hold in milliseconds that a quiet machine comes to.
const SHORTEST_HOLD: u64 = 200;

/// How long an owner is cut off.
const CUT: Duration = Duration::from_secs(10);

const APISERVER: &str = "kube-apiserver";

/// Whose addresses there are.
const NAMES: [&str; 3] = [
    "Masthead",
    "keepalived, defaults",
    "keepalived, kubeadm's guide",
];

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Owner,
    Both,
    Leader,
    Cable,
    CutOff,
    ApiserverKilled,
    ApiserverStopped,
}

const KINDS: [Kind; 7] = [
    Kind::Owner,
    Kind::Both,
    Kind::Leader,
    Kind::Cable,
    Kind::CutOff,
    Kind::ApiserverKilled,
    Kind::ApiserverStopped,
];

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Owner => "power cut of the owner",
            Self::Both => "power cut of the owner, which leads etcd",
            Self::Leader => "power cut of etcd's leader, which is not the owner",
            Self::Cable => "the owner's cable",
            Self::CutOff => "the owner cut off from the others",
            Self::ApiserverKilled => "the owner's apiserver killed",
            Self::ApiserverStopped => "the owner's apiserver stopped",
        }
    }

    /// How often, when the usual number is this.
    fn runs(self, runs: usize) -> usize {
        match self {
            Self::Owner | Self::Both | Self::Leader => runs,
            _ => runs.div_ceil(3).min(30),
        }
    }

    fn leader(self) -> &'static str {
        match self {
            Self::Both => OWNER,
            _ => ANOTHER,
        }
    }

    fn victim(self) -> &'static str {
        match self {
            Self::Leader => ANOTHER,
            _ => OWNER,
        }
    }

    fn is_power_cut(self) -> bool {
        matches!(self, Self::Owner | Self::Both | Self::Leader)
    }

    fn goals(self, figure: Figure) -> Figure {
        match self {
            Self::Owner => figure
                .goal(Statistic::Median, 0.45)
                .goal(Statistic::Percentile99, 0.9),
            Self::Both => figure.goal(Statistic::Percentile99, 2.0),
            Self::Leader => figure.goal(Statistic::Percentile99, 1.5),
            _ => figure,
        }
    }
}

/// One failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sample {
    kind: Kind,
    /// In milliseconds: of the record, when it happened.
    hold: Option<u64>,
    /// In the order of [`NAMES`].
    addresses: Vec<Noticed>,
}

/// What was noticed at one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noticed {
    /// The longest time without an acknowledged write, in seconds.
    gap: f64,
    /// How often another node than before was heard on the wire with the address.
    changes: usize,
    /// If that was once: how long nobody was heard between the two, in seconds.
    silence: Option<f64>,
}

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let mut samples = Samples::<Sample>::open(bench, "failover")?;
    let missing = |samples: &Samples<Sample>, kind: Kind| {
        let taken = samples.taken.iter().filter(|sample| sample.kind == kind);
        kind.runs(bench.runs).saturating_sub(taken.count())
    };
    if KINDS.iter().any(|kind| missing(&samples, *kind) > 0) {
        let mut stage = Stage::new(bench)?;
        // One of each in turn: what else happens on the machine happens to all.
        while KINDS.iter().any(|kind| missing(&samples, *kind) > 0) {
            for kind in KINDS {
                let left = missing(&samples, kind);
                if left > 0 {
                    eprintln!("bench: failover: {}, {left} left", kind.words());
                    samples.add(stage.one(kind)?)?;
                }
            }
        }
        stage.remove()?;
    }
    let measured = figures(&samples.taken);
    samples.close()?;
    Ok(measured)
}

fn figures(samples: &[Sample]) -> Measured {
    let mut figures = Vec::new();
    for kind in KINDS {
        let of_kind: Vec<&Sample> = samples
            .iter()
            .filter(|sample| sample.kind == kind)
            .collect();
        for (place, name) in NAMES.iter().enumerate() {
            let gaps = of_kind.iter().map(|sample| sample.addresses[place].gap);
            let what = format!("{}, {name}", kind.words());
            let figure = Figure::new(what, "s", gaps.collect());
            figures.push(if place == 0 {
                kind.goals(figure)
            } else {
                figure
            });
        }
    }
    for (place, name) in NAMES.iter().enumerate() {
        let owner = samples.iter().filter(|sample| sample.kind == Kind::Owner);
        let silences = owner.filter_map(|sample| sample.addresses[place].silence);
        let what = format!(
            "nobody is heard with the address, {}, {name}",
            Kind::Owner.words()
        );
        figures.push(Figure::new(what, "s", silences.collect()));
    }
    let cut_off = samples.iter().filter(|sample| sample.kind == Kind::CutOff);
    for (place, name) in NAMES.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let changes = cut_off
            .clone()
            .map(|sample| sample.addresses[place].changes as f64);
        let what = format!(
            "changes of hands on the wire, {}, {name}",
            Kind::CutOff.words()
        );
        figures.push(Figure::new(what, "", changes.collect()));
    }
    let holds = samples.iter().filter_map(|sample| sample.hold);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let holds = holds.map(|hold| hold as f64 / 1000.0);
    figures.push(Figure::new(
        "Masthead's hold when it happened",
        "s",
        holds.collect(),
    ));
    Measured {
        figures,
        notes: vec![
            format!("The longest gap between acknowledged writes. {WRITERS} writers of ConfigMaps to each address, each try on a connection of its own, given up after 250 ms and tried again; {} ms between the writes of one.", PAUSE.as_millis()),
            "keepalived is Debian's package, in the same three nodes with addresses of its own, each with a virtual router of its own: with its default timers, and as kubeadm's guide for highly available clusters has it, which looks at the apiserver every 3 s and believes ten failures. So every failure happens to all three addresses at once.".to_owned(),
            "A try that begins before the next owner is there fails after 250 ms, whenever that one comes: so the gap is longer than the time in which nobody is heard with the address.".to_owned(),
            "Nobody heard, and changes of hands: a witness asks for each address every 5 ms, by ARP and with a SYN to each node, and hears every frame. One is the move and one the way back, where it is taken back; every further one is an instant with two owners. The cut lasts 10 s.".to_owned(),
        ],
    }
}

/// Three masters with both, at work.
struct Stage {
    keepalived: Keepalived,
    /// Masthead's, and keepalived's two.
    addresses: [(Ipv4Addr, Forward); 3],
    masters: MastheadCluster,
}

impl Stage {
    fn new(bench: &Bench) -> Result<Self> {
        let plan = ClusterPlan::new(3, bench.directory.join("labs/failover"), &bench.image);
        let masters = MastheadCluster::new(bench, plan)?;
        let cluster = masters.cluster();
        cluster.power_on()?;
        cluster.wait_until_ready()?;
        let mut keepalived = Keepalived::new(bench.directory.join("labs/keepalived"))?;
        for node in cluster.masters() {
            keepalived.start(node)?;
        }
        let forward = |address| {
            let forward = cluster.forward(SocketAddrV4::new(address, KUBERNETES_PORT))?;
            Ok::<_, Error>((address, forward))
        };
        Ok(Self {
            keepalived,
            addresses: [forward(ENDPOINT)?, forward(DEFAULTS)?, forward(KUBEADM)?],
            masters,
        })
    }

    fn one(&mut self, kind: Kind) -> Result<Sample> {
        self.prepare(kind)?;
        let cluster = self.masters.cluster();
        let pace = Pace {
            timeout: TIMEOUT,
            pause: PAUSE,
            retry: Pace::CALM,
        };
        let mut watched = Vec::new();
        for (address, forward) in &self.addresses {
            let witness = Witness::begin_for(cluster, *address)?;
            let writers = Writers::through_address(cluster, forward.local, WRITERS, pace)?;
            watched.push((witness, writers));
        }
        go_on(cluster, &watched)?;
        let hold = cluster.vip().hold;
        let begun = Instant::now();
        happen(cluster, kind)?;
        if kind == Kind::CutOff {
            // keepalived's clients may wait until the cut is over.
            go_on(cluster, &watched[..1])?;
            thread::sleep(CUT.saturating_sub(begun.elapsed()));
            cluster.heal()?;
        } else if kind.is_power_cut() {
            self.keepalived.stop(kind.victim());
        }
        go_on(cluster, &watched)?;
        let mut addresses = Vec::new();
        for (witness, writers) in watched {
            let gap = writers.stop().longest_gap(None).as_secs_f64();
            let reigns = witness.end_unjudged()?;
            let silence = match &reigns[..] {
                [before, after] => Some(after.from.saturating_sub(before.to).as_secs_f64()),
                _ => None,
            };
            addresses.push(Noticed {
                gap,
                changes: reigns.len().saturating_sub(1),
                silence,
            });
        }
        self.undo(kind)?;
        Ok(Sample {
            kind,
            hold,
            addresses,
        })
    }

    /// Everything where it belongs: all addresses with one master, etcd's leader with that, or not.
    fn prepare(&self, kind: Kind) -> Result<()> {
        let cluster = self.masters.cluster();
        let patience = cluster.patience();
        patience.wait_until("a leader and all voters", NOMINAL, || {
            cluster.look_at_voters(&MASTERS, 3)
        })?;
        keepalived::wait_until_owned(cluster, cluster.node(OWNER)?)?;
        patience.wait_until("the address where it belongs", NOMINAL, || {
            said(run(cluster.mastctl().args(["vip", "move", OWNER])))
        })?;
        // One that has grown in the failure before shrinks again.
        patience.wait_until("a short hold", 2 * NOMINAL, || {
            let vip = cluster.vip();
            let settled = vip.owner.as_deref() == Some(OWNER) && vip.hold == Some(SHORTEST_HOLD);
            Look::at(settled, || format!("{vip:?}"))
        })?;
        patience.wait_until("etcd's leader where it belongs", NOMINAL, || {
            said(run(cluster.mastctl().args([
                "etcd",
                "leader",
                kind.leader(),
            ])))
        })
    }

    fn undo(&mut self, kind: Kind) -> Result<()> {
        let cluster = self.masters.cluster();
        let node = cluster.node(kind.victim())?;
        match kind {
            Kind::Owner | Kind::Both | Kind::Leader => {
                node.power_on()?;
                cluster.wait_until_ready()?;
                self.keepalived.start(node)?;
            }
            Kind::Cable => node.set_link(Link::Up)?,
            // It was killed and started again, in most cases.
            Kind::ApiserverStopped => drop(node.signal(APISERVER, Signal::Continue)),
            Kind::CutOff | Kind::ApiserverKilled => {}
        }
        cluster.wait_until_ready()
    }

    fn remove(self) -> Result<()> {
        let Self {
            keepalived,
            addresses,
            masters,
        } = self;
        drop((keepalived, addresses));
        masters.remove()
    }
}

fn happen(cluster: &Cluster, kind: Kind) -> Result<()> {
    let victim = kind.victim();
    let node = cluster.node(victim)?;
    match kind {
        Kind::Owner | Kind::Both | Kind::Leader => node.cut_power(),
        Kind::Cable => node.set_link(Link::Down),
        Kind::CutOff => {
            let (cut, rest) = MASTERS.iter().partition(|name| **name == victim);
            let group = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            cluster.partition(&[group(cut), group(rest)], Direction::Both)
        }
        Kind::ApiserverKilled => node.signal(APISERVER, Signal::Kill).map(drop),
        Kind::ApiserverStopped => node.signal(APISERVER, Signal::Stop).map(drop),
    }
}

/// Waits until there are more acknowledged writes through each of the addresses.
fn go_on(cluster: &Cluster, watched: &[(Witness, Writers)]) -> Result<()> {
    let before: Vec<usize> = watched
        .iter()
        .map(|(_, writers)| writers.acknowledged())
        .collect();
    cluster.patience().wait_until("writes", NOMINAL, || {
        let mut pairs = watched.iter().zip(&before);
        let all = pairs.all(|((_, writers), before)| writers.acknowledged() >= before + GO_ON);
        Look::at(all, || "not through all addresses".to_owned())
    })
}

fn said(answer: Result<String>) -> Look<()> {
    match answer {
        Ok(_) => Look::Done(()),
        Err(error) => Look::NotYet(chain(&error)),
    }
}
