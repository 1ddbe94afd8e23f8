//! What an upgrade of three masters takes, part by part, and what clients of the virtual address notice of it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use masthead_imagebuild::bundle::generate_key;

use super::{Bench, Figure, Measured};
use crate::{
    bench::{figure::Statistic, nodes::MastheadCluster},
    cluster::Cluster,
    error::{Attempt, Error, Result},
    image::other_image,
    plan::ClusterPlan,
    writers::{Pace, Writers},
};

const WRITERS: usize = 8;
const PACE: Pace = Pace {
    timeout: Duration::from_secs(10),
    pause: Duration::from_millis(50),
    retry: Pace::CALM,
};

/// What `mastctl` says of a master, in this order, and what it has done by then.
const WORDS: [(&str, &str); 4] = [
    ("takes the image", "before"),
    ("has the image", "the bundle is sent, written and read back"),
    (
        "runs the new image, on trial\n",
        "lock, snapshot, reboot, until it serves on trial",
    ),
    ("is good", "the trial, until the lock is given back"),
];

/// All masters, one after the other, while clients write.
pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let folder = bench.directory.join("labs/upgrade-images");
    fs::create_dir_all(&folder).attempt(|| format!("make {}", folder.display()))?;
    let key = folder.join("image.key");
    // Of an earlier run.
    let _ = fs::remove_file(&key);
    let public = generate_key(&key).map_err(|error| Error::Refused(format!("{error:#}")))?;
    let bundle = other_image(&bench.image, &folder, "0.1.1", &key, |_| Ok(()))?;
    let bytes = fs::metadata(&bundle).attempt(|| format!("look at {}", bundle.display()))?;

    let mut plan = ClusterPlan::new(3, bench.directory.join("labs/upgrade"), &bench.image);
    plan.boots_from_disk = true;
    plan.image_keys = vec![public.to_string()];
    let masters = MastheadCluster::new(bench, plan)?;
    let cluster = masters.cluster();
    cluster.power_on()?;
    cluster.wait_until_ready()?;
    let writers = Writers::through_endpoint(cluster, WRITERS, PACE)?;
    let begun = Instant::now();
    let parts = upgrade(cluster, &bundle)?;
    let whole = begun.elapsed();
    let written = writers.stop();
    masters.remove()?;
    fs::remove_dir_all(&folder).attempt(|| format!("remove {}", folder.display()))?;

    let mut figures = vec![Figure::new(
        "three masters, from the first byte to the last word",
        "s",
        vec![whole.as_secs_f64()],
    )];
    for (place, (_, what)) in WORDS.iter().enumerate().skip(1) {
        let of_masters = parts.iter().map(|times| {
            let time = times[place].saturating_duration_since(times[place - 1]);
            time.as_secs_f64()
        });
        let what = format!("one master: {what}");
        figures.push(Figure::new(what, "s", of_masters.collect()));
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let counts = [
        (
            "requests that failed, and their first retry, too",
            "",
            written.failed_twice().len() as f64,
        ),
        ("acknowledged writes", "", written.count() as f64),
        ("bundle", "MB", bytes.len() as f64 / 1e6),
    ];
    figures.push(Figure::new(
        "longest gap between acknowledged writes",
        "s",
        vec![written.longest_gap(None).as_secs_f64()],
    ));
    for (what, unit, number) in counts {
        let figure = Figure::new(what, unit, vec![number]);
        figures.push(if what.starts_with("requests") {
            figure.goal(Statistic::Maximum, 0.0)
        } else {
            figure
        });
    }
    Ok(Measured {
        figures,
        notes: vec![
            format!(
                "mastctl upgrade --all, in namespaces whose boot loader is the lab. A trial lasts a minute at least. {WRITERS} writers go on through the address, with a connection for each write, given up after 10 s."
            ),
            "The bundle holds no kernel: a machine's has 12 MB more.".to_owned(),
        ],
    })
}

/// When each master came how far.
fn upgrade(cluster: &Cluster, bundle: &Path) -> Result<Vec<Vec<Instant>>> {
    let mut mastctl = cluster.mastctl();
    let mut running = mastctl
        .args(["upgrade", "--all"])
        .arg(bundle)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .attempt(|| "run mastctl upgrade")?;
    let said = running.stderr.take();
    let mut said = said
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines);
    let mut masters: Vec<Vec<Instant>> = Vec::new();
    let mut all = String::new();
    while let Some(Ok(line)) = said.next() {
        let line = line + "\n";
        all += &line;
        let words = WORDS.iter().position(|(words, _)| line.contains(words));
        match (words, masters.last_mut()) {
            (Some(0), _) => masters.push(vec![Instant::now()]),
            (Some(place), Some(times)) if times.len() == place => times.push(Instant::now()),
            _ => {}
        }
    }
    let status = running.wait().attempt(|| "await mastctl upgrade")?;
    let is_whole = masters.iter().all(|times| times.len() == WORDS.len());
    if status.success() && masters.len() == 3 && is_whole {
        return Ok(masters);
    }
    Err(Error::Refused(format!("mastctl upgrade: {status}\n{all}")))
}
