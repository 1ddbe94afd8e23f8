//! The installed seed: a copy of the one that the cluster was founded with, kept on STATE for boots without another source.
//!
//! At power-on STATE is not mounted yet, since it is the seed that says which disk is the node's. So it is looked for on
//! every disk whose table is ours and says that it is prepared, and read without a replay of the journal, which
//! would write. After a power cut such a look may see a file system that is not consistent: the
//! SHA-256 beside the seed says whether what was read is the whole of it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use masthead_disk_layout::choice::describe;
use masthead_disk_layout::{Contents, Role};
use masthead_seed::Hash;

use super::Roots;
use super::file::read_beneath;
use super::places::{Candidate, absent, content_of, unreadable};
use crate::disk::discover;
use crate::disk::prepare::partition_path;
use crate::identity::storage::{Durable, Storage as _};
use crate::volume::{Filesystem, Mounts};

const SEED: &str = "seed.toml";
/// The seed's hash, as sha256sum(1) writes it.
const SUM: &str = "seed.sha256";
const SOURCE: &str = "installed seed";

/// What is installed on this machine's disks.
pub(super) fn candidate(roots: &Roots, mounts: &dyn Mounts) -> Candidate {
    let roots = discover::Roots {
        sys: roots.sys.clone(),
        dev: roots.dev.clone(),
    };
    let disks = discover::disks(&roots);
    let mut states = disks.iter().filter_map(|disk| match &disk.contents {
        Contents::Ours(table) if table.prepared => {
            let device = partition_path(&roots, &disk.name, table, Role::State).ok()?;
            Some((disk, device))
        }
        _ => None,
    });
    match (states.next(), states.next()) {
        (None, _) => absent(SOURCE),
        (Some((_, device)), None) => {
            let content = mounts.open(&device, Filesystem::Ext4).and_then(|folder| {
                let Some(seed) = read_beneath(&folder, SEED)? else {
                    return Ok(None);
                };
                let sum = read_beneath(&folder, SUM)?.unwrap_or_default();
                if sum != sum_of(&seed).as_bytes() {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "it is not whole, as its SHA-256 says: hand in the seed once more",
                    ));
                }
                Ok(Some(seed))
            });
            content_of(format!("{SOURCE} ({})", device.display()), content)
        }
        (Some((first, _)), Some((second, _))) => {
            let mut names = vec![describe(first), describe(second)];
            names.extend(states.map(|(disk, _)| describe(disk)));
            unreadable(
                SOURCE,
                format!(
                    "several disks have a STATE: {}; disconnect what does not belong to this machine, or hand in \
                     a seed",
                    names.join("; ")
                ),
            )
        }
    }
}

/// Puts the seed on STATE, mounted at `state`, as the one that the node was founded with. The first one stays: a
/// changed seed is not taken over in passing.
pub fn install(state: &Path, seed: &Path) -> io::Result<()> {
    if !keep(state, seed)? {
        return Ok(());
    }
    // Synced files may still be in the journal alone, and the look at power-on does not replay it. syncfs(2) writes
    // them to their places as well, and the last fsync has the disk empty its cache.
    let file = File::open(state.join(SEED))?;
    rustix::fs::syncfs(&file)?;
    file.sync_all()
}

/// Writes what is not there yet of the seed and its hash; false if nothing was missing.
pub(super) fn keep(state: &Path, seed: &Path) -> io::Result<bool> {
    let (installed, sum) = (state.join(SEED), state.join(SUM));
    let whole = match fs::read(&installed) {
        // STATE is mounted: its journal was replayed, and the file is the one that was renamed into its place.
        Ok(whole) => whole,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed = fs::read(seed)?;
            Durable
                .replace(&installed, &seed)
                .map_err(io::Error::other)?;
            seed
        }
        Err(error) => return Err(error),
    };
    let wanted = sum_of(&whole);
    if fs::read(&sum).is_ok_and(|sum| sum == wanted.as_bytes()) {
        return Ok(false);
    }
    Durable
        .replace(&sum, wanted.as_bytes())
        .map_err(io::Error::other)?;
    Ok(true)
}

fn sum_of(seed: &[u8]) -> String {
    format!("{}  {SEED}\n", Hash::of(seed))
}
