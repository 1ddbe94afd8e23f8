//! Whether the mounted file systems still work.
//!
//! A disk may die, turn read-only or fill up; the node runs from memory and goes on, and says so. ext4
//! itself turns read-only at the first error that matters, so its mount options tell most of it; the
//! rest is asked by touching the folder's times, which needs the journal but writes no data.

use std::fs;
use std::path::Path;
use std::time::Duration;

use masthead_api::status::{Disk, DiskState};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_machine::Scale;
use nix::errno::Errno;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeSpec;
use tokio::sync::watch;

use super::Report;
use super::prepare::MountedRole;

/// How often the file systems are looked at. A look is three system calls for each, and the touched times reach the
/// disk with the journal's next commit, every 5 s whatever is written: so it costs no more than a rarer one.
const EVERY: Duration = Duration::from_secs(2);
/// How long a look may take before the disk counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// Below this share of free space a file system counts as full: 1 in this many.
const FULL_BELOW: u64 = 100;

/// Watches the file systems for ever, and keeps `report` true.
pub async fn watch(mounted: Vec<MountedRole>, scale: Scale, report: watch::Sender<Report>) {
    let mut looks: Vec<_> = mounted.into_iter().map(Look::new).collect();
    loop {
        for look in &mut looks {
            look.once(scale).await;
        }
        let disks: Vec<_> = looks.iter().map(|look| look.disk.clone()).collect();
        report.send_if_modified(|report| {
            let changed = report.disks != disks;
            report.disks = disks;
            changed
        });
        tokio::time::sleep(scale * EVERY).await;
    }
}

/// One file system under watch.
struct Look {
    mounted: MountedRole,
    disk: Disk,
    /// A look that a stalled disk holds up. There is never more than one on the way.
    pending: Option<tokio::task::JoinHandle<Seen>>,
}

impl Look {
    fn new(mounted: MountedRole) -> Self {
        let disk = Disk {
            role: mounted
                .role
                .label()
                .trim_start_matches("masthead-")
                .to_uppercase(),
            device: mounted
                .device
                .as_ref()
                .map(|device| device.display().to_string()),
            serial: None,
            state: DiskState::Ready,
            filesystem: None,
            used: None,
            size: None,
            reason: None,
        };
        Self {
            mounted,
            disk,
            pending: None,
        }
    }

    async fn once(&mut self, scale: Scale) {
        let mut pending = self.pending.take().unwrap_or_else(|| {
            let target = self.mounted.target.clone();
            tokio::task::spawn_blocking(move || see(&target))
        });
        let seen = match tokio::time::timeout(scale * STALLED_AFTER, &mut pending).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(panicked)) => Seen::broken(panicked.to_string()),
            Err(_) => {
                self.pending = Some(pending);
                Seen::broken("the disk does not answer".to_owned())
            }
        };
        self.disk.filesystem = seen.kind.or_else(|| self.disk.filesystem.take());
        self.disk.size = seen.size.or(self.disk.size);
        self.disk.used = seen.used.or(self.disk.used);
        let state = match seen.state {
            DiskState::Ready if self.disk.filesystem.as_deref() == Some("tmpfs") => {
                DiskState::Memory
            }
            state => state,
        };
        // A reason that stays the same is since then, not since now.
        let reason = reason(&state, &self.mounted, seen.detail.as_deref());
        let code = |reason: &Option<Reason>| reason.as_ref().map(|reason| reason.code.clone());
        if state != self.disk.state || code(&reason) != code(&self.disk.reason) {
            self.disk.reason = reason;
            self.disk.state = state;
        }
    }
}

/// What one look saw.
struct Seen {
    state: DiskState,
    detail: Option<String>,
    kind: Option<String>,
    size: Option<u64>,
    used: Option<u64>,
}

impl Seen {
    fn broken(detail: String) -> Self {
        Self {
            state: DiskState::Lost,
            detail: Some(detail),
            kind: None,
            size: None,
            used: None,
        }
    }
}

/// Looks once. May block for as long as the disk does.
fn see(target: &Path) -> Seen {
    let Some(line) = mount_line(target) else {
        return Seen::broken("it is no longer mounted".to_owned());
    };
    let mut seen = Seen {
        state: DiskState::Ready,
        detail: None,
        kind: Some(line.kind),
        size: None,
        used: None,
    };
    match statvfs(target) {
        Ok(room) => {
            let unit = room.fragment_size();
            let free = room.blocks_available();
            seen.size = Some(room.blocks() * unit);
            seen.used = Some((room.blocks() - room.blocks_free()) * unit);
            if free < room.blocks() / FULL_BELOW {
                seen.state = DiskState::Full;
                seen.detail = Some(format!(
                    "{} KiB of {} are free",
                    free * unit / 1024,
                    room.blocks() * unit / 1024
                ));
            }
        }
        Err(errno) => {
            return Seen {
                state: DiskState::Lost,
                detail: Some(errno.desc().to_owned()),
                ..seen
            };
        }
    }
    if line.shut_down {
        return Seen {
            state: DiskState::Lost,
            detail: Some("the kernel has shut the file system down".to_owned()),
            ..seen
        };
    }
    let now = TimeSpec::UTIME_NOW;
    let touched = utimensat(
        nix::fcntl::AT_FDCWD,
        target,
        &now,
        &now,
        UtimensatFlags::FollowSymlink,
    );
    match touched {
        _ if line.read_only => Seen {
            state: DiskState::ReadOnly,
            detail: Some("the kernel mounted it read-only after an error".to_owned()),
            ..seen
        },
        Err(Errno::EROFS) => Seen {
            state: DiskState::ReadOnly,
            detail: Some(Errno::EROFS.desc().to_owned()),
            ..seen
        },
        // A full file system was told above.
        Ok(()) | Err(Errno::ENOSPC | Errno::EDQUOT) => seen,
        Err(errno) => Seen {
            state: DiskState::Lost,
            detail: Some(errno.desc().to_owned()),
            ..seen
        },
    }
}

