//! Small helpers around files: ordered walks, atomic writes, copies with fixed permissions.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Everything below `root` (and, as an empty path, `root` itself), relative to it, in the order
/// of names; links are not followed.
pub fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    if fs::symlink_metadata(root)
        .with_context(|| format!("looking at {}", root.display()))?
        .is_dir()
    {
        descend(root, Path::new(""), &mut found)?;
    }
    Ok(found)
}

fn descend(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    let listing = || format!("listing {}", folder.display());
    let mut entries = fs::read_dir(&folder)
        .with_context(listing)?
        .collect::<Result<Vec<_>, _>>()
        .with_context(listing)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let relative = below.join(entry.file_name());
        found.push(relative.clone());
        if entry.file_type().with_context(listing)?.is_dir() {
            descend(root, &relative, found)?;
        }
    }
    Ok(())
}

/// Replaces `path` by a file with these bytes, or leaves it as it is.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let writing = || format!("writing {}", path.display());
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(writing)?;
    file.write_all(bytes).with_context(writing)?;
    file.as_file().sync_all().with_context(writing)?;
    file.persist(path).with_context(writing)?;
    Ok(())
}

/// Creates a folder and its parents below `root`, each with mode 0755 whatever the umask.
pub fn folder(root: &Path, path: &str) -> Result<PathBuf> {
    let mut folder = root.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        folder.push(part);
        if !folder.is_dir() {
            fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
            set_mode(&folder, 0o755)?;
        }
    }
    Ok(folder)
}

/// Writes a file below `root` at an absolute path of the image, with its folders.
pub fn put(root: &Path, target: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let path = place(root, target)?;
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    set_mode(&path, mode)
}

/// Copies a file below `root` to an absolute path of the image, with its folders.
pub fn copy(source: &Path, root: &Path, target: &str, mode: u32) -> Result<()> {
    let path = place(root, target)?;
    fs::copy(source, &path)
        .with_context(|| format!("copying {} to {}", source.display(), path.display()))?;
    set_mode(&path, mode)
}

/// Makes a symbolic link below `root` at an absolute path of the image, with its folders.
pub fn link(destination: &str, root: &Path, target: &str) -> Result<()> {
    let path = place(root, target)?;
    symlink(destination, &path).with_context(|| format!("linking {}", path.display()))
}

fn place(root: &Path, target: &str) -> Result<PathBuf> {
    let (parent, name) = target.rsplit_once('/').unwrap_or(("", target));
    Ok(folder(root, parent)?.join(name))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_in_the_order_of_names_and_does_not_follow_links() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let root = folder.path();
        put(root, "/b/two", 0o644, b"").expect("writing");
        put(root, "/b/one", 0o644, b"").expect("writing");
        link("b", root, "/a").expect("linking");
        let names: Vec<_> = walk(root)
            .expect("walking")
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(names, ["", "a", "b", "b/one", "b/two"]);
    }

    #[test]
    fn modes_do_not_depend_on_the_umask() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        put(folder.path(), "/etc/passwd", 0o644, b"").expect("writing");
        let mode = |path: &str| {
            fs::metadata(folder.path().join(path))
                .expect("looking")
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!((mode("etc"), mode("etc/passwd")), (0o755, 0o644));
    }
}
