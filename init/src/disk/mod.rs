//! The node's disks: find or prepare them, mount them, and watch them afterwards.
//!
//! - [`discover`] reads sysfs and the disks; which one is meant is decided by `masthead-disk-layout`.
//! - [`prepare`] writes the partition table, makes the file systems, checks and mounts them.
//! - [`health`] tells when a mounted file system is gone, read-only or full.
//!
//! A node without its disk waits here and says for what; nothing is written before the choice is
//! beyond doubt. In a namespace the lab hands in mounted file systems.

pub(crate) mod device;
pub mod discover;
pub mod health;
pub mod prepare;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use masthead_api::status::{Disk, DiskState, Installation};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_disk_layout::choice::{Refusal, describe};
use masthead_disk_layout::{
    Candidate, Choice, Contents, Holds, LayoutError, Role, Table, Wanted, choose,
};
use masthead_machine::Scale;
use masthead_seed::{DiskMatch, DiskSelector, Master};
use tokio::sync::watch;

use crate::error_chain::with_sources;
use crate::node::{Facility, NodeKind};
use crate::slots;
use crate::volume::SystemMounts;
use discover::{Roots, disks};
use prepare::{MountedRole, PrepareError, check_and_mount, mount_memory, policy_of, prepare};

/// What the disks are at this moment, for the status.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Our file systems, and the disks considered.
    pub disks: Vec<Disk>,
    /// What is waited for.
    pub waiting: Option<Reason>,
    /// What the system disk starts.
    pub installation: Option<Installation>,
}

/// How long to wait before looking at the disks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The roles that a node mounts, in order.
const MOUNTED: [Role; 3] = [Role::State, Role::Etcd, Role::Data];

/// Mounts STATE, ETCD and DATA, preparing a blank disk if there is none of ours yet. Returns only when
/// all are mounted; until then `report` says what is waited for.
pub async fn bring_up(
    kind: NodeKind,
    master: &Master,
    scale: Scale,
    report: &watch::Sender<Report>,
) -> Vec<MountedRole> {
    if let Some(mounted) = already_mounted(kind) {
        let installation = slots::recall().or_else(|| slots::handed_in(kind));
        report.send_modify(|report| report.installation = installation);
        return mounted;
    }
    loop {
        let wish = Wish::of(master);
        let reporting = report.clone();
        let attempt = tokio::task::spawn_blocking(move || attempt(&wish, &reporting)).await;
        match attempt {
            Ok(Ok(mounted)) => return mounted,
            Ok(Err(reason)) => report.send_modify(|report| report.waiting = Some(reason)),
            Err(panicked) => report.send_modify(|report| {
                report.waiting = Some(
                    Reason::new(ReasonCode::DiskSetupFailed, Timestamp::now()).with_cause(format!(
                        "Setting up the disks ended in a fault of Masthead's own: {panicked}."
                    )),
                );
            }),
        }
        tokio::time::sleep(scale * LOOK_AGAIN).await;
    }
}

/// What is mounted when a supervisor starts: by the one before it, or in a namespace by the lab. A
/// disk that died meanwhile is still mounted, and no reason to look for another one.
fn already_mounted(kind: NodeKind) -> Option<Vec<MountedRole>> {
    MOUNTED
        .into_iter()
        .map(|role| {
            let target = PathBuf::from(policy_of(role).ok()?.target);
            let line = health::mount_line(&target)?;
            let device = (kind.has(Facility::Disks) && line.source.starts_with("/dev/"))
                .then(|| PathBuf::from(line.source));
            let instead_of = (role == Role::Data && device.is_none())
                .then(|| fs::read_to_string(DATA_IS_IN_MEMORY).ok())
                .flatten();
            Some(MountedRole {
                role,
                device,
                target,
                instead_of,
            })
        })
        .collect()
}

/// What the seed says of this master's disks.
struct Wish {
    system: Option<Wanted>,
    etcd: Option<Wanted>,
}

impl Wish {
    fn of(master: &Master) -> Self {
        let wanted = |disk: &DiskMatch| Wanted {
            kind: disk.kind.map(|kind| kind.name().to_owned()),
            min_bytes: disk.min_bytes,
            serial: disk.serial.clone(),
            wipe: master.wipe.clone(),
        };
        Self {
            system: match &master.disk {
                DiskSelector::Memory => None,
                DiskSelector::Match(disk) => Some(wanted(disk)),
            },
            etcd: master.etcd_disk.as_ref().map(wanted),
        }
    }
}

