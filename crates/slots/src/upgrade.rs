//! Giving a disk another image to start, and what becomes of it.
//!
//! ```text
//! good ── stage ──> good, and an image in the other slot ── arm ──> good, and a trial
//! trial, booted ── bless ──> good            trial, failed ── withdraw ──> the last good one
//! ```
//!
//! Whatever is done here is done to what the disk does not start, until one small file says otherwise: [`arm`] makes it, and
//! the boot loader counts in its name, or beside it ([`crate::bios`]).

use std::io::Read;

use masthead_disk_layout::Storage;
use masthead_uki::root::Place;
use masthead_uki::{ImageError, Release, check};
use thiserror::Error;

use crate::bios::{self, BiosError};
use crate::entry::{Entry, Slot, Tries};
use crate::fat::{File, Partition, PartitionError};

/// How often a trial is started before the last good image is again: once, and once more for a power cut.
pub const TRIES: u32 = 2;

/// Why an image is not staged, or not tried.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// The partition failed.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// The generation that runs has no entry.
    #[error("the EFI system partition has no entry of generation {0}, which runs")]
    NotThere(u32),
    /// What runs is on trial itself.
    #[error(
        "generation {0}, which runs, is on trial: until it is good, the other slot is what the disk falls back to"
    )]
    OnTrial(u32),
    /// What was read back is not what was written.
    #[error("the image was written to slot {slot}, and is not whole when it is read back")]
    ReadBack {
        /// The slot.
        slot: Slot,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A BIOS could not start it.
    #[error(transparent)]
    Bios(#[from] BiosError),
    /// Nothing was staged there.
    #[error("slot {0} holds no image to try")]
    NothingStaged(Slot),
    /// Something else was staged there.
    #[error(
        "slot {slot} holds the image {found}, and {wanted} was meant: somebody else has put another one there"
    )]
    Another {
        /// The slot.
        slot: Slot,
        /// UUID of the root that is there.
        found: String,
        /// UUID of the root that was to be tried.
        wanted: String,
    },
    /// No good image is left but the one that runs.
    #[error(
        "no good image is left beside that of slot {0}, which runs: another one was written over it, or there was none"
    )]
    NoWayBack(Slot),
}

/// An image in the slot that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// That slot.
    pub slot: Slot,
    /// What the image says of itself.
    pub release: Release,
}

/// All entries of ours, the lowest generation first.
pub fn entries<S: Storage>(partition: &mut Partition<S>) -> Result<Vec<Entry>, PartitionError> {
    let mut entries = Vec::new();
    for name in partition.names(Entry::FOLDER)? {
        let text = partition.read(&format!("{}/{name}", Entry::FOLDER))?;
        let text = text.and_then(|text| String::from_utf8(text).ok());
        entries.extend(text.and_then(|text| Entry::read(&name, &text)));
    }
    entries.sort_by_key(|entry| entry.generation);
    Ok(entries)
}

/// Writes an image into the slot that does not run, and reads it back. Nothing starts it yet, and nothing that it replaces is started any more.
pub fn stage<S: Storage>(
    partition: &mut Partition<S>,
    running: u32,
    image: &mut impl Read,
) -> Result<Staged, UpgradeError> {
    let slot = other_slot(partition, running)?;
    for entry in entries(partition)? {
        if entry.slot == slot {
            partition.remove(&entry.path())?;
        }
    }
    partition.write(slot.path(), image)?;
    let release = whole(partition, slot)?;
    bios::parts_in(partition, slot)?;
    Ok(Staged { slot, release })
}

/// What the slot that does not run says that it holds, without looking whether that is whole.
pub fn staged<S: Storage>(
    partition: &mut Partition<S>,
    running: u32,
) -> Result<Staged, UpgradeError> {
    let slot = other_slot(partition, running)?;
    let release = said(partition, slot)?;
    Ok(Staged { slot, release })
}

/// The staged image's file, and where the root file system is in it.
pub fn staged_root<S: Storage>(
    partition: &mut Partition<S>,
    running: u32,
) -> Result<(File<'_, S>, Place), UpgradeError> {
    let slot = other_slot(partition, running)?;
    let mut image = image_in(partition, slot)?;
    let place = masthead_uki::root::find(&mut image);
    let place = place.map_err(|source| UpgradeError::ReadBack { slot, source })?;
    Ok((image, place))
}

/// The image that was good before the one that runs, if it is still there: what this disk can go back to.
pub fn previous<S: Storage>(
    partition: &mut Partition<S>,
    running: u32,
) -> Result<Staged, UpgradeError> {
    let there = entries(partition)?;
    let own = there.iter().find(|entry| entry.generation == running);
    let own = own.ok_or(UpgradeError::NotThere(running))?.slot;
    let good = |entry: &&Entry| entry.slot != own && entry.tries.is_none();
    let Some(slot) = there.iter().rfind(good).map(|entry| entry.slot) else {
        return Err(UpgradeError::NoWayBack(own));
    };
    let release = said(partition, slot)?;
    Ok(Staged { slot, release })
}

