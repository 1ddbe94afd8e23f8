//! The disk from which this boot came, and what is done to its entries.

use std::fs;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use masthead_api::Timestamp;
use masthead_bundle::BundleError;
use masthead_disk_layout::{Contents, Role};
use masthead_slots::meta::{FailedTrial, Meta};
use masthead_slots::upgrade::{
    self, Staged, UpgradeError, arm, bless, entries, previous, staged, staged_root, withdraw,
};
use masthead_slots::{Entry, Partition, PartitionError, bios};
use thiserror::Error;
use tokio::sync::Mutex;

use super::next_init;
use super::started::Started;
use crate::disk::device::Device;
use crate::disk::discover::{Roots, disks};
use crate::disk::prepare::partition_path;
use crate::node::{Facility, NodeKind};

/// Where GRUB says what it has started.
const COMMAND_LINE: &str = "/proc/cmdline";

/// The disk from which this boot came, for one at a time: what is written there is written by whoever holds this. None until it is known that
/// there is one.
pub type BootDisk = std::sync::Arc<Mutex<Option<OwnDisk>>>;

/// The disk, and the generation that runs.
#[derive(Clone, Debug)]
pub struct OwnDisk {
    system: PathBuf,
    meta: PathBuf,
    /// The generation that runs.
    pub running: u32,
    /// Whether it was written from a disk image and is yet to be prepared: no trial has been on it, and whoever prepares it has it for himself.
    pub is_fresh: bool,
    /// One on trial that the boot loader did not start, because it could not count that.
    passed_over: Option<u32>,
}

