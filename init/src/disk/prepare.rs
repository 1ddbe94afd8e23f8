//! Making a blank disk ours, and mounting what is on it.

use std::fs;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use masthead_disk_layout::layout::complete;
use masthead_disk_layout::{
    Contents, Holds, LayoutError, Role, Storage, Table, TableError, inspect, plan,
};
use masthead_policy::{FileSystem, FileSystems, MountFlag};
use nix::mount::{MsFlags, mount};
use thiserror::Error;

use super::device::Device;
use super::discover::Roots;

/// Why a disk could not be prepared or mounted.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The disk is too small.
    #[error("{disk} cannot be laid out")]
    Layout {
        /// `/dev/vda`
        disk: PathBuf,
        /// Sizes.
        source: LayoutError,
    },
    /// The disk failed.
    #[error("{step} failed on {device}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// Device or mount point.
        device: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The table was not written.
    #[error("the partition table of {disk} was not written")]
    Table {
        /// `/dev/vda`
        disk: PathBuf,
        /// Why.
        source: TableError,
    },
    /// mke2fs or e2fsck said no.
    #[error("{program} on {device} ended with {status}: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The partition.
        device: PathBuf,
        /// Exit status in words.
        status: String,
        /// What it printed last.
        output: String,
    },
    /// Somebody else works on the partition: the program that a supervisor which was killed meanwhile had started.
    #[error(
        "{device} is in use: a program that an earlier supervisor has started still works on it"
    )]
    Busy {
        /// The partition.
        device: PathBuf,
    },
    /// What is on the disk is not what it was chosen for.
    #[error("{disk} is not written: {found}")]
    Changed {
        /// `/dev/vda`
        disk: PathBuf,
        /// What is on it.
        found: String,
    },
    /// The table of a disk in service has no such partition.
    #[error("the partition table of {disk} has no {role}")]
    NoPartition {
        /// `/dev/vda`
        disk: PathBuf,
        /// The partition's name.
        role: &'static str,
    },
    /// The image lacks a table for this partition: a fault of ours.
    #[error("configs/node/filesystems.toml has no file system for {0}")]
    NoPolicy(&'static str),
}

/// A file system of ours that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedRole {
    /// STATE, ETCD or DATA.
    pub role: Role,
    /// `/dev/vda4`; none in memory or where the lab mounted it.
    pub device: Option<PathBuf>,
    /// `/state`, `/etcd`, `/data`
    pub target: PathBuf,
    /// Why memory is mounted there instead of the file system on disk, which is left as it is.
    pub instead_of: Option<String>,
}

