//! What a disk holds: blank, ours, foreign, what remains of ours, or unknown because it could not be read.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::edges;
use crate::layout::{Holds, Role, complete, plan};
use crate::signatures::{At, SIGNATURES, Signature};
use crate::table::{Found, Partition, Table, TableError};

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Read without error, and nothing there but, perhaps, the first traces of a preparation.
    Blank,
    /// A table of ours, and nothing that contradicts it.
    Ours(Table),
    /// An image of ours that somebody has put there: it starts the machine, and the rest of the disk is to be prepared. What else is on
    /// that is never written without the seed's `wipe`.
    Image(Table, Vec<Finding>),
    /// Anything else: never written without the seed's `wipe`.
    Foreign(Vec<Finding>),
    /// A Masthead whose table is damaged or was overwritten. Never written, whatever the seed says: only a
    /// person can tell whether what is left is of worth.
    Remains(Vec<Finding>),
    /// It could not be read, so nothing is known: never written, whatever the seed says.
    Unknown {
        /// The operating system's word on why.
        why: String,
    },
}

impl fmt::Display for Contents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |findings: &[Finding]| {
            let names: Vec<_> = findings.iter().map(|finding| finding.0.as_str()).collect();
            names.join(" and ")
        };
        match self {
            Self::Blank => formatter.write_str("blank"),
            Self::Ours(table) if table.prepared => formatter.write_str("holds a Masthead"),
            Self::Ours(_) => formatter.write_str("its preparation was interrupted"),
            Self::Image(_, findings) if findings.is_empty() => {
                formatter.write_str("holds a Masthead's image, and is not prepared")
            }
            Self::Image(_, findings) => write!(
                formatter,
                "holds a Masthead's image, and behind it {}",
                listed(findings)
            ),
            Self::Foreign(findings) => write!(formatter, "holds {}", listed(findings)),
            Self::Remains(findings) => write!(
                formatter,
                "holds what is left of a Masthead: {}",
                listed(findings)
            ),
            Self::Unknown { why } => write!(formatter, "cannot be read: {why}"),
        }
    }
}

/// Something found on a disk, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding(pub String);

/// Looks at a disk. Never fails: what cannot be read is [`Contents::Unknown`].
pub fn inspect<R: Read + Seek + ?Sized>(disk: &mut R) -> Contents {
    match try_inspect(disk) {
        Ok(contents) => contents,
        Err(why) => Contents::Unknown {
            why: why.to_string(),
        },
    }
}

