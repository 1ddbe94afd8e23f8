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

/// Mounts the whole table, in order. What is there already, and as tight, is left alone: the initramfs
/// has mounted it by this same table.
pub(super) fn mount_all(table: &Mounts, kind: NodeKind) -> Result<(), MountError> {
    for line in table.on(kind.is_machine()) {
        match mount_one(line, Path::new("/")) {
            Ok(()) => {}
            // The kernel shows no place for it: what it is for is not in this machine.
            Err(error) if line.optional && error.source.kind() == io::ErrorKind::NotFound => {}
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
    // Before proc is mounted, nothing is.
    let found = mounted().unwrap_or_default();
    let topmost = found.iter().rfind(|found| found.target == target);
    if topmost.is_some_and(|found| found.satisfies(line)) {
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
    options: String,
}

impl Mounted {
    /// Whether this is what the line asks for. Of most types there is but one, whatever name it was
    /// given; a tmpfs is told by its name.
    fn satisfies(&self, line: &Mount) -> bool {
        let has = |flag: &MountFlag| self.options.split(',').any(|option| option == flag.name());
        self.kind == line.kind
            && (self.kind != "tmpfs" || self.source == line.source)
            && line.flags.iter().all(has)
    }
}

/// Everything that is mounted, in the order of mounting.
pub(super) fn mounted() -> io::Result<Vec<Mounted>> {
    Ok(parse_mounts(&fs::read_to_string("/proc/self/mounts")?))
}

fn parse_mounts(text: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let mut fields = line.split(' ');
        Some(Mounted {
            source: fields.next()?.to_owned(),
            target: PathBuf::from(OsString::from_vec(unescape(fields.next()?))),
            kind: fields.next()?.to_owned(),
            options: fields.next()?.to_owned(),
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
            options: "rw,nosuid".into(),
        };
        assert_eq!(mounts[0], expected);
        assert_eq!(mounts[1].target, Path::new("/a b\\c"));
    }

    #[test]
    fn only_what_is_mounted_as_tightly_satisfies_a_line() {
        let table = Mounts::embedded().expect("a table");
        let line = |target| {
            table
                .mounts
                .iter()
                .find(|line| line.target == target)
                .expect("a line")
        };
        let found = |text| parse_mounts(text).remove(0);
        let proc = found("none /proc proc rw,nosuid,nodev,noexec,relatime 0 0");
        assert!(proc.satisfies(line("/proc")));
        assert!(!proc.satisfies(line("/sys")));
        assert!(!found("proc /proc proc rw,nosuid,relatime 0 0").satisfies(line("/proc")));
        let run = "tmpfs /run tmpfs rw,nosuid,nodev,noexec,relatime,size=64m 0 0";
        assert!(!found(run).satisfies(line("/run")), "somebody else's");
        assert!(found(&run.replacen("tmpfs", "run", 1)).satisfies(line("/run")));
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