/// One attempt to get everything mounted. What an earlier one mounted stays so.
fn attempt(wish: &Wish, report: &watch::Sender<Report>) -> Result<Vec<MountedRole>, Reason> {
    let Some(system) = &wish.system else {
        return MOUNTED
            .into_iter()
            .map(|role| mount_memory(role, "25%").map_err(|error| failed(&error)))
            .collect();
    };
    let roots = Roots::default();
    let seen = disks(&roots);
    show(report, &seen);
    let holds = if wish.etcd.is_some() {
        Holds::EverythingButEtcd
    } else {
        Holds::Everything
    };
    let (name, table) = chosen(&roots, Role::State, system, holds, &seen, false, report)?;
    let required = |name: &str, table: &Table, role| {
        mount_once(&roots, name, table, role).map_err(|error| failed(&error))
    };
    let mut mounted = vec![required(&name, &table, Role::State)?];
    match &wish.etcd {
        None => mounted.push(required(&name, &table, Role::Etcd)?),
        Some(etcd) => {
            let used = |serial| wipe_was_used(Path::new(USED_WIPES), serial);
            let used = etcd.wipe.as_deref().is_some_and(used);
            let (name, table) = chosen(
                &roots,
                Role::Etcd,
                etcd,
                Holds::EtcdAlone,
                &seen,
                used,
                report,
            )?;
            mounted.push(required(&name, &table, Role::Etcd)?);
        }
    }
    mounted.push(mount_data(&roots, &name, &table)?);
    let installation = install(&roots, &name, &table, report).map_err(|error| failed(&error))?;
    report.send_modify(|report| {
        report.waiting = None;
        report.installation = Some(installation);
    });
    Ok(mounted)
}

/// Has the system disk start the running image, if it starts none yet. A node goes on without: it runs from memory.
fn install(
    roots: &Roots,
    name: &str,
    table: &Table,
    report: &watch::Sender<Report>,
) -> Result<Installation, PrepareError> {
    let place = slots::Place {
        device: prepare::partition_path(roots, name, table, Role::Esp)?,
        bios: bios(roots, name, table)?,
        sector_bytes: table.sector_bytes,
        sys: roots.sys.clone(),
        dev: roots.dev.clone(),
    };
    let installing = Reason::new(ReasonCode::DiskPreparing, Timestamp::now())
        .with_cause(format!("/dev/{name} is given an image to start."));
    report.send_modify(|report| report.waiting = Some(installing));
    Ok(slots::bring_up(&place, &SystemMounts))
}

/// Where a BIOS starts from. None on disks with large sectors, which no BIOS starts.
fn bios(
    roots: &Roots,
    name: &str,
    table: &Table,
) -> Result<Option<slots::BiosPlace>, PrepareError> {
    if table.sector_bytes != masthead_slots::bios::SECTOR {
        return Ok(None);
    }
    let Some(partition) = table.partition(Role::BiosBoot) else {
        return Ok(None);
    };
    Ok(Some(slots::BiosPlace {
        disk: roots.dev.join(name),
        partition: prepare::partition_path(roots, name, table, Role::BiosBoot)?,
        begin: partition.first_sector,
    }))
}

/// The disk for a role, prepared if it was not yet.
fn chosen(
    roots: &Roots,
    role: Role,
    wanted: &Wanted,
    holds: Holds,
    seen: &[Candidate],
    wipe_used: bool,
    report: &watch::Sender<Report>,
) -> Result<(String, Table), Reason> {
    match choose(role, wanted, seen, wipe_used) {
        Choice::Use { name, table } => Ok((name, table)),
        Choice::Prepare { name, wiped } => {
            let preparing = Reason::new(ReasonCode::DiskPreparing, Timestamp::now())
                .with_cause(format!("/dev/{name} is being partitioned and formatted."));
            report.send_modify(|report| report.waiting = Some(preparing));
            let wiped = wiped.as_deref();
            // A system disk carries the record from the making of its STATE on; for another, STATE is mounted.
            let table = match (wiped, role) {
                (Some(serial), Role::State) => {
                    let folder = first_files(serial).map_err(|error| failed(&error))?;
                    prepare(roots, &name, holds, Some(&folder), || Ok(()))
                }
                (Some(serial), _) => prepare(roots, &name, holds, None, || record_wipe(serial)),
                (None, _) => prepare(roots, &name, holds, None, || Ok(())),
            };
            Ok((name, table.map_err(|error| failed(&error))?))
        }
        Choice::Wait(refusal) => Err(refused(&refusal)),
    }
}

fn mount_once(
    roots: &Roots,
    name: &str,
    table: &Table,
    role: Role,
) -> Result<MountedRole, PrepareError> {
    let target = policy_of(role)?.target;
    if health::mount_line(Path::new(&target)).is_none() {
        return check_and_mount(roots, name, table, role);
    }
    Ok(MountedRole {
        role,
        device: Some(prepare::partition_path(roots, name, table, role)?),
        target: PathBuf::from(target),
        instead_of: None,
    })
}

/// What DATA may hold where it is kept in memory: logs of some hours, and no more of the machine's memory than that.
const DATA_IN_MEMORY: &str = "64m";
/// Why it is, for a supervisor that replaces this one.
const DATA_IS_IN_MEMORY: &str = "/run/masthead/data-in-memory";

/// Whether what is written to DATA is gone after the next reboot.
pub fn data_is_in_memory() -> bool {
    Path::new(DATA_IS_IN_MEMORY).exists()
}

