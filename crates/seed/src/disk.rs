//! Which disk a master uses.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a master keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSelector {
    /// On the one disk that matches.
    Match(DiskMatch),
    /// In memory: gone with the power. For a single master only.
    Memory,
}

/// What a disk must be like. Every one that is given must hold; nothing given matches every disk.
/// Never a path: the kernel's names change from boot to boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskMatch {
    /// How it is attached.
    pub kind: Option<DiskKind>,
    /// The least size, in bytes.
    pub min_bytes: Option<u64>,
    /// Its serial number, exactly.
    pub serial: Option<String>,
}

/// How a disk is attached, by the kernel's driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskKind {
    /// NVMe (`nvme0n1`).
    Nvme,
    /// SCSI, SAS, SATA and USB (`sda`).
    Scsi,
    /// virtio-blk (`vda`).
    Virtio,
    /// eMMC and SD cards (`mmcblk0`).
    Mmc,
    /// Loop devices (`loop0`), for namespace nodes.
    Loop,
}

impl DiskKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nvme, Self::Scsi, Self::Virtio, Self::Mmc, Self::Loop];

    /// As the seed spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Scsi => "scsi",
            Self::Virtio => "virtio",
            Self::Mmc => "mmc",
            Self::Loop => "loop",
        }
    }
}

impl fmt::Display for DiskKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
