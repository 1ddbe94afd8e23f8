//! The disk image: what an installation leaves on a disk, and nothing that is a cluster's. The node that it starts makes the rest (`masthead_disk_layout::layout::complete`).
//!
//! It is as small as the layout allows; most of it is a hole in the file. On a larger disk its table says less than there is: the node writes another.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context as _, Result};
use masthead_disk_layout::layout::smallest;
use masthead_disk_layout::{Holds, Part, Role, plan};
use masthead_slots::{Format, Partition, Source, install};

use crate::digest::Digest;

/// Bytes a sector. Disks with others need an installation.
const SECTOR: u16 = 512;

/// Writes the disk image to a file, whole or not at all. The same image and boot loader give the same bytes.
pub fn make(image: &[u8], boot_loader: &[u8], output: &Path) -> Result<()> {
    let release = masthead_uki::check(&mut Cursor::new(image)).context("reading the image")?;
    let part = output.with_extension("part");
    let writing = || format!("writing {}", output.display());
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&part)
        .with_context(writing)?;
    let bytes = smallest(Holds::Image);
    file.set_len(bytes).with_context(writing)?;
    let mut number = 0;
    let guids = || {
        number += 1;
        Digest::of(format!("{} {number}", release.image).as_bytes()).guid()
    };
    let mut table = plan(bytes, u64::from(SECTOR), Holds::Image, guids).with_context(writing)?;
    table.prepared = true;
    table.write(&mut file).with_context(writing)?;
    let system = table.partition(Role::Esp);
    let system = system.context("the layout has no EFI system partition")?;
    let system = Part::of(&mut file, &table, system);
    let mut system = Partition::format(system, Format::disk(SECTOR)).with_context(writing)?;
    let image = Cursor::new(image);
    let source = Source { image, boot_loader };
    install(&mut system, source, &release).with_context(writing)?;
    drop(system);
    file.sync_all().with_context(writing)?;
    fs::rename(&part, output).with_context(writing)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    use masthead_disk_layout::{Contents, inspect};
    use masthead_slots::installed;
    use masthead_uki::example::image;

    use super::*;

    #[test]
    fn it_starts_the_image_and_is_mostly_a_hole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("masthead.img");
        make(&image("0.2.0"), b"a boot loader", &path).expect("made");
        let mut file = File::options().read(true).write(true).open(&path);
        let file = file.as_mut().expect("there");
        let metadata = file.metadata().expect("there");
        assert_eq!(metadata.len(), 1028 << 20);
        assert!(metadata.blocks() * 512 < 4 << 20, "{}", metadata.blocks());
        let contents = inspect(file);
        let Contents::Image(table, rest) = &contents else {
            panic!("{contents:?}")
        };
        assert!(rest.is_empty(), "{rest:?}");
        let system = table.partition(Role::Esp).expect("there");
        let mut system = Partition::open(Part::of(file, table, system)).expect("FAT32");
        let entry = installed(&mut system).expect("read").expect("installed");
        assert_eq!((entry.generation, entry.tries), (1, None), "it is good");
        let there = system.read(entry.slot.path()).expect("read");
        assert!(there == Some(image("0.2.0")));
    }

    #[test]
    fn others_find_no_fault_in_its_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("masthead.img");
        make(&image("0.2.0"), b"a boot loader", &path).expect("made");
        let mut file = File::open(&path).expect("there");
        let table = gptman::GPT::find_from(&mut file).expect("a table");
        assert_eq!(table.header.backup_lba, (1028 << 20) / 512 - 1);
        let guids: Vec<_> = table
            .iter()
            .filter(|(_, entry)| entry.is_used())
            .map(|(_, entry)| entry.unique_partition_guid)
            .collect();
        assert_eq!(guids.len(), 3);
        assert!(guids.iter().all(|guid| guid[7] >> 4 == 8), "{guids:?}");
        assert!(guids[0] != guids[1] && guids[1] != guids[2]);
    }

    #[test]
    fn the_same_image_gives_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["one.img", "other.img"] {
            make(&image("0.2.0"), b"a boot loader", &path(name)).expect("made");
        }
        let compared = Command::new("cmp")
            .args([path("one.img"), path("other.img")])
            .status();
        assert!(compared.expect("cmp is installed").success());
    }

    #[test]
    fn of_a_damaged_image_no_disk_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("masthead.img");
        let mut damaged = image("0.2.0");
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        make(&damaged, b"a boot loader", &path).expect_err("damaged");
        let left = fs::read_dir(folder.path()).expect("listed").count();
        assert_eq!(left, 0);
    }
}
