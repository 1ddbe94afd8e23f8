//! Building the image: with every step done, and with nothing to do.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use super::{Bench, Figure, Measured};
use crate::{
    bench::{
        figure::Statistic,
        nodes::{empty, remove},
    },
    error::{Attempt, Error, Result},
};

const GOAL_WARM_S: f64 = 2.0;

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    // A cache of our own: nobody else's build is made slow by this, nor its image replaced.
    let folder = bench.directory.join("image");
    empty(&folder)?;
    let usual = bench.repository.join("build/cache");
    let fetched = folder.join("cache/packages");
    link(&usual.join("packages"), &fetched)
        .attempt(|| format!("copy the fetched packages to {}", fetched.display()))?;
    let cold = build(bench, &folder)?;
    let warm = (0..bench.runs)
        .map(|_| build(bench, &folder))
        .collect::<Result<Vec<_>>>()?;
    remove(&folder)?;
    Ok(Measured {
        figures: vec![
            Figure::new("cold", "s", vec![cold]),
            Figure::new("warm", "s", warm).goal(Statistic::Maximum, GOAL_WARM_S),
        ],
        notes: vec![
            "Cold: every step is done, init compiled included; fetched Debian packages are there, and Go's and cargo's own download and build caches are as warm as they are on this machine.".to_owned(),
            "Warm: nothing has changed, no step is done.".to_owned(),
        ],
    })
}

/// In seconds.
fn build(bench: &Bench, folder: &Path) -> Result<f64> {
    let here = std::env::current_exe().attempt(|| "find the running program")?;
    let program = here.with_file_name("imagebuild");
    let started = Instant::now();
    let status = Command::new(&program)
        .args(["build", "--locked", "--cache"])
        .arg(folder.join("cache"))
        .arg("--output")
        .arg(folder.join("image"))
        .current_dir(&bench.repository)
        .stdout(Stdio::null())
        .status()
        .attempt(|| format!("run {}", program.display()))?;
    if !status.success() {
        return Err(Error::Refused(format!("imagebuild build: {status}")));
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Hard-links all files of a folder into another.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}
