//! Which partitions a disk gets, and how large each is.

use thiserror::Error;

use crate::table::{Partition, Table};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a partition is for. The order is the order on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Where GRUB's core image goes on machines without UEFI.
    BiosBoot,
    /// EFI system partition: slot A, slot B and recovery.
    Esp,
    /// Raw, two checksummed generations: which slot is good, and why the last one was not.
    Meta,
    /// Seed, identity, keys.
    State,
    /// etcd's data, alone: no flood of logs fills it or shares its journal.
    Etcd,
    /// Audit log, service logs, snapshots.
    Data,
}

impl Role {
    /// Every role, in the order on the disk.
    pub const ALL: [Role; 6] = [
        Role::BiosBoot,
        Role::Esp,
        Role::Meta,
        Role::State,
        Role::Etcd,
        Role::Data,
    ];

    /// The GPT partition type, in the byte order it has on the disk (UEFI specification, table 5.6).
    /// BIOS boot and ESP are the well-known ones; the rest are ours alone, so that no other system
    /// takes them for its own.
    pub const fn type_guid(self) -> [u8; 16] {
        match self {
            Role::BiosBoot => *b"Hah!IdontNeedEFI",
            Role::Esp => [
                0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e,
                0xc9, 0x3b,
            ],
            Role::Meta => ours(b'M'),
            Role::State => ours(b'S'),
            Role::Etcd => ours(b'E'),
            Role::Data => ours(b'D'),
        }
    }

    /// The name in the partition table, also the file system's label (16 bytes at most for ext4).
    pub const fn label(self) -> &'static str {
        match self {
            Role::BiosBoot => "masthead-bios",
            Role::Esp => "masthead-esp",
            Role::Meta => "masthead-meta",
            Role::State => "masthead-state",
            Role::Etcd => "masthead-etcd",
            Role::Data => "masthead-data",
        }
    }

    /// Whether the node makes an ext4 file system on it.
    pub const fn has_file_system(self) -> bool {
        matches!(self, Role::State | Role::Etcd | Role::Data)
    }

    /// The role that a partition type stands for, if it is one of ours.
    pub fn from_type_guid(guid: [u8; 16]) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.type_guid() == guid)
    }
}

/// A GUID of version 8 (RFC 9562: custom) that ends in a letter naming the role.
const fn ours(letter: u8) -> [u8; 16] {
    [
        b'm', b'a', b's', b't', b'h', b'e', b'a', 0x8d, 0x8d, b'h', b'e', b'a', b'd', b'-', b'0',
        letter,
    ]
}

/// What a disk is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Everything.
    Everything,
    /// Everything but ETCD, which has a disk of its own.
    EverythingButEtcd,
    /// ETCD alone.
    EtcdAlone,
    /// What a machine starts from, as a disk image has it. The node that it starts makes the rest: see [`complete`].
    Image,
}

impl Holds {
    /// The roles on such a disk.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| match self {
            Holds::Everything => true,
            Holds::EverythingButEtcd => *role != Role::Etcd,
            Holds::EtcdAlone => *role == Role::Etcd,
            Holds::Image => !role.has_file_system(),
        })
    }
}

/// Why a disk cannot be laid out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// Sizes in bytes.
    #[error(
        "the disk has {has} MiB and needs {needs} MiB or more; choose a larger disk in the seed",
        has = has / MIB,
        needs = needs / MIB
    )]
    TooSmall {
        /// Size of the disk, bytes.
        has: u64,
        /// Smallest size that would do, bytes.
        needs: u64,
    },
    /// An image's disk was laid out in another way.
    #[error(
        "the image on the disk was made by another release, which has its partition {label} elsewhere; write the image of this release to the disk"
    )]
    Other {
        /// The first partition that is elsewhere, or missing.
        label: &'static str,
    },
}

/// Smallest disk that can hold it, bytes.
pub fn smallest(holds: Holds) -> u64 {
    // 1 MiB before the first partition and 1 MiB for the backup table after the last.
    2 * MIB + holds.roles().map(fixed_or_smallest).sum::<u64>()
}

fn fixed_or_smallest(role: Role) -> u64 {
    match role {
        Role::BiosBoot | Role::Meta => MIB,
        // Three images of up to 250 MiB and room for a partial one.
        Role::Esp | Role::Etcd | Role::Data => GIB,
        Role::State => 256 * MIB,
    }
}

/// ETCD takes 40 % of what is left after the fixed partitions, and no more than this: etcd's quota of
/// 8 GiB, a defragmentation's second copy, the write-ahead log and snapshots in transit.
const LARGEST_ETCD: u64 = 24 * GIB;

/// Lays out a disk of `disk_bytes`, marked as in preparation (see [`Table`]). `random_guid` is asked
/// for the disk's GUID and then for one a partition.
pub fn plan(
    disk_bytes: u64,
    sector_bytes: u64,
    holds: Holds,
    mut random_guid: impl FnMut() -> [u8; 16],
) -> Result<Table, LayoutError> {
    let needs = smallest(holds);
    if disk_bytes < needs {
        return Err(LayoutError::TooSmall {
            has: disk_bytes,
            needs,
        });
    }
    let disk_guid = random_guid();
    let spare = disk_bytes - needs;
    let etcd = match holds {
        Holds::Everything => (GIB + spare * 2 / 5).min(LARGEST_ETCD),
        Holds::EverythingButEtcd | Holds::Image => 0,
        Holds::EtcdAlone => GIB + spare,
    };
    let mut partitions = Vec::new();
    let mut start = MIB;
    for role in holds.roles() {
        let bytes = match role {
            Role::Etcd => etcd,
            // The last one takes the rest.
            Role::Data => disk_bytes - MIB - start,
            fixed => fixed_or_smallest(fixed),
        } / MIB
            * MIB;
        partitions.push(Partition {
            role,
            guid: random_guid(),
            first_sector: start / sector_bytes,
            last_sector: (start + bytes) / sector_bytes - 1,
        });
        start += bytes;
    }
    Ok(Table {
        sector_bytes,
        disk_guid,
        partitions,
        prepared: false,
        keeps_image: false,
    })
}

