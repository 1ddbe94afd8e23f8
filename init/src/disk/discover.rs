//! Which disks this machine has. There is no udev: sysfs says what the kernel found.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use masthead_disk_layout::{Candidate, inspect};

/// Where the kernel shows disks and their device nodes; other folders in tests.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            sys: PathBuf::from("/sys"),
            dev: PathBuf::from("/dev"),
        }
    }
}

impl Roots {
    /// The folder of a block device in sysfs.
    pub fn block(&self, name: &str) -> PathBuf {
        self.sys.join("class/block").join(name)
    }
}

/// Every whole disk that a node could live on, by name, with what it holds. Reads the disks, so it
/// may block for as long as a failing disk takes.
pub fn disks(roots: &Roots) -> Vec<Candidate> {
    let Ok(entries) = fs::read_dir(roots.sys.join("class/block")) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
        .into_iter()
        .filter_map(|name| candidate(roots, name))
        .collect()
}

fn candidate(roots: &Roots, name: String) -> Option<Candidate> {
    let folder = roots.block(&name);
    let kind = kind(&name)?;
    // A partition is no disk; what has no device behind it is a loop, a RAM disk or a mapping.
    if folder.join("partition").exists() || !folder.join("device").exists() {
        return None;
    }
    let sectors: u64 = number(&folder.join("size"))?;
    if sectors == 0 {
        return None; // a card reader without a card
    }
    let contents = match File::open(roots.dev.join(&name)) {
        Ok(mut device) => inspect(&mut device),
        Err(error) => masthead_disk_layout::Contents::Unknown {
            why: error.to_string(),
        },
    };
    Some(Candidate {
        kind: kind.to_owned(),
        // The unit of sysfs, whatever the disk's own sectors are: Documentation/ABI/stable/sysfs-block.
        bytes: sectors * 512,
        serial: serial(&folder),
        read_only: number(&folder.join("ro")) == Some(1),
        contents,
        name,
    })
}

/// The seed's word for a kind of disk, by the driver's naming; none for what is no disk to live on.
fn kind(name: &str) -> Option<&'static str> {
    let known = [
        ("nvme", "nvme"),
        ("vd", "virtio"),
        ("sd", "scsi"),
        ("mmcblk", "mmc"),
        ("xvd", "xen"),
    ];
    let (_, kind) = known
        .into_iter()
        .find(|(prefix, _)| name.starts_with(prefix))?;
    // Boot areas and replay-protected memory of eMMC are disks by name only.
    (!name.contains("boot") && !name.contains("rpmb")).then_some(kind)
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The serial number, where the driver shows it: virtio beside the disk, NVMe and MMC below the
/// device, SCSI in vital product data page 0x80 (SPC-4, 7.8.16: four bytes of header).
fn serial(folder: &Path) -> Option<String> {
    let text = ["serial", "device/serial"]
        .into_iter()
        .find_map(|file| fs::read_to_string(folder.join(file)).ok());
    let serial = if let Some(text) = text {
        text
    } else {
        let page = fs::read(folder.join("device/vpd_pg80")).ok()?;
        String::from_utf8_lossy(page.get(4..)?).into_owned()
    };
    let serial = serial.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0');
    (!serial.is_empty()).then(|| serial.to_owned())
}

#[cfg(test)]
mod tests {
    use masthead_disk_layout::Contents;

    use super::*;

    fn disk(roots: &Roots, name: &str, bytes: usize) -> PathBuf {
        let folder = roots.block(name);
        fs::create_dir_all(folder.join("device")).expect("made");
        fs::create_dir_all(&roots.dev).expect("made");
        fs::write(folder.join("size"), format!("{}\n", bytes / 512)).expect("written");
        fs::write(folder.join("ro"), "0\n").expect("written");
        fs::write(roots.dev.join(name), vec![0; bytes]).expect("written");
        folder
    }

    fn roots(folder: &Path) -> Roots {
        Roots {
            sys: folder.join("sys"),
            dev: folder.join("dev"),
        }
    }

    #[test]
    fn whole_disks_are_found_with_serial_and_contents() {
        let folder = tempfile::tempdir().expect("made");
        let roots = roots(folder.path());
        fs::write(disk(&roots, "vda", 4096).join("serial"), "V-1\n").expect("written");
        fs::write(
            disk(&roots, "nvme0n1", 4096).join("device/serial"),
            "S4EV123   \n",
        )
        .expect("written");
        fs::write(
            disk(&roots, "sda", 4096).join("device/vpd_pg80"),
            b"\0\x80\0\x05 WD-7\0",
        )
        .expect("written");
        fs::write(roots.dev.join("sda"), vec![1; 4096]).expect("written");
        fs::write(disk(&roots, "sdb", 4096).join("ro"), "1\n").expect("written");
        fs::remove_file(roots.dev.join("sdb")).expect("removed");
        let found = disks(&roots);
        let told: Vec<_> = found
            .iter()
            .map(|disk| {
                (
                    disk.name.as_str(),
                    disk.kind.as_str(),
                    disk.serial.as_deref(),
                    disk.read_only,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("nvme0n1", "nvme", Some("S4EV123"), false),
                ("sda", "scsi", Some("WD-7"), false),
                ("sdb", "scsi", None, true),
                ("vda", "virtio", Some("V-1"), false),
            ]
        );
        assert_eq!(found[0].contents, Contents::Blank);
        assert!(matches!(found[1].contents, Contents::Foreign(_)));
        assert!(matches!(found[2].contents, Contents::Unknown { .. }));
    }

    #[test]
    fn partitions_readers_without_a_card_and_mappings_are_no_disks() {
        let folder = tempfile::tempdir().expect("made");
        let roots = roots(folder.path());
        fs::write(disk(&roots, "vda1", 4096).join("partition"), "1\n").expect("written");
        disk(&roots, "sdc", 0);
        disk(&roots, "mmcblk0boot0", 4096);
        disk(&roots, "sr0", 4096);
        fs::remove_dir(disk(&roots, "vdb", 4096).join("device")).expect("removed");
        assert_eq!(disks(&roots), []);
    }
}