/// What `/proc/self/mounts` says of a mount point.
#[derive(Debug, PartialEq, Eq)]
pub struct MountLine {
    /// The device, or the word that a virtual file system was mounted with.
    pub source: String,
    /// The file system's type.
    pub kind: String,
    /// Whether writes are refused, by the mount or by the file system after an error.
    pub read_only: bool,
    /// Whether the kernel has ended the file system: it does so when the disk is gone, and every access
    /// fails from then on.
    pub shut_down: bool,
}

/// The topmost mount at `target`, if any.
pub fn mount_line(target: &Path) -> Option<MountLine> {
    parse_mounts(&fs::read_to_string("/proc/self/mounts").ok()?, target)
}

/// See fstab(5) and proc_pid_mounts(5). `emergency_ro` and `shutdown` are how newer kernels show an
/// ext4 that gave up without the mount having been changed.
fn parse_mounts(mounts: &str, target: &Path) -> Option<MountLine> {
    mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let (source, at) = (fields.next()?, fields.next()?);
        let (kind, options) = (fields.next()?, fields.next()?);
        (Path::new(at) == target).then(|| MountLine {
            source: source.to_owned(),
            kind: kind.to_owned(),
            read_only: options
                .split(',')
                .any(|option| matches!(option, "ro" | "emergency_ro")),
            shut_down: options.split(',').any(|option| option == "shutdown"),
        })
    })
}

fn reason(state: &DiskState, mounted: &MountedRole, detail: Option<&str>) -> Option<Reason> {
    let code = match state {
        DiskState::Memory if mounted.instead_of.is_some() => ReasonCode::DiskSetAside,
        DiskState::Lost => ReasonCode::DiskLost,
        DiskState::ReadOnly => ReasonCode::DiskReadOnly,
        DiskState::Full => ReasonCode::DiskFull,
        DiskState::Memory => ReasonCode::DiskInMemory,
        _ => return None,
    };
    let reason = Reason::new(code, Timestamp::now());
    let Some(detail) = detail else {
        return Some(match &mounted.instead_of {
            Some(cause) => reason.with_cause(cause.clone()),
            None => reason,
        });
    };
    let cause = match &mounted.device {
        Some(device) => format!(
            "{} at {}: {detail}.",
            device.display(),
            mounted.target.display()
        ),
        None => format!("{}: {detail}.", mounted.target.display()),
    };
    Some(reason.with_cause(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_on_a_place_counts() {
        let mounts = "/dev/vda4 /state ext4 rw,nosuid 0 0\n/dev/vda5 /etcd ext4 rw,noatime,emergency_ro 0 0\n\
                      none /state tmpfs ro,nosuid 0 0\n";
        let line = |target| parse_mounts(mounts, Path::new(target));
        let read_only = |source: &str, kind: &str| {
            Some(MountLine {
                source: source.to_owned(),
                kind: kind.to_owned(),
                read_only: true,
                shut_down: false,
            })
        };
        assert_eq!(line("/state"), read_only("none", "tmpfs"));
        assert_eq!(line("/etcd"), read_only("/dev/vda5", "ext4"));
        assert_eq!(line("/data"), None);
    }

    #[test]
    fn a_file_system_whose_disk_is_gone_is_shut_down() {
        let mounts = "/dev/vda5 /etcd ext4 rw,noatime,shutdown 0 0\n";
        let line = parse_mounts(mounts, Path::new("/etcd")).unwrap();
        assert!(line.shut_down && !line.read_only, "{line:?}");
    }

    #[test]
    fn a_place_that_is_not_mounted_is_lost() {
        let seen = see(Path::new("/nowhere/at/all"));
        assert_eq!(seen.state, DiskState::Lost);
    }

    #[tokio::test]
    async fn memory_in_a_disks_place_is_told_once_and_since_then() {
        for (instead_of, code) in [
            (None, ReasonCode::DiskInMemory),
            (
                Some("It is beyond repair.".to_owned()),
                ReasonCode::DiskSetAside,
            ),
        ] {
            let mut look = Look::new(MountedRole {
                role: masthead_disk_layout::Role::Data,
                device: None,
                target: "/dev/shm".into(),
                instead_of,
            });
            look.once(Scale::REAL).await;
            let told = look.disk.reason.clone();
            assert_eq!(told.as_ref().map(|reason| &reason.code), Some(&code));
            // The next look is at another time by the clock that tells since when.
            while told.as_ref().map(|reason| reason.since) == Some(Timestamp::now()) {}
            look.once(Scale::REAL).await;
            assert_eq!(look.disk.reason, told);
        }
    }

    #[test]
    fn a_writable_tmpfs_is_seen_as_such() {
        let seen = see(Path::new("/dev/shm"));
        assert_eq!(
            (seen.state, seen.kind.as_deref()),
            (DiskState::Ready, Some("tmpfs"))
        );
        assert!(seen.size.is_some_and(|size| size > 0));
    }
}
