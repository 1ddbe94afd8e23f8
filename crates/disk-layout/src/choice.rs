//! Which of the disks present a seed means.

use std::fmt;

use crate::contents::Contents;
use crate::layout::Role;
use crate::table::Table;

/// What the seed says of a disk. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `nvme`, `virtio`, `scsi`, `mmc`.
    pub kind: Option<String>,
    /// Smallest size, bytes.
    pub min_bytes: Option<u64>,
    /// Serial number, whole.
    pub serial: Option<String>,
    /// The serial number of a disk that may be erased once, whatever it holds.
    pub wipe: Option<String>,
}

/// A disk that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The kernel's name, such as `nvme0n1`.
    pub name: String,
    /// As in [`Wanted::kind`]; other names for other drivers.
    pub kind: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Serial number, if it tells one.
    pub serial: Option<String>,
    /// Whether the kernel refuses to write to it.
    pub read_only: bool,
    /// What it holds.
    pub contents: Contents,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This disk holds the role already.
    Use {
        /// The kernel's name.
        name: String,
        /// Its table.
        table: Table,
    },
    /// This disk is blank, or its preparation was interrupted: prepare it.
    Prepare {
        /// The kernel's name.
        name: String,
        /// Its serial number, if the seed's `wipe` names it: with this preparation, that word is carried out.
        wiped: Option<String>,
    },
    /// Nothing can be done until a person or a cable does something.
    Wait(Refusal),
}

/// Why no disk was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No disk matches. One line a disk: why not.
    NoneMatches(Vec<String>),
    /// Several blank disks match. One line a disk.
    SeveralMatch(Vec<String>),
    /// More than one disk holds this role already.
    SeveralInstalled(Vec<String>),
    /// One disk matches and holds something else, or cannot be read. One line.
    Occupied(String),
    /// One disk matches and was a Masthead's, whose table is damaged. One line.
    Remains(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoneMatches(lines) if lines.is_empty() => {
                formatter.write_str("this machine has no disk")
            }
            Refusal::NoneMatches(lines) => {
                write!(formatter, "no disk matches the seed: {}", lines.join("; "))
            }
            Refusal::SeveralMatch(lines) => {
                write!(
                    formatter,
                    "several blank disks match the seed: {}",
                    lines.join("; ")
                )
            }
            Refusal::SeveralInstalled(lines) => {
                write!(
                    formatter,
                    "several disks hold a Masthead already: {}",
                    lines.join("; ")
                )
            }
            Refusal::Occupied(line) => {
                write!(formatter, "the disk that matches is not blank: {line}")
            }
            Refusal::Remains(line) => {
                write!(formatter, "the disk that matches was in service: {line}")
            }
        }
    }
}

impl Refusal {
    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Refusal::NoneMatches(_) => {
                "connect such a disk, or change `disk` in the seed to fit one of those listed"
            }
            Refusal::SeveralMatch(_) => "name one of them in the seed: disk = { serial = \"...\" }",
            Refusal::SeveralInstalled(_) => {
                "disconnect the one that does not belong to this machine, or name one in the seed: \
                 disk = { serial = \"...\" }"
            }
            Refusal::Occupied(_) => {
                "use another disk, erase this one elsewhere, or write wipe = \"SERIAL\" into the seed \
                 to have it erased, once"
            }
            Refusal::Remains(_) => {
                "repair its partition table elsewhere, use another disk, or erase this one elsewhere: whole, since \
                 `wipe` does not erase what was a master's"
            }
        }
    }
}