fn try_inspect<R: Read + Seek + ?Sized>(disk: &mut R) -> io::Result<Contents> {
    let found = match Table::read(disk) {
        Ok(found) => found,
        Err(TableError::Io(error)) => return Err(error),
        Err(TableError::Encode(error)) => return Err(io::Error::other(error.to_string())),
    };
    // With its primary copy, a disk in service is itself, whatever has become of the rest. One that would be
    // formatted, or whose front is not what it was, must be beyond doubt.
    if let Found::Ours {
        table,
        primary: true,
    } = &found
        && table.prepared
        && !table.is_image()
    {
        return Ok(Contents::Ours(table.clone()));
    }
    let bytes = disk.seek(SeekFrom::End(0))?;
    // Read both edges even where something is found: a read error must not pass for a finding.
    // A boot loader for BIOS has its first code in front of the table.
    let starts = matches!(&found, Found::Ours { table, .. } if table.prepared || table.keeps_image);
    let edges = edges::scan(disk, bytes, starts)?;
    let mut findings = Vec::new();
    match &found {
        Found::Foreign(names) => findings.push(Finding(describe_partitions(names))),
        Found::Damaged => findings.push(Finding("a damaged GPT partition table".to_owned())),
        Found::None | Found::Ours { .. } => {}
    }
    let ours = matches!(found, Found::Ours { .. });
    for signature in SIGNATURES {
        // The partition table was told above, by what is in it, and every table has such an MBR.
        let told = signature.name.contains("partition table")
            && (!findings.is_empty()
                || ours && (edges.protective || signature.name.contains("GPT")));
        let finding = Finding(signature.name.to_owned());
        if !told && is_at(disk, signature, 0, bytes)? && !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    // The backup is there for a primary copy that has rotted away: data that nothing explains is no contradiction
    // where the file systems in service are in their places.
    let in_service = match &found {
        Found::Ours { table, .. } => is_in_service(disk, table)?,
        _ => false,
    };
    if let (Some(offset), true) = (edges.unexplained, findings.is_empty() && !in_service) {
        findings.push(Finding(format!(
            "data of no known kind, from byte {offset}"
        )));
    }
    if let Found::Ours { table, .. } = &found {
        // Where a disk is too small for more, nothing else is on it.
        let completed = table
            .is_image()
            .then(|| complete(table, bytes, Holds::Everything, Default::default).ok())
            .flatten();
        let table = completed.as_ref().unwrap_or(table);
        for partition in &table.partitions {
            findings.extend(intruder(disk, table, partition)?);
        }
    }
    let file_systems = file_systems_of_ours(disk, bytes)?;
    let remains = match &found {
        Found::Ours { table, .. } if table.is_image() => edges.prepared || !file_systems.is_empty(),
        Found::Ours { table, .. } => table.prepared || !file_systems.is_empty(),
        Found::Damaged => edges.prepared || edges.in_preparation || !file_systems.is_empty(),
        Found::None | Found::Foreign(_) => edges.prepared || !file_systems.is_empty(),
    };
    Ok(match found {
        Found::Ours { table, .. } if table.is_image() && !remains => {
            Contents::Image(table, findings)
        }
        Found::Ours { table, .. } if findings.is_empty() && !table.is_image() => {
            Contents::Ours(table)
        }
        _ if remains => {
            findings.extend(
                file_systems
                    .iter()
                    .map(|role| Finding(format!("a Masthead's file system {}", role.label()))),
            );
            if file_systems.is_empty() {
                findings.push(Finding("partitions of a Masthead".to_owned()));
            }
            Contents::Remains(findings)
        }
        _ if findings.is_empty() => Contents::Blank,
        _ => Contents::Foreign(findings),
    })
}

/// The roles whose file systems are where a layout of ours for a disk of this size puts them.
fn file_systems_of_ours<R: Read + Seek + ?Sized>(
    disk: &mut R,
    bytes: u64,
) -> io::Result<Vec<Role>> {
    let mut roles = Vec::new();
    for holds in [
        Holds::Everything,
        Holds::EverythingButEtcd,
        Holds::EtcdAlone,
    ] {
        let Ok(table) = plan(bytes, 512, holds, Default::default) else {
            continue;
        };
        for partition in &table.partitions {
            let begin = partition.first_sector * table.sector_bytes;
            if has_label(disk, begin, partition.role)? && !roles.contains(&partition.role) {
                roles.push(partition.role);
            }
        }
    }
    Ok(roles)
}

/// Whether a table is prepared and the file systems without which there is no master, STATE and ETCD as far as it
/// has them, are where it says.
fn is_in_service<R: Read + Seek + ?Sized>(disk: &mut R, table: &Table) -> io::Result<bool> {
    for role in [Role::State, Role::Etcd] {
        if let Some(partition) = table.partition(role)
            && !has_label(disk, partition.first_sector * table.sector_bytes, role)?
        {
            return Ok(false);
        }
    }
    Ok(table.prepared && !table.is_image())
}

/// Something that is not ours at the beginning of a partition: before it is prepared, anything but the file system to
/// be made; afterwards, another file system in the place of ours.
fn intruder<R: Read + Seek + ?Sized>(
    disk: &mut R,
    table: &Table,
    partition: &Partition,
) -> io::Result<Option<Finding>> {
    let (role, begin) = (partition.role, partition.first_sector * table.sector_bytes);
    if table.is_done(role) && !role.has_file_system() || has_label(disk, begin, role)? {
        return Ok(None);
    }
    let end = begin + partition.bytes(table.sector_bytes);
    for signature in SIGNATURES {
        if matches!(signature.at, At::Start(_)) && is_at(disk, signature, begin, end)? {
            return Ok(Some(Finding(format!(
                "{} in the place of {}",
                signature.name,
                role.label()
            ))));
        }
    }
    Ok(None)
}

/// Whether an ext4 file system with the role's label begins there (Documentation/filesystems/ext4/super.rst: the
/// superblock is at 1024, its magic number at 0x38 and the label at 0x78 of it).
fn has_label<R: Read + Seek + ?Sized>(disk: &mut R, begin: u64, role: Role) -> io::Result<bool> {
    let mut superblock = [0; 0x88];
    disk.seek(SeekFrom::Start(begin + 1024))?;
    match disk.read_exact(&mut superblock) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    let label = superblock[0x78..].split(|byte| *byte == 0).next();
    Ok(role.has_file_system()
        && superblock[0x38..0x3a] == [0x53, 0xef]
        && label == Some(role.label().as_bytes()))
}

fn describe_partitions(names: &[String]) -> String {
    let named: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| match name.as_str() {
            "" => format!("{} (no name)", index + 1),
            name => format!("{} \"{name}\"", index + 1),
        })
        .collect();
    match named.len() {
        0 => "a GPT partition table without partitions".to_owned(),
        count => format!(
            "a GPT partition table with {count} partitions: {}",
            named.join(", ")
        ),
    }
}

/// Whether a signature is on the part of the disk from byte `begin` to `end`.
fn is_at<R: Read + Seek + ?Sized>(
    disk: &mut R,
    signature: &Signature,
    begin: u64,
    end: u64,
) -> io::Result<bool> {
    let offset = match signature.at {
        At::Start(offset) => begin + offset,
        At::End(distance) => end.saturating_sub(distance),
    };
    if offset + signature.magic.len() as u64 > end {
        return Ok(false);
    }
    let mut found = vec![0; signature.magic.len()];
    disk.seek(SeekFrom::Start(offset))?;
    disk.read_exact(&mut found)?;
    Ok(found == signature.magic)
}

#[cfg(test)]
#[path = "contents_tests.rs"]
mod tests;
