//! Writing so that a power cut leaves the old or the new, and reading what may be absent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that could not be read or written.
#[derive(Debug, Error)]
#[error("{action} {}", path.display())]
pub struct StorageError {
    /// What was attempted.
    action: &'static str,
    /// On what.
    path: PathBuf,
    /// Why it failed.
    source: io::Error,
}

impl StorageError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Adds what was attempted on which path.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    move |source| StorageError::new(action, path, source)
}

/// The steps of which every change of STATE and ETCD is made. Each is durable when it returns, so that a sequence of
/// them can be cut between any two; the tests cut it there, and within.
pub(crate) trait Storage {
    /// Makes a directory for root alone; it may exist.
    fn make_directory(&self, path: &Path) -> Result<(), StorageError>;
    /// Writes a file for root alone that does not exist under that name yet, or is a rest of an earlier try.
    fn write_new(&self, path: &Path, contents: &[u8]) -> Result<(), StorageError>;
    /// Gives a file or directory its name, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError>;

    /// Writes a file, replacing one of that name at once.
    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), StorageError> {
        let temporary = path.with_extension("new");
        self.write_new(&temporary, contents)?;
        self.rename(&temporary, path)
    }
}

/// The file systems of the node.
pub(crate) struct Durable;

impl Storage for Durable {
    fn make_directory(&self, path: &Path) -> Result<(), StorageError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_parent(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed("make the directory", path)(error)),
        }
    }

    fn write_new(&self, path: &Path, contents: &[u8]) -> Result<(), StorageError> {
        // A rest of an earlier try goes: a dead supervisor may still have a write to that file under way, which a
        // stalled disk carries out one day.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", path)(error));
            }
            _ => {}
        }
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| {
                file.write_all(contents)?;
                file.sync_all()
            });
        written.map_err(failed("write", path))?;
        sync_parent(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        fs::rename(from, to).map_err(failed("rename to", to))?;
        sync_parent(to)?;
        // The other directory, where it is another.
        if from.parent() == to.parent() {
            Ok(())
        } else {
            sync_parent(from)
        }
    }
}

/// Makes a change of names in the directory of `path` durable.
fn sync_parent(path: &Path) -> Result<(), StorageError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", parent))
}

/// Reads a file that may be absent.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}
