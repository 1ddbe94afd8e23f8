//! Magic numbers by which known contents of a disk are told.
//!
//! Offsets and values are those of libblkid (util-linux, `libblkid/src/superblocks`) and of each
//! format's own documentation.

/// One magic number.
pub(crate) struct Signature {
    /// What it is, for a message.
    pub(crate) name: &'static str,
    /// Where it is.
    pub(crate) at: At,
    /// The bytes.
    pub(crate) magic: &'static [u8],
}

/// A place on a disk, in bytes.
#[derive(Clone, Copy)]
pub(crate) enum At {
    Start(u64),
    End(u64),
}

const fn start(name: &'static str, offset: u64, magic: &'static [u8]) -> Signature {
    Signature {
        name,
        at: At::Start(offset),
        magic,
    }
}

const fn end(name: &'static str, distance: u64, magic: &'static [u8]) -> Signature {
    Signature {
        name,
        at: At::End(distance),
        magic,
    }
}

pub(crate) const SIGNATURES: &[Signature] = &[
    start("ext2, ext3 or ext4 file system", 1080, &[0x53, 0xef]),
    start("XFS file system", 0, b"XFSB"),
    start("Btrfs file system", 65_600, b"_BHRfS_M"),
    start("F2FS file system", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    start("EROFS file system", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    start("SquashFS file system", 0, b"hsqs"),
    start("NTFS file system", 3, b"NTFS    "),
    start("exFAT file system", 3, b"EXFAT   "),
    start("FAT file system", 54, b"FAT1"),
    start("FAT32 file system", 82, b"FAT32"),
    start("ISO 9660 file system", 32_769, b"CD001"),
    start("UDF file system", 32_769, b"BEA01"),
    start("JFS file system", 32_768, b"JFS1"),
    start("ReiserFS file system", 65_588, b"ReIsEr"),
    start("swap space", 4086, b"SWAPSPACE2"),
    start("LUKS encrypted volume", 0, b"LUKS\xba\xbe"),
    start("LVM physical volume", 24, b"LVM2 001"),
    start("LVM physical volume", 536, b"LVM2 001"),
    start("Linux RAID member", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    start("Linux RAID member", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    end("Linux RAID member", 8192, &[0xfc, 0x4e, 0x2b, 0xa9]),
    end("Linux RAID member", 65_536, &[0xfc, 0x4e, 0x2b, 0xa9]),
    start("Ceph BlueStore device", 0, b"bluestore block device"),
    start(
        "bcache device or bcachefs file system",
        4120,
        &[0xc6, 0x85, 0x73, 0xf6],
    ),
    start("ZFS member", 131_072, &[0x0c, 0xb1, 0xba, 0x00]),
    start("VMFS volume", 1_048_576, &[0x0d, 0xd0, 0x01, 0xc0]),
    start("GPT partition table", 512, b"EFI PART"),
    start("GPT partition table", 4096, b"EFI PART"),
    end("GPT partition table", 512, b"EFI PART"),
    end("GPT partition table", 4096, b"EFI PART"),
    // Last: a boot sector ends so, but so do the sectors of several formats above.
    start("MBR partition table or boot sector", 510, &[0x55, 0xaa]),
];