/// Has the disk try the staged image whose root has this UUID, at its next boot.
pub fn arm<S: Storage>(
    partition: &mut Partition<S>,
    running: u32,
    image: &str,
) -> Result<Entry, UpgradeError> {
    let slot = other_slot(partition, running)?;
    let release = whole(partition, slot)?;
    if release.image != image {
        return Err(UpgradeError::Another {
            slot,
            found: release.image,
            wanted: image.to_owned(),
        });
    }
    let there = entries(partition)?;
    let highest = there.iter().map(|entry| entry.generation).max();
    let entry = Entry {
        generation: highest.unwrap_or(running) + 1,
        tries: Some(Tries {
            left: TRIES,
            done: 0,
        }),
        slot,
        version: release.version,
    };
    bios::tidy(partition)?;
    bios::prepare(partition, slot, entry.generation)?;
    partition.write(&entry.path(), &mut entry.text().as_bytes())?;
    Ok(entry)
}

/// Has the disk start a trial from now on, as it does a good image. Nothing to do where it is good already.
pub fn bless<S: Storage>(
    partition: &mut Partition<S>,
    generation: u32,
) -> Result<Entry, UpgradeError> {
    let there = entries(partition)?;
    let mut its = there
        .into_iter()
        .filter(|entry| entry.generation == generation);
    let first = its.next().ok_or(UpgradeError::NotThere(generation))?;
    let counted: Vec<Entry> = its
        .chain([first.clone()])
        .filter(|entry| entry.tries.is_some())
        .collect();
    let good = Entry {
        tries: None,
        ..first
    };
    if partition.read(&good.path())?.as_deref() != Some(good.text().as_bytes()) {
        partition.write(&good.path(), &mut good.text().as_bytes())?;
    }
    // Only now: in between there are two names for one image.
    for entry in counted {
        partition.remove(&entry.path())?;
    }
    Ok(good)
}

/// Counts a start that the boot loader has not counted, because the firmware's file system driver did not let it. Whether that was so.
pub fn count<S: Storage>(
    partition: &mut Partition<S>,
    generation: u32,
) -> Result<bool, UpgradeError> {
    let there = entries(partition)?;
    let mut its = there.iter().filter(|entry| entry.generation == generation);
    let uncounted = |entry: &&Entry| entry.tries.is_some_and(|tries| tries.done == 0);
    let Some(before) = its.find(uncounted) else {
        return Ok(false);
    };
    let left = before.tries.map_or(0, |tries| tries.left.saturating_sub(1));
    let after = Entry {
        tries: Some(Tries { left, done: 1 }),
        ..before.clone()
    };
    partition.write(&after.path(), &mut after.text().as_bytes())?;
    partition.remove(&before.path())?;
    Ok(true)
}

/// Takes the trials for which this says so out of the order. Returns them.
pub fn withdraw<S: Storage>(
    partition: &mut Partition<S>,
    which: impl Fn(&Entry, Tries) -> bool,
) -> Result<Vec<Entry>, PartitionError> {
    let mut withdrawn = Vec::new();
    for entry in entries(partition)? {
        if entry.tries.is_some_and(|tries| which(&entry, tries)) {
            partition.remove(&entry.path())?;
            withdrawn.push(entry);
        }
    }
    Ok(withdrawn)
}

/// The slot in which what runs is not. What runs must be good: the other slot is its way back until then.
fn other_slot<S: Storage>(
    partition: &mut Partition<S>,
    running: u32,
) -> Result<Slot, UpgradeError> {
    let there = entries(partition)?;
    let its = |entry: &&Entry| entry.generation == running;
    let own = there
        .iter()
        .find(its)
        .ok_or(UpgradeError::NotThere(running))?;
    let is_good = there.iter().filter(its).any(|entry| entry.tries.is_none());
    if !is_good {
        return Err(UpgradeError::OnTrial(running));
    }
    Ok(match own.slot {
        Slot::A => Slot::B,
        Slot::B => Slot::A,
    })
}

/// What a slot's image says of itself.
fn said<S: Storage>(partition: &mut Partition<S>, slot: Slot) -> Result<Release, UpgradeError> {
    let read = masthead_uki::release::read(&mut image_in(partition, slot)?);
    read.map_err(|source| UpgradeError::ReadBack { slot, source })
}

/// The same of an image that is whole.
fn whole<S: Storage>(partition: &mut Partition<S>, slot: Slot) -> Result<Release, UpgradeError> {
    let read = check(&mut image_in(partition, slot)?);
    read.map_err(|source| UpgradeError::ReadBack { slot, source })
}

fn image_in<S: Storage>(
    partition: &mut Partition<S>,
    slot: Slot,
) -> Result<File<'_, S>, UpgradeError> {
    let image = partition.file(slot.path())?;
    image.ok_or(UpgradeError::NothingStaged(slot))
}
