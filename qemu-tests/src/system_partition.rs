//! The EFI system partition of a machine that is off, from the file of its disk.

use std::{fs::File, path::Path};

use masthead_disk_layout::{Contents, Part, Role, inspect};
use masthead_slots::Partition;

use crate::error::{Attempt, Error, Result};

/// Opens it. The disk must be Masthead's.
pub fn open(disk: &Path) -> Result<Partition<Part<File>>> {
    let wrong = |why: &str| Error::Refused(format!("{}: {why}", disk.display()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(disk)
        .attempt(|| format!("open {}", disk.display()))?;
    let Contents::Ours(table) = inspect(&mut file) else {
        return Err(wrong("the disk is not Masthead's"));
    };
    let partition = table.partition(Role::Esp);
    let partition = partition.ok_or_else(|| wrong("there is no EFI system partition"))?;
    let part = Part::of(file, &table, partition);
    Partition::open(part).map_err(|error| wrong(&crate::error::chain(&error)))
}