/// Lays out a disk to which an image was written: the partitions that it has stay where and as they are, and the others follow, in preparation.
pub fn complete(
    there: &Table,
    disk_bytes: u64,
    holds: Holds,
    random_guid: impl FnMut() -> [u8; 16],
) -> Result<Table, LayoutError> {
    let mut table = plan(disk_bytes, there.sector_bytes, holds, random_guid)?;
    for planned in &mut table.partitions {
        if planned.role.has_file_system() {
            continue;
        }
        let place = |partition: &Partition| (partition.first_sector, partition.last_sector);
        planned.guid = there
            .partition(planned.role)
            .filter(|kept| place(kept) == place(planned))
            .map(|kept| kept.guid)
            .ok_or(LayoutError::Other {
                label: planned.role.label(),
            })?;
    }
    table.keeps_image = true;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counter() -> impl FnMut() -> [u8; 16] {
        let mut next = 0_u8;
        move || {
            next += 1;
            [next; 16]
        }
    }

    #[test]
    fn a_disk_one_byte_too_small_is_refused_and_the_next_size_taken() {
        for holds in [
            Holds::Everything,
            Holds::EverythingButEtcd,
            Holds::EtcdAlone,
        ] {
            let needs = smallest(holds);
            let error = plan(needs - 1, 512, holds, counter()).expect_err("too small");
            assert_eq!(
                error,
                LayoutError::TooSmall {
                    has: needs - 1,
                    needs
                }
            );
            plan(needs, 512, holds, counter()).expect("just large enough");
        }
    }

    #[test]
    fn etcd_is_bounded_and_data_takes_the_rest() {
        let table = plan(1000 * GIB, 512, Holds::Everything, counter()).expect("large");
        let bytes = |role| table.partition(role).expect("there").bytes(512);
        assert_eq!(bytes(Role::Etcd), LARGEST_ETCD);
        assert!(bytes(Role::Data) > 970 * GIB);
        assert_eq!(bytes(Role::Esp), GIB);
        assert_eq!(bytes(Role::BiosBoot), MIB);
        assert_eq!(bytes(Role::Meta), MIB);
        assert_eq!(bytes(Role::State), 256 * MIB);
    }

    #[test]
    fn a_small_disk_shares_its_rest_two_to_three() {
        let table = plan(
            smallest(Holds::Everything) + 10 * GIB,
            512,
            Holds::Everything,
            counter(),
        )
        .expect("fits");
        let bytes = |role| table.partition(role).expect("there").bytes(512);
        assert_eq!(bytes(Role::Etcd), 5 * GIB);
        assert_eq!(bytes(Role::Data), 7 * GIB);
    }

    #[test]
    fn what_an_image_has_stays_where_it_is_and_the_rest_follows() {
        let bytes = smallest(Holds::Image);
        let image = plan(bytes, 512, Holds::Image, counter()).expect("fits");
        for holds in [Holds::Everything, Holds::EverythingButEtcd] {
            let mut next = 100;
            let random = || {
                next += 1;
                [next; 16]
            };
            let table = complete(&image, 20 * GIB, holds, random).expect("fits");
            let roles: Vec<_> = table.partitions.iter().map(|part| part.role).collect();
            assert_eq!(roles, holds.roles().collect::<Vec<_>>());
            assert_eq!(table.partitions[..3], image.partitions);
            assert_ne!(table.disk_guid, image.disk_guid);
            assert!(table.keeps_image && !table.prepared);
        }
    }

    #[test]
    fn an_image_that_was_laid_out_in_another_way_is_refused() {
        let mut image = plan(smallest(Holds::Image), 512, Holds::Image, counter()).expect("fits");
        let needs = smallest(Holds::Everything);
        let small = complete(&image, needs - 1, Holds::Everything, counter());
        assert!(matches!(small, Err(LayoutError::TooSmall { .. })));
        image.partitions[1].last_sector -= 1;
        let other = complete(&image, needs, Holds::Everything, counter());
        let label = Role::Esp.label();
        assert_eq!(other, Err(LayoutError::Other { label }));
    }

    #[test]
    fn types_and_labels_tell_roles_apart_and_fit_ext4() {
        for role in Role::ALL {
            assert_eq!(Role::from_type_guid(role.type_guid()), Some(role));
            assert!(role.label().len() <= 16);
        }
        assert_eq!(Role::from_type_guid([7; 16]), None);
    }

    proptest! {
        #[test]
        fn partitions_follow_each_other_aligned_and_inside(
            spare in 0_u64..(4 << 40), large_sectors: bool, which in 0_usize..3,
        ) {
            let holds = [Holds::Everything, Holds::EverythingButEtcd, Holds::EtcdAlone][which];
            let sector = if large_sectors { 4096 } else { 512 };
            let disk = (smallest(holds) + spare) / sector * sector;
            let table = plan(disk.max(smallest(holds)), sector, holds, counter()).expect("fits");
            let mut next = MIB;
            for partition in &table.partitions {
                prop_assert_eq!(partition.first_sector * sector, next);
                prop_assert_eq!(partition.bytes(sector) % MIB, 0);
                prop_assert!(partition.bytes(sector) >= fixed_or_smallest(partition.role));
                next += partition.bytes(sector);
            }
            prop_assert!(next + MIB <= disk.max(smallest(holds)));
            prop_assert_eq!(table.partitions.len(), holds.roles().count());
        }
    }
}
