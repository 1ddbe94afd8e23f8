//! An image whose machines are bare nodes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use super::{CONFIGURATION, PROGRAMS, below, copy};
use crate::{
    error::{Attempt, Result},
    tools::run,
};

/// Makes it in `folder` of an `image` and of what [`super::capture`] wrote to `changes` for a node whose user 0 was
/// `first_user`. The root is packed as the image's own is (imagebuild, step `root`).
pub fn make(image: &Path, changes: &Path, first_user: u32, folder: &Path) -> Result<()> {
    let tree = folder.join("tree");
    let root = folder.join("root.erofs");
    run(Command::new("fsck.erofs")
        .arg(format!("--extract={}", tree.display()))
        .arg(image.join("root.erofs")))?;
    copy(
        &below(changes, CONFIGURATION),
        &below(&tree, CONFIGURATION),
        first_user,
    )
    .attempt(|| format!("copy {CONFIGURATION} into {}", tree.display()))?;
    for file in [PROGRAMS, "/init"] {
        let (from, to) = (below(changes, file), below(&tree, file));
        fs::copy(&from, &to).attempt(|| format!("copy {}", from.display()))?;
    }
    let init = tree.join("init");
    // Nobody debugs it there, and machines have little memory.
    run(Command::new("strip").arg(&init))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))
        .attempt(|| format!("make {} executable", init.display()))?;
    run(Command::new("mkfs.erofs")
        .args(["-zlz4hc,12", "-C65536", "-x-1", "--quiet"])
        .arg(&root)
        .arg(&tree))?;
    fs::remove_dir_all(&tree).attempt(|| format!("remove {}", tree.display()))?;
    for file in ["vmlinuz", "cmdline"] {
        fs::copy(image.join(file), folder.join(file)).attempt(|| format!("copy {file}"))?;
    }
    let initrd = folder.join("initrd");
    fs::copy(image.join("initrd"), &initrd)
        .and_then(|_| append(&initrd, "root.erofs", &root))
        .attempt(|| format!("write {}", initrd.display()))?;
    fs::remove_file(&root).attempt(|| format!("remove {}", root.display()))
}

/// Appends an archive with one file to an initrd. The kernel unpacks all archives one after the other, and what comes
/// later replaces what came before (Documentation/driver-api/early-userspace/buffer-format.rst).
fn append(initrd: &Path, name: &str, file: &Path) -> io::Result<()> {
    let mut content = File::open(file)?;
    let size = content.metadata()?.len();
    let mut initrd = OpenOptions::new().append(true).open(initrd)?;
    let before = initrd.metadata()?.len();
    pad(&mut initrd, before)?;
    initrd.write_all(&entry(name, 0o100_644, size))?;
    io::copy(&mut content, &mut initrd)?;
    pad(&mut initrd, size)?;
    initrd.write_all(&entry("TRAILER!!!", 0, 0))
}

/// The header of a file in a "newc" archive, with its name.
fn entry(name: &str, mode: u32, size: u64) -> Vec<u8> {
    // Inode, mode, user, group, links, time, size, four device numbers, length of the name, no checksum.
    let fields = [
        1,
        mode.into(),
        0,
        0,
        1,
        0,
        size,
        0,
        0,
        0,
        0,
        name.len() as u64 + 1,
        0,
    ];
    let mut header = b"070701".to_vec();
    for field in fields {
        header.extend(format!("{field:08x}").bytes());
    }
    header.extend(name.bytes());
    header.push(0);
    header.resize(header.len().next_multiple_of(4), 0);
    header
}

/// Everything in an archive begins at a multiple of four.
fn pad(output: &mut impl Write, written: u64) -> io::Result<()> {
    let missing = written.next_multiple_of(4) - written;
    output.write_all(&[0; 4][..usize::try_from(missing).unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_the_kernel_reads() {
        let header = entry("root.erofs", 0o100_644, 0x1234);
        assert_eq!(header.len() % 4, 0);
        assert_eq!(&header[..6], b"070701");
        assert_eq!(&header[14..22], b"000081a4");
        assert_eq!(&header[54..62], b"00001234");
        assert_eq!(&header[94..102], b"0000000b");
        assert_eq!(&header[110..121], b"root.erofs\0");
    }
}
