//! An image whose machines are bare nodes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use masthead_imagebuild::{
    formats::cpio::{Kind, Writer},
    steps::root::packer,
};

use super::{CONFIGURATION, PROGRAMS, below, copy};
use crate::{
    error::{Attempt, Result},
    tools::run,
};

/// Makes it in `folder` of an `image` and of what [`super::capture`] wrote to `changes` for a node whose user 0 was
/// `first_user`. The root is packed as the image's own is.
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
    run(packer().arg(&root).arg(&tree))?;
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
    let mut archive = Writer::new(Vec::new(), 0);
    archive.add(name, Kind::File, 0o644, &fs::read(file)?)?;
    let archive = archive.finish()?;
    let mut initrd = OpenOptions::new().append(true).open(initrd)?;
    // Each archive begins at a multiple of four.
    let before = initrd.metadata()?.len();
    let missing = usize::try_from(before.next_multiple_of(4) - before).unwrap_or_default();
    initrd.write_all(&[0; 4][..missing])?;
    initrd.write_all(&archive)
}