/// Makes the disk ours, or the rest of a disk with an image. When it returns, the table says that it is prepared; when the power goes
/// before, the table does not, and the next boot starts over. `record` is called when the disk is whole but for that
/// word: what it makes durable holds before the disk can be in service. `first_files` is a folder whose files STATE
/// has from its making on.
pub fn prepare(
    roots: &Roots,
    name: &str,
    holds: Holds,
    first_files: Option<&Path>,
    record: impl FnOnce() -> io::Result<()>,
) -> Result<Table, PrepareError> {
    let disk = roots.dev.join(name);
    let at = |step: &'static str| {
        let device = disk.clone();
        move |source| PrepareError::Io {
            step,
            device,
            source,
        }
    };
    let mut device = Device::open(&disk).map_err(at("opening for writing"))?;
    let bytes = device.seek(SeekFrom::End(0)).map_err(at("measuring"))?;
    let sector_bytes = logical_sector_bytes(roots, name);
    let mut random = vec![0; 16 * (Role::ALL.len() + 1)];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| at("asking for random numbers")(errno.into()))?;
    let mut guids = random.chunks_exact(16).map(version_4);
    let random_guid = || guids.next().unwrap_or_default();
    let changed = |found| PrepareError::Changed {
        disk: disk.clone(),
        found,
    };
    // Looked at once more, now that nobody else can hold it.
    let (in_preparation, image) = match inspect(&mut device) {
        Contents::Blank | Contents::Foreign(_) => (false, None),
        Contents::Ours(table) if !table.prepared => (true, table.keeps_image.then_some(table)),
        Contents::Image(table, _) => (false, Some(table)),
        contents => return Err(changed(contents.to_string())),
    };
    let planned = match image {
        Some(image) if image.sector_bytes != sector_bytes => {
            return Err(changed(format!(
                "its image was made for sectors of {} bytes, and it has sectors of {sector_bytes}; install it from another medium",
                image.sector_bytes
            )));
        }
        Some(image) => complete(&image, bytes, holds, random_guid),
        None => plan(bytes, sector_bytes, holds, random_guid),
    };
    let mut table = planned.map_err(|source| PrepareError::Layout {
        disk: disk.clone(),
        source,
    })?;
    let table_error = |source| PrepareError::Table {
        disk: disk.clone(),
        source,
    };
    // META, which has no file system, is cleared whole by this, unless it is an image's.
    table
        .clear(&mut device, in_preparation)
        .map_err(table_error)?;
    table.write(&mut device).map_err(table_error)?;
    device
        .reread_partitions()
        .map_err(at("reading the new partition table"))?;
    // Whoever holds the whole disk for itself holds its partitions too: mke2fs would be refused.
    drop(device);
    for role in holds.roles().filter(|role| role.has_file_system()) {
        let policy = policy_of(role)?;
        let partition = partition_path(roots, name, &table, role)?;
        run(
            "mke2fs",
            &partition,
            |command| {
                command.args(&policy.mkfs).args(["-L", role.label(), "-F"]);
                if let (Role::State, Some(folder)) = (role, first_files) {
                    command.arg("-d").arg(folder);
                }
            },
            |code| code == 0,
        )?;
    }
    let mut device = Device::open(&disk).map_err(at("opening for writing"))?;
    device.sync().map_err(at("waiting for the disk"))?;
    record().map_err(at("recording that the seed's wipe was carried out"))?;
    table.prepared = true;
    table.keeps_image = false;
    table.write(&mut device).map_err(table_error)?;
    Ok(table)
}

/// Checks and mounts one partition of a prepared disk.
pub fn check_and_mount(
    roots: &Roots,
    name: &str,
    table: &Table,
    role: Role,
) -> Result<MountedRole, PrepareError> {
    let policy = policy_of(role)?;
    let device = partition_path(roots, name, table, role)?;
    // e2fsck would be refused, and says so with the code that it has for any failure of its own.
    if Device::open(&device).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
        return Err(PrepareError::Busy { device });
    }
    // e2fsck(8): 0 clean, 1 errors corrected. 2 asks for a reboot, which only the root needs.
    run(
        "e2fsck",
        &device,
        |command| {
            command.args(&policy.fsck);
        },
        |code| code <= 2,
    )?;
    mount(
        Some(&device),
        policy.target.as_str(),
        Some(policy.kind.as_str()),
        flags(&policy.flags),
        Some(policy.data.as_str()),
    )
    .map_err(|errno| PrepareError::Io {
        step: "mounting",
        device: device.clone(),
        source: errno.into(),
    })?;
    Ok(MountedRole {
        role,
        target: PathBuf::from(&policy.target),
        device: Some(device),
        instead_of: None,
    })
}

/// Mounts memory in a disk's place, once: `size` as tmpfs takes it (tmpfs(5)).
pub fn mount_memory(role: Role, size: &str) -> Result<MountedRole, PrepareError> {
    let policy = policy_of(role)?;
    let target = PathBuf::from(&policy.target);
    if super::health::mount_line(&target).is_none() {
        let options = format!("mode=0755,size={size}");
        mount(
            Some(role.label()),
            &target,
            Some("tmpfs"),
            flags(&policy.flags),
            Some(options.as_str()),
        )
        .map_err(|errno| PrepareError::Io {
            step: "mounting memory",
            device: target.clone(),
            source: errno.into(),
        })?;
    }
    Ok(MountedRole {
        role,
        device: None,
        target,
        instead_of: None,
    })
}

