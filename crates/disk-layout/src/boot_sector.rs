//! The first sector of a disk: code for a BIOS, and the one partition that stands for a GPT (UEFI specification, 5.2.3).

/// Its bytes, as far as they matter; on a disk with larger sectors it is the beginning of one.
pub const BYTES: usize = 512;
/// Bytes of code at its beginning. Behind that are the signature of the disk, and the partitions.
pub const CODE: usize = 440;

/// `int 18h`, which has a BIOS go on to what it starts next, and for one that returns from that a halt. Without it the disk would be executed as it
/// is, byte for byte, and SeaBIOS hangs there: to a BIOS every disk with this sector's last two bytes is one that boots.
const GOES_ON: [u8; 5] = [0xcd, 0x18, 0xf4, 0xeb, 0xfd];

/// Whether the code of a disk's first sector starts anything: whether there is another one than what [`protective`] puts there.
pub fn starts_something(sector: &[u8; BYTES]) -> bool {
    let code = sector[..CODE]
        .strip_prefix(&GOES_ON)
        .unwrap_or(&sector[..CODE]);
    !code.iter().all(|byte| is_blank(*byte))
}

/// Erased flash reads as ones.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, 0 | 0xff)
}

/// The first sector of a disk with a GPT that has so many sectors; what starts something stays.
pub(crate) fn protective(before: &[u8; BYTES], sectors: u64) -> [u8; BYTES] {
    let mut sector = [0; BYTES];
    if starts_something(before) {
        sector[..CODE].copy_from_slice(&before[..CODE]);
    } else {
        sector[..GOES_ON.len()].copy_from_slice(&GOES_ON);
    }
    let behind = u32::try_from(sectors.saturating_sub(1)).unwrap_or(u32::MAX);
    // Where it begins and ends by heads and cylinders, around its type; and by sectors.
    sector[447..458].copy_from_slice(&[0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    sector[458..462].copy_from_slice(&behind.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Whether a GPT is all that its partitions stand for.
pub(crate) fn is_protective(sector: &[u8; BYTES]) -> bool {
    let partition_type = sector[450];
    partition_type == 0xee
        && sector[462..510].iter().all(|byte| *byte == 0)
        && sector[510..] == [0x55, 0xaa]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_sector_goes_on_and_keeps_what_starts_something() {
        let fresh = protective(&[0; BYTES], 1 << 21);
        assert!(!starts_something(&fresh) && is_protective(&fresh));
        assert_eq!(fresh[..2], [0xcd, 0x18]);
        // As gptman and sgdisk write it.
        assert_eq!(
            fresh[446..462],
            [
                0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff, 0x1f, 0
            ]
        );
        assert_eq!(protective(&[0xff; BYTES], 1 << 21), fresh, "erased flash");
        assert_eq!(protective(&fresh, 1 << 21), fresh);
        assert_eq!(protective(&fresh, u64::MAX)[458..462], [0xff; 4]);

        let mut grub = fresh;
        grub[..4].copy_from_slice(&[0xeb, 0x63, 0x90, 0x10]);
        assert!(starts_something(&grub));
        assert_eq!(protective(&grub, 1 << 21), grub);
    }
}
