//! Saved clusters: all nodes at one moment, in a folder, to be restored as often as one likes.
//!
//! A test of a formed cluster need not boot and form one of its own. What is restored is what ran: memory, disks,
//! keys. The nodes do not see that they stood still, and their clocks are behind by the time since; so a saved
//! cluster is good for some hours only. It stands on the image, the QEMU and the machines' definition with which it was
//! saved, and is refused when one of them has changed.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    cluster::Cluster,
    directory::{Directory, write_private},
    error::{Attempt, Error, Result},
    plan::ClusterPlan,
    provider::{Node, Power, Saving},
    qemu::{SavedWire, VmProvider},
    tools::Tools,
};

/// Of the folder's layout.
const FORMAT: u32 = 1;
/// What the folder is, and its last file to be written.
const DESCRIPTION: &str = "cluster.json";
/// A node's certificate for an operator lasts 8 h by the node's clock. The operator must still have some of them.
const OLDEST: Duration = Duration::from_secs(6 * 3600);

/// What is known of a saved cluster beside its nodes.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    at: SystemTime,
    /// Its folders are of no meaning.
    plan: ClusterPlan,
    wire: SavedWire,
}

/// A cluster in a folder.
pub struct SavedCluster {
    folder: PathBuf,
    description: Description,
}

impl SavedCluster {
    /// Saves a cluster into a new folder; it goes on afterwards. Nodes that are off are saved by their disks.
    pub fn save(cluster: &Cluster, folder: &Path) -> Result<()> {
        let nodes = cluster.nodes();
        let first = nodes
            .first()
            .ok_or_else(|| Error::Refused("there are no nodes to save".to_owned()))?;
        // Also finds out whether this kind of cluster can be saved at all.
        let wire = cluster.provider().save(first.plan())?;
        if folder.exists() {
            return Err(Error::Refused(format!(
                "{} exists already: remove it, or choose another name",
                folder.display()
            )));
        }
        let paused = Paused::all(nodes)?;
        let written = write(cluster, wire, folder);
        let resumed = paused.resume();
        if written.is_err() {
            // It is of no use, and the first error is the one to be told.
            let _ = fs::remove_dir_all(folder);
        }
        written.and(resumed)
    }

    /// Reads what was saved in a folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(DESCRIPTION);
        let text =
            fs::read(&path).attempt(|| format!("read {}: save a cluster first", path.display()))?;
        let unknown =
            |what: String| Error::Refused(format!("{}: {what}: save it again", path.display()));
        let description: Description =
            serde_json::from_slice(&text).map_err(|error| unknown(error.to_string()))?;
        if description.format != FORMAT {
            return Err(unknown(format!(
                "format {}, not {FORMAT}",
                description.format
            )));
        }
        Ok(Self {
            folder: folder.to_owned(),
            description,
        })
    }

    /// Makes a cluster of it in `directory`. Its nodes run when this returns.
    pub fn restore(&self, directory: &Path, image: &Path, tools: &Tools) -> Result<Cluster> {
        must_be_young(&self.folder, self.description.at, SystemTime::now())?;
        let plan = ClusterPlan {
            directory: directory.to_owned(),
            image: image.to_owned(),
            ..self.description.plan.clone()
        };
        let first = plan.nodes();
        let first = first
            .first()
            .ok_or_else(|| Error::Refused("a saved cluster without nodes".to_owned()))?;
        let provider = VmProvider::restored(&self.description.wire, first)?;
        let keys = Directory::new(&plan.directory);
        let claim = keys.prepare(tools)?;
        let saved = Directory::new(&self.folder);
        for (from, to) in [
            (saved.operator_key(), keys.operator_key()),
            (saved.seed(), keys.seed()),
        ] {
            fs::copy(&from, &to).attempt(|| format!("copy {}", from.display()))?;
        }
        let seed = fs::read_to_string(keys.seed())
            .attempt(|| format!("read {}", keys.seed().display()))?;
        let cluster = Cluster::assemble(plan, keys, claim, Box::new(provider), &seed)?;
        for node in cluster.nodes() {
            node.saving()?
                .restore(&self.folder.join(&node.plan().name))?;
        }
        for node in running(cluster.nodes()) {
            node.saving()?.resume()?;
        }
        Ok(cluster)
    }
}

/// Refuses what was saved too long ago.
fn must_be_young(folder: &Path, saved: SystemTime, now: SystemTime) -> Result<()> {
    // A clock that was set back meanwhile makes it young.
    let age = now.duration_since(saved).unwrap_or_default();
    if age <= OLDEST {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{} was saved {} h ago, and its clocks and certificates are as old: save one that is younger than {} h",
        folder.display(),
        age.as_secs() / 3600,
        OLDEST.as_secs() / 3600
    )))
}

/// Writes all of a cluster whose nodes are paused.
fn write(cluster: &Cluster, wire: SavedWire, folder: &Path) -> Result<()> {
    let make = |path: &Path| {
        fs::DirBuilder::new()
            .recursive(true)
            // A machine's memory holds all of its keys.
            .mode(0o700)
            .create(path)
            .attempt(|| format!("make {}", path.display()))
    };
    make(folder)?;
    let (keys, saved) = (cluster.directory(), Directory::new(folder));
    for (from, to) in [
        (keys.operator_key(), saved.operator_key()),
        (keys.seed(), saved.seed()),
    ] {
        fs::copy(&from, &to).attempt(|| format!("copy {}", from.display()))?;
    }
    for node in cluster.nodes() {
        let folder = folder.join(&node.plan().name);
        make(&folder)?;
        node.saving()?.save(&folder)?;
    }
    let description = Description {
        format: FORMAT,
        at: SystemTime::now(),
        plan: cluster.plan().clone(),
        wire,
    };
    let text = serde_json::to_string_pretty(&description)
        .map_err(io::Error::from)
        .attempt(|| "describe the cluster")?;
    write_private(&folder.join(DESCRIPTION), &text)
}

fn running(nodes: &[Arc<dyn Node>]) -> impl Iterator<Item = &dyn Node> {
    nodes
        .iter()
        .map(AsRef::as_ref)
        .filter(|node| node.power() == Power::On)
}

/// Nodes that stand still until this is resumed or dropped.
struct Paused<'a> {
    nodes: Vec<&'a dyn Node>,
}

impl<'a> Paused<'a> {
    fn all(nodes: &'a [Arc<dyn Node>]) -> Result<Self> {
        let mut paused = Self { nodes: Vec::new() };
        for node in running(nodes) {
            node.saving()?.pause()?;
            paused.nodes.push(node);
        }
        Ok(paused)
    }

    fn resume(mut self) -> Result<()> {
        let nodes = std::mem::take(&mut self.nodes);
        // One that cannot go on keeps no other from it.
        let resumed: Vec<_> = nodes.iter().map(|node| node.saving()?.resume()).collect();
        resumed.into_iter().collect()
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        for node in &self.nodes {
            // This is the way out of an error already.
            let _ = node.saving().and_then(Saving::resume);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_refused() {
        let saved = SystemTime::UNIX_EPOCH;
        let folder = Path::new("build/formed");
        must_be_young(folder, saved, saved + OLDEST).expect("young");
        must_be_young(folder, saved + OLDEST, saved).expect("of a clock that was set back");
        let later = saved + Duration::from_secs(25 * 3600);
        let error = must_be_young(folder, saved, later).expect_err("old");
        assert!(error.to_string().contains("25 h ago"), "{error}");
    }
}