/// Why entries or META are not read or changed.
#[derive(Debug, Error)]
pub enum OwnDiskError {
    /// A device failed.
    #[error("{} cannot be read or written", device.display())]
    Device {
        /// Which.
        device: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The EFI system partition failed.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// What runs has no entry.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

impl OwnDiskError {
    /// What was wrong with the bundle from which an image was written, if that is what it was, and not the disk.
    pub fn of_the_bundle(self) -> Result<BundleError, Self> {
        match self {
            Self::Upgrade(UpgradeError::Partition(PartitionError::Content { path, source })) => {
                source.downcast().map_err(|source| {
                    UpgradeError::Partition(PartitionError::Content { path, source }).into()
                })
            }
            other => Err(other),
        }
    }
}

/// Where a namespace's lab hands in the two partitions, and which entry it has started.
const HANDED_IN: &str = "/host/boot";

impl OwnDisk {
    /// None where this boot did not come from a disk of ours. Reads the disks, and so may block for as long as a failing one takes.
    pub fn of(kind: NodeKind) -> Option<Self> {
        if kind.has(Facility::Firmware) {
            Self::find(&Roots::default(), Path::new(COMMAND_LINE))
        } else {
            Self::handed_in(Path::new(HANDED_IN))
        }
    }

    fn handed_in(folder: &Path) -> Option<Self> {
        let started = fs::read_to_string(folder.join("started")).ok()?;
        Some(Self {
            system: folder.join("system"),
            meta: folder.join("meta"),
            running: Entry::generation_in(&started)?,
            is_fresh: false,
            passed_over: None,
        })
    }

    /// Of a machine, by what its boot loader and its disks say.
    fn find(roots: &Roots, command_line: &Path) -> Option<Self> {
        let started = Started::find(&roots.sys, command_line)?;
        disks(roots).into_iter().find_map(|disk| {
            let (Contents::Ours(table) | Contents::Image(table, _)) = &disk.contents else {
                return None;
            };
            let is_it = table
                .partition(Role::Esp)
                .is_some_and(|system| guid(system.guid).eq_ignore_ascii_case(&started.partition));
            let path = |role| partition_path(roots, &disk.name, table, role).ok();
            is_it.then_some(Self {
                system: path(Role::Esp)?,
                meta: path(Role::Meta)?,
                running: started.generation,
                is_fresh: !table.prepared || table.is_image(),
                passed_over: started.passed_over,
            })
        })
    }

    /// What GRUB has counted is said by the entries from now on.
    pub fn take_count(&self) -> Result<(), OwnDiskError> {
        bios::take_count(&mut self.open()?)?;
        Ok(())
    }

    /// The entry of what runs.
    pub fn entry(&self) -> Result<Option<Entry>, OwnDiskError> {
        let there = entries(&mut self.open()?)?;
        let mut its = there.into_iter();
        Ok(its.find(|entry| entry.generation == self.running))
    }

    /// Whether what runs still has to show that it is good.
    pub fn is_on_trial(&self) -> Result<bool, OwnDiskError> {
        let there = entries(&mut self.open()?)?;
        let mut its = there
            .iter()
            .filter(|entry| entry.generation == self.running);
        Ok(its.all(|entry| entry.tries.is_some()))
    }

    /// Writes an image into the slot that does not run, and reads it back. Nothing starts it yet.
    pub fn stage(&self, image: &mut impl Read) -> Result<Staged, OwnDiskError> {
        Ok(upgrade::stage(&mut self.open()?, self.running, image)?)
    }

    /// What the slot that does not run says that it holds.
    pub fn staged(&self) -> Result<Staged, OwnDiskError> {
        Ok(staged(&mut self.open()?, self.running)?)
    }

    /// The root file system of the staged image.
    pub fn copy_staged_root(&self, to: &mut fs::File) -> Result<(), OwnDiskError> {
        let mut system = self.open()?;
        let (mut image, place) = staged_root(&mut system, self.running)?;
        image
            .seek(io::SeekFrom::Start(place.begin))
            .and_then(|_| next_init::copy(&mut image, place.bytes, to))
            .map_err(|source| failed(&self.system, source))
    }

    /// The image that was good before this one.
    pub fn previous(&self) -> Result<Staged, OwnDiskError> {
        Ok(previous(&mut self.open()?, self.running)?)
    }

    /// The next boot tries the staged image whose root has this UUID.
    pub fn arm(&self, image: &str) -> Result<Entry, OwnDiskError> {
        Ok(arm(&mut self.open()?, self.running, image)?)
    }

    /// The next boot tries nothing: it starts what runs.
    pub fn disarm(&self) -> Result<(), OwnDiskError> {
        let running = self.running;
        withdraw(&mut self.open()?, |entry, tries| {
            tries.done == 0 && entry.generation > running
        })?;
        Ok(())
    }

    /// Counts this start of a trial, if the boot loader has not.
    pub fn count(&self) -> Result<bool, OwnDiskError> {
        Ok(upgrade::count(&mut self.open()?, self.running)?)
    }

    /// What runs is good from now on.
    pub fn bless(&self) -> Result<Entry, OwnDiskError> {
        Ok(bless(&mut self.open()?, self.running)?)
    }

    /// What runs is not good: says so on META first, and then takes it out of the order. The next boot starts the last good image.
    pub fn give_up(&self, why: &str) -> Result<(), OwnDiskError> {
        let mut system = self.open()?;
        let there = entries(&mut system)?;
        if let Some(entry) = there.iter().find(|entry| entry.generation == self.running) {
            self.record(entry, why)?;
        }
        withdraw(&mut system, |_, _| true)?;
        Ok(())
    }

    /// What runs is good, and so a trial that is still in the order has failed without a word. Takes it out, and returns what is known of the last one
    /// that has failed.
    pub fn settle(&self) -> Result<Option<FailedTrial>, OwnDiskError> {
        let mut system = self.open()?;
        let there = entries(&mut system)?;
        let is_passed_over = |entry: &Entry| Some(entry.generation) == self.passed_over;
        let silent = there.iter().rfind(|entry| {
            let was_started = entry.tries.is_some_and(|tries| tries.done > 0);
            entry.generation > self.running && (was_started || is_passed_over(entry))
        });
        if let Some(entry) = silent {
            let why = match entry.tries.map_or(0, |tries| tries.done) {
                0 => "GRUB did not start it: it cannot write to this disk, and so could not count that the image is tried".to_owned(),
                times => format!(
                    "it was started {times} times, and said neither that it is good nor what was wrong: it hung, or panicked, or its power was cut"
                ),
            };
            self.record(entry, &why)?;
        }
        // One that was not started yet is still to come.
        withdraw(&mut system, |entry, tries| {
            let is_over = tries.done > 0 || is_passed_over(entry);
            is_over && entry.generation != self.running
        })?;
        let failed = self.read_meta()?.failed;
        // What came after it was good: that one is of no interest any more.
        Ok(failed.filter(|failed| failed.generation > self.running))
    }

    fn record(&self, entry: &Entry, why: &str) -> Result<(), OwnDiskError> {
        let meta = Meta {
            format: Meta::FORMAT,
            failed: Some(FailedTrial {
                generation: entry.generation,
                version: entry.version.clone(),
                why: why.to_owned(),
                at: Timestamp::now().unix_millis(),
            }),
        };
        let mut device = open(&self.meta)?;
        let written = meta.write(&mut device);
        written.map_err(|source| failed(&self.meta, source))
    }

    fn read_meta(&self) -> Result<Meta, OwnDiskError> {
        let read = Meta::read(&mut open(&self.meta)?);
        read.map_err(|source| failed(&self.meta, source))
    }

    fn open(&self) -> Result<Partition<Device>, OwnDiskError> {
        Ok(Partition::open(open(&self.system)?)?)
    }
}

fn open(path: &Path) -> Result<Device, OwnDiskError> {
    Device::open(path).map_err(|source| failed(path, source))
}

fn failed(device: &Path, source: io::Error) -> OwnDiskError {
    let device = device.to_owned();
    OwnDiskError::Device { device, source }
}

/// As firmware writes a GUID: the first three fields are little endian.
fn guid(bytes: [u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let digits = masthead_api::hex::encode(&order.map(|at| bytes[at]));
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    parts.map(|(from, to)| &digits[from..to]).join("-")
}

#[cfg(test)]
#[path = "own_disk_tests.rs"]
mod tests;
