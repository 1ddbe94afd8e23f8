//! The EFI system partition of a machine that is off, and its other partitions, from the file of its disk.

use std::{fs::File, path::Path};

use masthead_disk_layout::{Contents, Part, Role, inspect};
use masthead_slots::Partition;

use crate::error::{Attempt, Error, Result};

/// Opens it. The disk must be Masthead's.
pub fn open(disk: &Path) -> Result<Partition<Part<File>>> {
    let there = Partition::open(partition(disk, Role::Esp)?);
    there.map_err(|error| wrong(disk, &crate::error::chain(&error)))
}

/// Another partition of such a disk.
pub fn partition(disk: &Path, role: Role) -> Result<Part<File>> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(disk)
        .attempt(|| format!("open {}", disk.display()))?;
    let Contents::Ours(table) = inspect(&mut file) else {
        return Err(wrong(disk, "the disk is not Masthead's"));
    };
    let partition = table.partition(role);
    let partition =
        partition.ok_or_else(|| wrong(disk, &format!("there is no {}", role.label())))?;
    Ok(Part::of(file, &table, partition))
}

fn wrong(disk: &Path, why: &str) -> Error {
    Error::Refused(format!("{}: {why}", disk.display()))
}
