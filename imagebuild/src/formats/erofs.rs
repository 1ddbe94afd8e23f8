//! The superblock of an EROFS image (fs/erofs/erofs_fs.h of the kernel).

/// The superblock is within so many bytes.
pub const HEAD: u64 = 4096;

const OFFSET: usize = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;

/// What the superblock says.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct Superblock {
    /// Bytes per block.
    pub block_size: u64,
    /// Blocks in the image.
    pub blocks: u32,
    /// Number of inodes.
    pub inodes: u64,
    /// When it was built (Unix seconds); also the time of all its files.
    pub build_time: u64,
    /// UUID of the file system.
    pub uuid: String,
}

/// Reads it; `None` when the bytes are no EROFS image.
pub fn superblock(image: &[u8]) -> Option<Superblock> {
    let block = image.get(OFFSET..OFFSET + 128)?;
    let four = |at: usize| Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
    let eight = |at: usize| Some(u64::from_le_bytes(block.get(at..at + 8)?.try_into().ok()?));
    if four(0)? != MAGIC {
        return None;
    }
    Some(Superblock {
        block_size: 1_u64.checked_shl(u32::from(block[12]))?,
        blocks: four(36)?,
        inodes: eight(16)?,
        build_time: eight(24)?,
        uuid: super::uuid(block.get(48..64)?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_magic_makes_an_image() {
        let mut image = vec![0; 4096];
        assert_eq!(superblock(&image), None);
        image[1024..1028].copy_from_slice(&MAGIC.to_le_bytes());
        image[1036] = 12;
        image[1048..1056].copy_from_slice(&1_700_000_000_u64.to_le_bytes());
        let superblock = superblock(&image).expect("an image");
        assert_eq!(superblock.block_size, 4096);
        assert_eq!(superblock.build_time, 1_700_000_000);
        assert_eq!(superblock.uuid.len(), 36);
    }
}
