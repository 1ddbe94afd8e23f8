//! Files with secrets: written whole or not at all, for their owner only.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::Failure;

/// Reads a file that must be its owner's only.
pub(crate) fn read_private(what: &str, path: &Path) -> Result<String, Failure> {
    let what = || format!("read {what} {}", path.display());
    let failed = |error: io::Error| Failure::new(what(), &error, "Check the path and its mode.");
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::refused(
            what(),
            format!(
                "its mode is {:04o}: others could read or change the keys in it",
                mode & 0o7777
            ),
            format!(
                "Run `chmod 600 {}`; if others had access, make new keys.",
                path.display()
            ),
        ));
    }
    fs::read_to_string(path).map_err(failed)
}

/// Writes a file with mode 0600: whole, synced and renamed into place. Makes its directory if there is none.
/// An existing file is replaced only when `replace` says so.
pub(crate) fn write_private(
    what: &str,
    path: &Path,
    contents: &[u8],
    replace: bool,
) -> Result<(), Failure> {
    let failed = |error: &io::Error| {
        let what = format!("write {what} {}", path.display());
        if error.kind() == io::ErrorKind::AlreadyExists {
            Failure::refused(
                what,
                "the file exists already",
                "Choose another file, or move this one away.",
            )
        } else {
            Failure::new(
                what,
                error,
                "Check the directory, its mode and the free space.",
            )
        }
    };
    commit(path, contents, replace).map_err(|error| failed(&error))
}

fn commit(path: &Path, contents: &[u8], replace: bool) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut file = NamedTempFile::new_in(directory)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    if replace {
        file.persist(path)?
    } else {
        file.persist_noclobber(path)?
    };
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;

    #[test]
    fn a_file_is_private_from_its_first_byte_and_replaced_only_on_purpose() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/deep/file");
        write_private("a key", &path, b"one", false).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let failure = write_private("a key", &path, b"two", false).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(read_private("a key", &path).unwrap(), "one");
        write_private("a key", &path, b"two", true).unwrap();
        assert_eq!(read_private("a key", &path).unwrap(), "two");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_private("a key", &path, b"one", false).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let failure = read_private("a key", &path).unwrap_err();
            assert_eq!(failure.exit, Exit::Refused);
            assert!(failure.next.contains("chmod 600"), "{failure:?}");
        }
    }
}
