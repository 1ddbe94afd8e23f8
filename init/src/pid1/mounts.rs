//! Mounting what `configs/node/mounts.toml` says, and reading back what is mounted.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use masthead_policy::{Mount, MountFlag, Mounts};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use thiserror::Error;

use super::log::say;
use crate::node::NodeKind;

/// A file system that the node cannot do without could not be mounted.
#[derive(Debug, Error)]
#[error("cannot mount {kind} on {target}")]
pub struct MountError {
    target: String,
    kind: String,
    source: io::Error,
}

/// Mounts the whole table, in order. What is there already, with the same type, is left alone: the
/// initramfs has mounted it by this same table, or the lab has.
pub(super) fn mount_all(table: &Mounts, kind: NodeKind) -> Result<(), MountError> {
    for line in table.on(kind.is_machine()) {
        match mount_one(line, Path::new("/")) {
            Ok(()) => {}
            Err(error) if line.optional => {
                say!("without {} on {}: {}", line.kind, line.target, error.source);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Mounts one line of the table below `root`, and makes its directory if need be.
pub(super) fn mount_one(line: &Mount, root: &Path) -> Result<(), MountError> {
    let target = root.join(line.target.trim_start_matches('/'));
    let failed = |source: io::Error| MountError {
        target: target.display().to_string(),
        kind: line.kind.clone(),
        source,
    };
    if is_mounted(&target, &line.kind, &line.source) {
        return Ok(());
    }
    match fs::create_dir_all(&target) {
        // The root and sysfs have the directories that they have; mounting says if one is missing.
        Err(error) if error.raw_os_error() == Some(Errno::ROFS.raw_os_error()) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => other.map_err(failed)?,
    }
    let data = line.data.as_deref().unwrap_or_default();
    let data = CString::new(data).map_err(|error| failed(error.into()))?;
    mount(
        line.source.as_str(),
        &target,
        line.kind.as_str(),
        flags(&line.flags),
        &*data,
    )
    .map_err(|error| failed(error.into()))
}

/// The kernel's bits for the table's words.
pub fn flags(words: &[MountFlag]) -> MountFlags {
    words.iter().fold(MountFlags::empty(), |bits, word| {
        bits | match word {
            MountFlag::Ro => MountFlags::RDONLY,
            MountFlag::Nosuid => MountFlags::NOSUID,
            MountFlag::Nodev => MountFlags::NODEV,
            MountFlag::Noexec => MountFlags::NOEXEC,
            MountFlag::Noatime => MountFlags::NOATIME,
            MountFlag::Relatime => MountFlags::RELATIME,
            MountFlag::Lazytime => MountFlags::LAZYTIME,
            MountFlag::Nosymfollow => MountFlags::NOSYMFOLLOW,
        }
    })
}

/// One line of `/proc/self/mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) source: String,
    pub(super) target: PathBuf,
    pub(super) kind: String,
}

/// Everything that is mounted, in the order of mounting.
pub(super) fn mounted() -> io::Result<Vec<Mounted>> {
    Ok(parse_mounts(&fs::read_to_string("/proc/self/mounts")?))
}

/// Whether the topmost mount on `target` is this one already. Of most types there is but one, whatever
/// name it was given; a tmpfs is told by its name. Before proc is mounted nothing is.
fn is_mounted(target: &Path, kind: &str, source: &str) -> bool {
    let mounts = mounted().unwrap_or_default();
    mounts
        .iter()
        .rfind(|mount| mount.target == target)
        .is_some_and(|mount| mount.kind == kind && (kind != "tmpfs" || mount.source == source))
}

fn parse_mounts(text: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let mut fields = line.split(' ');
        Some(Mounted {
            source: fields.next()?.to_owned(),
            target: PathBuf::from(OsString::from_vec(unescape(fields.next()?))),
            kind: fields.next()?.to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// Undoes proc(5)'s escapes: a blank is `\040`.
fn unescape(field: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..3);
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(b'\\');
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_with_escapes() {
        let mounts =
            parse_mounts("/dev/vda3 /state ext4 rw,nosuid 0 0\nnone /a\\040b\\134c tmpfs rw 0 0\n");
        let expected = Mounted {
            source: "/dev/vda3".into(),
            target: "/state".into(),
            kind: "ext4".into(),
        };
        assert_eq!(mounts[0], expected);
        assert_eq!(mounts[1].target, Path::new("/a b\\c"));
    }

    #[test]
    fn knows_what_is_mounted_here() {
        assert!(is_mounted(Path::new("/proc"), "proc", "none"));
        assert!(!is_mounted(Path::new("/proc"), "sysfs", "proc"));
        assert!(!is_mounted(Path::new("/proc/self"), "proc", "proc"));
    }

    #[test]
    fn every_word_of_the_table_is_a_bit_of_its_own() {
        let words = [
            MountFlag::Nosuid,
            MountFlag::Nodev,
            MountFlag::Noexec,
            MountFlag::Nosymfollow,
        ];
        assert_eq!(flags(&words).bits().count_ones(), 4);
    }
}