/// Mounts DATA. Logs and snapshots are not worth an outage: where it cannot be mended or mounted, memory takes its
/// place, and the file system is left as it is for a person. One that is still being checked is waited for.
fn mount_data(roots: &Roots, name: &str, table: &Table) -> Result<MountedRole, Reason> {
    let reason = match mount_once(roots, name, table, Role::Data) {
        Ok(mounted) => return Ok(mounted),
        Err(error @ PrepareError::Busy { .. }) => return Err(failed(&error)),
        Err(error) => failed(&error),
    };
    tracing::error!(cause = %reason.cause, "DATA cannot be used, and memory takes its place");
    let mounted = mount_memory(Role::Data, DATA_IN_MEMORY).map_err(|error| failed(&error))?;
    if let Err(error) = fs::write(DATA_IS_IN_MEMORY, &reason.cause) {
        tracing::warn!(%error, "{DATA_IS_IN_MEMORY} cannot be written");
    }
    Ok(MountedRole {
        instead_of: Some(reason.cause),
        ..mounted
    })
}

fn refused(refusal: &Refusal) -> Reason {
    let code = match refusal {
        Refusal::NoneMatches(_) => ReasonCode::DiskMissing,
        Refusal::SeveralMatch(_) | Refusal::SeveralInstalled(_) => ReasonCode::DiskAmbiguous,
        Refusal::Occupied(line) if line.contains("cannot be read") => ReasonCode::DiskUnreadable,
        Refusal::Occupied(_) => ReasonCode::DiskForeign,
        Refusal::Remains(_) => ReasonCode::DiskDamaged,
    };
    let mut cause = refusal.to_string();
    if let Some(first) = cause.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Reason::new(code, Timestamp::now())
        .with_cause(cause)
        .with_remedy(refusal.remedy())
}

fn failed(error: &PrepareError) -> Reason {
    let code = match error {
        PrepareError::Layout {
            source: LayoutError::TooSmall { .. },
            ..
        } => ReasonCode::DiskTooSmall,
        PrepareError::Busy { .. } => ReasonCode::DiskPreparing,
        _ => ReasonCode::DiskSetupFailed,
    };
    Reason::new(code, Timestamp::now()).with_cause(with_sources(error))
}

/// One serial number a line: each `wipe` of the seed that was carried out, so that it never is again.
const USED_WIPES: &str = "/state/used-wipes";

/// A record that cannot be read may hold any serial number: nothing is wiped then.
fn wipe_was_used(record: &Path, serial: &str) -> bool {
    match fs::read(record) {
        Ok(used) => used
            .split(|byte| *byte == b'\n')
            .any(|line| line == serial.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            tracing::error!(%error, "{} cannot be read: no disk is wiped", record.display());
            true
        }
    }
}

fn record_wipe(serial: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(USED_WIPES)?;
    writeln!(file, "{serial}")?;
    file.sync_all()?;
    fs::File::open("/state")?.sync_all()
}

/// A folder with the record of a wipe, for a STATE that is being made.
fn first_files(serial: &str) -> Result<PathBuf, PrepareError> {
    let folder = PathBuf::from("/run/masthead/first-files");
    let record = || {
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        fs::write(folder.join("used-wipes"), format!("{serial}\n"))
    };
    record().map_err(|source| PrepareError::Io {
        step: "recording that the seed's wipe is carried out",
        device: folder.clone(),
        source,
    })?;
    Ok(folder)
}

/// Why nothing is written to a disk by what it holds, if so.
fn refusal(disk: &Candidate) -> Option<ReasonCode> {
    match &disk.contents {
        Contents::Blank | Contents::Ours(_) => None,
        Contents::Image(_, rest) if rest.is_empty() => None,
        Contents::Foreign(_) | Contents::Image(..) => Some(ReasonCode::DiskForeign),
        Contents::Remains(_) => Some(ReasonCode::DiskDamaged),
        Contents::Unknown { .. } => Some(ReasonCode::DiskUnreadable),
    }
}

/// Publishes what the disks hold, as candidates.
fn show(report: &watch::Sender<Report>, seen: &[Candidate]) {
    let disks = seen.iter().map(|disk| Disk {
        role: "candidate".to_owned(),
        device: Some(format!("/dev/{}", disk.name)),
        serial: disk.serial.clone(),
        state: match refusal(disk) {
            None => DiskState::Waiting,
            Some(_) => DiskState::Refused,
        },
        filesystem: None,
        used: None,
        size: Some(disk.bytes),
        reason: refusal(disk)
            .map(|code| Reason::new(code, Timestamp::now()).with_cause(describe(disk))),
    });
    let disks = disks.collect();
    report.send_modify(|report| report.disks = disks);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wipe_is_used_when_the_record_says_so_or_cannot_be_read() {
        let folder = tempfile::tempdir().expect("made");
        let record = folder.path().join("used-wipes");
        assert!(!wipe_was_used(&record, "S-1"));
        fs::write(&record, b"\xff\nS-1\n").expect("written");
        assert!(wipe_was_used(&record, "S-1"));
        assert!(!wipe_was_used(&record, "S-2"));
        // Nobody, not even root, can read a folder as a file.
        assert!(wipe_was_used(folder.path(), "S-2"));
    }
}