/// The partition's file system as `configs/node/filesystems.toml` has it.
pub fn policy_of(role: Role) -> Result<FileSystem, PrepareError> {
    let name = match role {
        Role::State => "STATE",
        Role::Etcd => "ETCD",
        _ => "DATA",
    };
    FileSystems::embedded()
        .ok()
        .and_then(|table| table.get(name).cloned())
        .ok_or(PrepareError::NoPolicy(name))
}

fn flags(names: &[MountFlag]) -> MsFlags {
    names.iter().fold(MsFlags::empty(), |flags, name| {
        flags
            | match name {
                MountFlag::Ro => MsFlags::MS_RDONLY,
                MountFlag::Nosuid => MsFlags::MS_NOSUID,
                MountFlag::Nodev => MsFlags::MS_NODEV,
                MountFlag::Noexec => MsFlags::MS_NOEXEC,
                MountFlag::Noatime => MsFlags::MS_NOATIME,
                MountFlag::Relatime => MsFlags::MS_RELATIME,
                MountFlag::Lazytime => MsFlags::MS_LAZYTIME,
                // linux/mount.h; nix has no name for it yet.
                MountFlag::Nosymfollow => MsFlags::from_bits_retain(1 << 8),
            }
    })
}

/// `vda` and 4 make `vda4`, `nvme0n1` and 4 make `nvme0n1p4`: the kernel puts a `p` behind a digit.
pub fn partition_path(
    roots: &Roots,
    name: &str,
    table: &Table,
    role: Role,
) -> Result<PathBuf, PrepareError> {
    let Some(number) = table.number(role) else {
        return Err(PrepareError::NoPartition {
            disk: roots.dev.join(name),
            role: role.label(),
        });
    };
    let separator = if name.ends_with(|last: char| last.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    Ok(roots.dev.join(format!("{name}{separator}{number}")))
}

fn logical_sector_bytes(roots: &Roots, name: &str) -> u64 {
    fs::read_to_string(roots.block(name).join("queue/logical_block_size"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(512)
}

/// A random GUID (RFC 9562, version 4), in the byte order of a partition table: the first three
/// fields are little endian, so the version is in byte 7.
fn version_4(random: &[u8]) -> [u8; 16] {
    let mut guid = [0; 16];
    guid.copy_from_slice(random);
    guid[7] = guid[7] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    guid
}

fn run(
    program: &'static str,
    device: &Path,
    arguments: impl FnOnce(&mut Command),
    accepts: impl FnOnce(i32) -> bool,
) -> Result<(), PrepareError> {
    let mut command = Command::new(format!("/sbin/{program}"));
    arguments(&mut command);
    let output = command
        .arg(device)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PrepareError::Io {
            step: program,
            device: device.to_owned(),
            source,
        })?;
    if output.status.code().is_some_and(accepts) {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let last: Vec<_> = printed.lines().rev().take(4).collect();
    Err(PrepareError::Program {
        program,
        device: device.to_owned(),
        status: output.status.to_string(),
        output: last.into_iter().rev().collect::<Vec<_>>().join(" / "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_the_kernel_does() {
        let roots = Roots::default();
        let mut next = 0;
        let table = plan(64 << 30, 512, Holds::Everything, || {
            next += 1;
            [next; 16]
        })
        .expect("fits");
        let path = |name| partition_path(&roots, name, &table, Role::State).expect("there");
        assert_eq!(path("vda"), Path::new("/dev/vda4"));
        assert_eq!(path("nvme0n1"), Path::new("/dev/nvme0n1p4"));
    }

    #[test]
    fn every_file_system_has_its_policy() {
        for role in Role::ALL.into_iter().filter(|role| role.has_file_system()) {
            let policy = policy_of(role).expect("in the table");
            assert!(
                flags(&policy.flags)
                    .contains(MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC)
            );
        }
    }

    #[test]
    fn guids_are_of_version_4() {
        let guid = version_4(&[0xff; 16]);
        assert_eq!((guid[7] >> 4, guid[8] >> 6), (4, 2));
    }
}