/// Chooses the disk for `role` (STATE stands for the system disk, ETCD for a disk of its own).
///
/// A disk with an image on it that is not prepared goes before blank ones: the image was put there to be used. An installed disk is found again whatever its size and name; only a serial number given in the
/// seed narrows the search. `wipe_used` is true once the seed's `wipe` was carried out. It is also
/// ignored when any disk holds a Masthead STATE, since a master in service is never erased by a seed, and on a
/// disk that shows what is left of one. While such a disk matches, no other is prepared in its place.
pub fn choose(role: Role, wanted: &Wanted, disks: &[Candidate], wipe_used: bool) -> Choice {
    let serial_fits = |disk: &Candidate| wanted.serial.is_none() || disk.serial == wanted.serial;
    let installed: Vec<_> = disks
        .iter()
        .filter(|disk| serial_fits(disk))
        .filter_map(|disk| match &disk.contents {
            Contents::Ours(table) if table.partition(role).is_some() && table.prepared => {
                Some((disk, table))
            }
            _ => None,
        })
        .collect();
    match installed.as_slice() {
        [] => {}
        [(disk, table)] => {
            return Choice::Use {
                name: disk.name.clone(),
                table: (*table).clone(),
            };
        }
        several => {
            return Choice::Wait(Refusal::SeveralInstalled(
                several.iter().map(|(disk, _)| describe(disk)).collect(),
            ));
        }
    }
    let (matching, others): (Vec<_>, Vec<_>) = disks
        .iter()
        .partition(|disk| mismatch(wanted, disk).is_none());
    // A disk that the seed names for wiping counts as wiped, however little was left to erase: a wipe may have
    // been cut short after the last thing that told of a need for it.
    let prepare = |disk: &Candidate| Choice::Prepare {
        name: disk.name.clone(),
        wiped: disk.serial.clone().filter(|_| disk.serial == wanted.wipe),
    };
    if let Some(disk) = matching.iter().find(|disk| interrupted(role, disk)) {
        return prepare(disk);
    }
    let remains = |disk: &&&Candidate| matches!(disk.contents, Contents::Remains(_));
    if let Some(disk) = matching.iter().find(remains) {
        return Choice::Wait(Refusal::Remains(describe(disk)));
    }
    let state_exists = disks.iter().any(|disk| {
        matches!(&disk.contents, Contents::Ours(table)
            if table.prepared && table.partition(Role::State).is_some())
    });
    let wipe = wanted
        .wipe
        .as_ref()
        .filter(|_| !(wipe_used || state_exists && role == Role::State));
    let is_named = |disk: &Candidate| wipe.is_some() && disk.serial.as_ref() == wipe;
    let has_image =
        |disk: &&&Candidate| role == Role::State && matches!(disk.contents, Contents::Image(..));
    let images: Vec<_> = matching.iter().filter(has_image).collect();
    match images.as_slice() {
        [] => {}
        [disk] => {
            let is_free = matches!(&disk.contents, Contents::Image(_, rest) if rest.is_empty());
            if is_free || is_named(disk) {
                return prepare(disk);
            }
            return Choice::Wait(Refusal::Occupied(describe(disk)));
        }
        several => {
            return Choice::Wait(Refusal::SeveralInstalled(
                several.iter().map(|disk| describe(disk)).collect(),
            ));
        }
    }
    if let Some(disk) = matching.iter().find(|disk| is_named(disk))
        && matches!(disk.contents, Contents::Foreign(_))
    {
        return prepare(disk);
    }
    let blank: Vec<_> = matching
        .iter()
        .filter(|disk| disk.contents == Contents::Blank)
        .collect();
    match blank.as_slice() {
        [disk] => prepare(disk),
        [] => match matching.first() {
            Some(disk) => Choice::Wait(Refusal::Occupied(describe(disk))),
            None => Choice::Wait(Refusal::NoneMatches(
                others
                    .iter()
                    .map(|disk| match mismatch(wanted, disk) {
                        Some(why) => format!("{}: {why}", describe(disk)),
                        None => describe(disk),
                    })
                    .collect(),
            )),
        },
        several => Choice::Wait(Refusal::SeveralMatch(
            several.iter().map(|disk| describe(disk)).collect(),
        )),
    }
}

/// A disk whose preparation for this role was begun and not finished.
fn interrupted(role: Role, disk: &Candidate) -> bool {
    matches!(&disk.contents, Contents::Ours(table)
        if !table.prepared && table.partition(role).is_some())
}

fn mismatch(wanted: &Wanted, disk: &Candidate) -> Option<String> {
    if disk.read_only {
        return Some("is read-only".to_owned());
    }
    if let Some(kind) = &wanted.kind
        && *kind != disk.kind
    {
        return Some(format!("is no {kind} disk"));
    }
    if let Some(serial) = &wanted.serial
        && disk.serial.as_ref() != Some(serial)
    {
        return Some(format!("has not the serial number {serial}"));
    }
    if let Some(least) = wanted.min_bytes
        && disk.bytes < least
    {
        return Some(format!("is smaller than {}", gigabytes(least)));
    }
    None
}

/// One line that tells a disk from the others: `vda (virtio, 8.6 GB, serial "X"), blank`.
pub fn describe(disk: &Candidate) -> String {
    let serial = match &disk.serial {
        Some(serial) => format!("serial \"{serial}\""),
        None => "no serial number".to_owned(),
    };
    format!(
        "{} ({}, {}, {serial}) {}",
        disk.name,
        disk.kind,
        gigabytes(disk.bytes),
        disk.contents
    )
}

fn gigabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000_000;
    format!("{}.{} GB", tenths / 10, tenths % 10)
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
