//! The label of a FAT or ISO 9660 file system, from the bytes of its device: there is no udev to ask.
//!
//! FAT: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03. ISO 9660: ECMA-119, section 8.4.

use std::io::{self, Read, Seek, SeekFrom};

/// A file system that can carry a seed, by the kernel's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// FAT12, FAT16 or FAT32.
    Vfat,
    /// ISO 9660.
    Iso9660,
    /// ext4, as STATE is. Its journal is not replayed: that would write.
    Ext4,
}

impl Filesystem {
    /// As `mount(2)` wants it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vfat => "vfat",
            Self::Iso9660 => "iso9660",
            Self::Ext4 => "ext4",
        }
    }

    /// Options that keep a read-only mount from writing, beside `ro`.
    pub(crate) const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Vfat | Self::Iso9660 => &[],
            Self::Ext4 => &["noload"],
        }
    }
}

/// A labelled file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its kind.
    pub filesystem: Filesystem,
    /// Its label, without the blanks that fill it up.
    pub text: String,
}

/// The label of what is on a device; none if it is neither of the two file systems, or has no label.
pub fn read_label<D: Read + Seek>(device: &mut D) -> io::Result<Option<Label>> {
    if let Some(text) = iso9660(device)? {
        return Ok(Some(Label {
            filesystem: Filesystem::Iso9660,
            text,
        }));
    }
    Ok(fat(device)?.map(|text| Label {
        filesystem: Filesystem::Vfat,
        text,
    }))
}

