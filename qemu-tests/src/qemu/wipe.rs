//! Making a machine's disk blank again, or one file system of it, while the machine is off.

use std::{fs::File, path::Path};

use masthead_disk_layout::{Role, Table, table::Found};
use rustix::fs::{FallocateFlags, fallocate};

use crate::{
    error::{Attempt, Error, Result},
    plan::DiskRole,
    provider::Wipe,
};

/// Wipes the image: what is gone reads as zeros and takes no room.
pub(super) fn wipe(image: &Path, what: Wipe) -> Result<()> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(image)
        .attempt(|| format!("open {}", image.display()))?;
    let bytes = file
        .metadata()
        .attempt(|| format!("size {}", image.display()))?
        .len();
    let (offset, length) = match what {
        Wipe::All => (0, bytes),
        Wipe::Disk(role) => match place(&mut file, role)? {
            Some(place) => place,
            // Never prepared: there is nothing of it.
            None => return Ok(()),
        },
    };
    fallocate(
        &file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        offset,
        length,
    )
    .attempt(|| format!("wipe {}", image.display()))
}

/// Where the partition of a role is, in bytes.
fn place(file: &mut File, role: DiskRole) -> Result<Option<(u64, u64)>> {
    let role = match role {
        DiskRole::State => Role::State,
        DiskRole::Etcd => Role::Etcd,
        DiskRole::Data => Role::Data,
    };
    let found = Table::read(file).map_err(|error| {
        Error::Refused(format!(
            "the machine's partition table cannot be read: {error}"
        ))
    })?;
    Ok(match found {
        Found::Ours { table, .. } => table.partition(role).map(|partition| {
            let sector = table.sector_bytes;
            (partition.first_sector * sector, partition.bytes(sector))
        }),
        Found::None | Found::Damaged | Found::Foreign(_) => None,
    })
}
