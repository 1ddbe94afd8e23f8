//! What is inside a unified kernel image, or any EFI program.

use std::fmt;

use serde::Serialize;

use crate::digest::Digest;
use crate::formats::cpio::{self, Kind};
use crate::formats::erofs::{self, Superblock};
use crate::formats::initramfs;
use masthead_uki::pe;

/// All that can be said about an image.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Its sections, in the order of the file.
    pub sections: Vec<Section>,
    /// `.cmdline`: the kernel's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// `.uname`: the kernel's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_release: Option<String>,
    /// `.osrel`: what boot loaders read, line by line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub os_release: Vec<String>,
    /// `.sbat`: generations for revocation, line by line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sbat: Vec<String>,
    /// `.initrd`, if it is of cpio archives that are not compressed, or by zstd: their entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initrd: Vec<Entry>,
}

/// A section of the program.
#[derive(Debug, Serialize)]
pub struct Section {
    /// Name, such as `.linux`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub sha256: Digest,
}

/// An entry of the initramfs.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Name, without a leading slash.
    pub name: String,
    /// One letter as `ls -l` writes it: d, -, l, c.
    pub kind: char,
    /// Permissions, in octal.
    pub mode: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of a file's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// If the file is an EROFS image: its superblock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erofs: Option<Superblock>,
}

/// Looks into the bytes of an EFI program.
pub fn inspect(program: &[u8]) -> Result<Inspection, pe::Error> {
    let sections = pe::sections(program)?;
    let content = |name: &str| {
        sections
            .iter()
            .find(|section| section.name == name)
            .map(|section| section.content)
    };
    let text = |name: &str| {
        content(name).map(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            text.trim_end_matches('\0').trim_end().to_owned()
        })
    };
    let lines = |name: &str| -> Vec<String> {
        text(name).map_or_else(Vec::new, |text| {
            text.lines().map(ToOwned::to_owned).collect()
        })
    };
    let archives = content(".initrd")
        .and_then(|bytes| initramfs::archives(bytes).ok())
        .unwrap_or_default();
    Ok(Inspection {
        size: program.len() as u64,
        sha256: Digest::of(program),
        command_line: text(".cmdline"),
        kernel_release: text(".uname"),
        os_release: lines(".osrel"),
        sbat: lines(".sbat"),
        initrd: archives
            .iter()
            .filter_map(|archive| cpio::read(archive).ok())
            .flat_map(|(entries, _)| entries.iter().map(entry).collect::<Vec<_>>())
            .collect(),
        sections: sections
            .iter()
            .map(|section| Section {
                name: section.name.clone(),
                size: section.content.len() as u64,
                sha256: Digest::of(section.content),
            })
            .collect(),
    })
}

fn entry(entry: &cpio::Entry<'_>) -> Entry {
    let file = entry.kind == Kind::File;
    Entry {
        name: entry.name.to_owned(),
        kind: match entry.kind {
            Kind::Folder => 'd',
            Kind::File => '-',
            Kind::Link => 'l',
            Kind::CharacterDevice(..) => 'c',
            Kind::Other => '?',
        },
        mode: format!("{:04o}", entry.permissions),
        size: entry.content.len() as u64,
        sha256: file.then(|| Digest::of(entry.content)),
        erofs: erofs::superblock(entry.content).filter(|_| file),
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "size          {} bytes", self.size)?;
        writeln!(formatter, "sha256        {}", self.sha256)?;
        if let Some(release) = &self.kernel_release {
            writeln!(formatter, "kernel        {release}")?;
        }
        if let Some(command_line) = &self.command_line {
            writeln!(formatter, "command line  {command_line}")?;
        }
        for (title, lines) in [("os-release", &self.os_release), ("sbat", &self.sbat)] {
            for (index, line) in lines.iter().enumerate() {
                let title = if index == 0 { title } else { "" };
                writeln!(formatter, "{title:<13} {line}")?;
            }
        }
        writeln!(formatter, "\nsections")?;
        for Section { name, size, sha256 } in &self.sections {
            writeln!(formatter, "  {name:<10} {size:>10}  {sha256}")?;
        }
        if !self.initrd.is_empty() {
            writeln!(formatter, "\ninitramfs")?;
        }
        for entry in &self.initrd {
            let Entry {
                name,
                kind,
                mode,
                size,
                ..
            } = entry;
            writeln!(formatter, "  {kind} {mode} {size:>10}  {name}")?;
            if let Some(erofs) = &entry.erofs {
                writeln!(
                    formatter,
                    "                      EROFS of {} blocks of {} bytes, {} inodes, built {}, uuid {}",
                    erofs.blocks, erofs.block_size, erofs.inodes, erofs.build_time, erofs.uuid
                )?;
            }
        }
        Ok(())
    }
}