/// Up to `N` bytes from an offset; none where the device is shorter.
fn read_at<D: Read + Seek, const N: usize>(
    device: &mut D,
    offset: u64,
) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    device.seek(SeekFrom::Start(offset))?;
    match device.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn trimmed(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches([' ', '\0']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// The volume identifier of the primary volume descriptor, in the sector after the system area.
fn iso9660<D: Read + Seek>(device: &mut D) -> io::Result<Option<String>> {
    const PRIMARY_DESCRIPTOR: u64 = 16 * 2048;
    let Some(descriptor) = read_at::<_, 72>(device, PRIMARY_DESCRIPTOR)? else {
        return Ok(None);
    };
    if descriptor[0] != 1 || &descriptor[1..6] != b"CD001" {
        return Ok(None);
    }
    Ok(trimmed(&descriptor[40..72]))
}

/// The entry of the root directory that is the label, or else the boot sector's copy of it: some tools write only the
/// one, some only the other.
fn fat<D: Read + Seek>(device: &mut D) -> io::Result<Option<String>> {
    let Some(sector) = read_at::<_, 512>(device, 0)? else {
        return Ok(None);
    };
    let word = |offset: usize| u64::from(u16::from_le_bytes([sector[offset], sector[offset + 1]]));
    let double = |offset: usize| word(offset) | word(offset + 2) << 16;
    let sector_size = word(11);
    let cluster_sectors = u64::from(sector[13]);
    let (reserved, tables, root_entries) = (word(14), u64::from(sector[16]), word(17));
    let plausible = sector[510..512] == [0x55, 0xaa]
        && matches!(sector_size, 512 | 1024 | 2048 | 4096)
        && cluster_sectors.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&tables);
    if !plausible {
        return Ok(None);
    }
    let is_fat32 = root_entries == 0 && word(22) == 0;
    let (signature, copy, kind) = if is_fat32 { (66, 71, 82) } else { (38, 43, 54) };
    if sector[signature] != 0x29 || &sector[kind..kind + 3] != b"FAT" {
        return Ok(None);
    }
    let (root, entries) = if is_fat32 {
        let data = reserved + tables * double(36);
        let first = data + double(44).saturating_sub(2) * cluster_sectors;
        (first * sector_size, cluster_sectors * sector_size / ENTRY)
    } else {
        ((reserved + tables * word(22)) * sector_size, root_entries)
    };
    if let Some(label) = directory_label(device, root, entries)? {
        return Ok(Some(label));
    }
    // What mkfs writes where nobody chose a label.
    Ok(trimmed(&sector[copy..copy + 11]).filter(|label| label != "NO NAME"))
}

/// Bytes of a directory entry.
const ENTRY: u64 = 32;

fn directory_label<D: Read + Seek>(
    device: &mut D,
    root: u64,
    entries: u64,
) -> io::Result<Option<String>> {
    const LABEL: u8 = 0x08;
    /// Parts of long names have it too, together with all other low bits.
    const LONG_NAME: u8 = 0x0f;
    for index in 0..entries {
        let Some(entry) = read_at::<_, 32>(device, root + index * ENTRY)? else {
            return Ok(None);
        };
        let (first, attributes) = (entry[0], entry[11]);
        match first {
            0 => return Ok(None),
            0xe5 => {}
            _ if attributes & LABEL != 0 && attributes & LONG_NAME != LONG_NAME => {
                return Ok(trimmed(&entry[..11]));
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The label of a device that holds these bytes at these offsets.
    fn label(size: usize, parts: &[(usize, &[u8])]) -> Option<Label> {
        let mut device = vec![0; size];
        for (offset, bytes) in parts {
            device[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        read_label(&mut Cursor::new(device)).expect("a vector can be read")
    }

    fn vfat(text: &str) -> Label {
        Label {
            filesystem: Filesystem::Vfat,
            text: text.to_owned(),
        }
    }

    /// Sector size 512, 4 sectors a cluster, 4 reserved, 2 tables, 512 root entries, 20 sectors a table.
    const FAT16: &[u8] = &[0x00, 2, 4, 4, 0, 2, 0x00, 2, 0, 0, 0xf8, 20, 0];
    /// The same without root entries; the size of a table is at 36, the root's cluster at 44.
    const FAT32: &[u8] = &[0x00, 2, 4, 32, 0, 2, 0, 0, 0, 0, 0xf8, 0, 0];
    const END: (usize, &[u8]) = (510, &[0x55, 0xaa]);

    #[test]
    fn fat16_has_its_label_in_the_boot_sector_or_in_the_root() {
        let boot = [
            (11, FAT16),
            (38, &[0x29_u8] as &[u8]),
            (43, b"CIDATA     FAT16   "),
            END,
        ];
        assert_eq!(label(65536, &boot), Some(vfat("CIDATA")));

        let root = (4 + 2 * 20) * 512;
        let mut renamed = boot.to_vec();
        renamed.push((root, b"\xe5LD LABEL  \x08"));
        renamed.push((root + 32, b"Am.a.s.t.h.\x0f"));
        renamed.push((root + 64, b"MASTHEAD   \x08"));
        assert_eq!(label(65536, &renamed), Some(vfat("MASTHEAD")));

        let unnamed = [
            (11, FAT16),
            (38, &[0x29_u8] as &[u8]),
            (43, b"NO NAME    FAT16   "),
            END,
        ];
        assert_eq!(label(65536, &unnamed), None);
    }

    #[test]
    fn fat32_has_its_root_in_a_cluster() {
        let parts: [(usize, &[u8]); 7] = [
            (11, FAT32),
            (36, &[10, 0, 0, 0]),
            (44, &[3, 0, 0, 0]),
            (66, &[0x29]),
            (71, b"NO NAME    FAT32   "),
            END,
            ((32 + 2 * 10 + 4) * 512, b"cidata     \x08"),
        ];
        assert_eq!(label(65536, &parts), Some(vfat("cidata")));
    }

    #[test]
    fn iso9660_has_it_in_the_primary_descriptor() {
        let mut descriptor = [b' '; 72];
        descriptor[..6].copy_from_slice(b"\x01CD001");
        descriptor[40..46].copy_from_slice(b"cidata");
        let expected = Label {
            filesystem: Filesystem::Iso9660,
            text: "cidata".to_owned(),
        };
        assert_eq!(label(65536, &[(32768, &descriptor)]), Some(expected));
        descriptor[0] = 2;
        assert_eq!(label(65536, &[(32768, &descriptor)]), None);
    }

    #[test]
    fn other_devices_have_none() {
        assert_eq!(label(0, &[]), None);
        assert_eq!(label(100, &[]), None);
        assert_eq!(label(65536, &[END]), None);
        // A boot sector of something else, and one whose root directory lies behind the end.
        assert_eq!(label(65536, &[(3, b"NTFS    "), END]), None);
        let beyond = [
            (11, FAT16),
            (38, &[0x29_u8] as &[u8]),
            (43, b"SHORT      FAT16   "),
            END,
        ];
        assert_eq!(label(512, &beyond), Some(vfat("SHORT")));
    }
}
