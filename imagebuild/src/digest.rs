//! SHA-256 of files and trees, with a memory of what was hashed before.
//!
//! The image is made of large files that rarely change: a second run must only look at their
//! metadata. [`Memory`] keeps, for every file it hashed, the metadata that no ordinary change leaves
//! alone (size, modification and change time in nanoseconds, device and inode).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::formats::{hex, uuid};

/// A SHA-256, printed and stored as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text is no SHA-256.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotADigest {
    /// It is too short or too long.
    #[error("a SHA-256 has 64 hexadecimal digits, and this has {0} characters")]
    Length(usize),
    /// It is as long as one, but not hexadecimal.
    #[error("a SHA-256 has only the digits 0 to 9 and a to f")]
    Digits,
}

impl Digest {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of a stream, read to its end.
    pub fn of_reader(mut reader: impl io::Read) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        io::copy(&mut reader, &mut hasher)?;
        Ok(Self(hasher.finalize().into()))
    }

    /// Of a file's content, whatever its name.
    pub fn of_file(path: &Path) -> Result<Self> {
        fs::File::open(path)
            .and_then(Self::of_reader)
            .with_context(|| format!("hashing {}", path.display()))
    }

    /// A UUID (version 8: custom) made of the first 16 bytes, for a file system that must have one
    /// and must not have a random one.
    pub fn uuid(&self) -> String {
        uuid(self.version_8())
    }

    /// The same UUID as a partition table has it: the first three fields are little endian.
    pub fn guid(&self) -> [u8; 16] {
        let mut bytes = self.version_8();
        for field in [0..4, 4..6, 6..8] {
            bytes[field].reverse();
        }
        bytes
    }

    fn version_8(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        bytes
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let length = text.chars().count();
        if length != 64 {
            return Err(NotADigest::Length(length));
        }
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotADigest::Digits);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[index * 2..index * 2 + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotADigest::Digits)?;
        }
        Ok(Self(bytes))
    }
}

/// What a step's result depends on, each part with a name, so that two parts never run together.
#[derive(Default, Clone)]
pub struct Inputs(Sha256);

impl Inputs {
    /// Starts with the step's name and the number of its recipe: raise it when the code that
    /// carries out the step changes what comes out.
    pub fn of_step(name: &str, recipe: u32) -> Self {
        Self::default()
            .text("step", name)
            .text("recipe", &recipe.to_string())
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        for part in [name, value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a digest.
    #[must_use]
    pub fn digest(self, name: &str, value: Digest) -> Self {
        self.text(name, &value.to_string())
    }

    /// Adds anything that serialises; for settings of the manifest.
    #[must_use]
    pub fn value(self, name: &str, value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("manifest types serialise");
        self.text(name, &text)
    }

    /// The key under which the result is kept.
    pub fn key(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// What a file looked like when it was hashed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    device: u64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Old enough that another write within the clock's grain would have changed a time. (Git
    /// calls an entry that is not "racily clean".)
    fn settled(&self, now: SystemTime) -> bool {
        let grain = Duration::from_millis(50);
        let newest = self.modified.max(self.changed);
        let newest = UNIX_EPOCH
            + Duration::from_secs(u64::try_from(newest.0).unwrap_or(0))
            + Duration::from_nanos(u64::try_from(newest.1).unwrap_or(0));
        now.duration_since(newest).is_ok_and(|age| age > grain)
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Entries(BTreeMap<PathBuf, (Stamp, Digest)>);

/// Remembers the digests of files between runs.
pub struct Memory {
    store: PathBuf,
    entries: Mutex<Entries>,
    used: Mutex<Entries>,
}

impl Memory {
    /// Loads what the last run knew; a missing or damaged store only costs time.
    pub fn load(store: PathBuf) -> Self {
        let entries = fs::read(&store)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self {
            store,
            entries: Mutex::new(entries),
            used: Mutex::default(),
        }
    }

    /// Stores what this run looked at; what it did not look at is forgotten.
    pub fn save(&self) -> Result<()> {
        let used = self.used.lock().expect("no holder of the lock panics");
        let bytes = serde_json::to_vec(&*used).context("serialising digests")?;
        crate::files::write_atomically(&self.store, &bytes)
    }

    /// The digest of a file's content.
    pub fn file(&self, path: &Path) -> Result<Digest> {
        let path = std::path::absolute(path)
            .with_context(|| format!("making {} absolute", path.display()))?;
        let metadata =
            fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?;
        let stamp = Stamp::of(&metadata);
        let known = self
            .entries
            .lock()
            .expect("no holder of the lock panics")
            .0
            .get(&path)
            .filter(|(then, _)| *then == stamp)
            .map(|(_, digest)| *digest);
        let settled = known.is_some() || stamp.settled(SystemTime::now());
        let digest = match known {
            Some(digest) => digest,
            None => Digest::of_file(&path)?,
        };
        if settled {
            self.used
                .lock()
                .expect("no holder of the lock panics")
                .0
                .insert(path, (stamp, digest));
        }
        Ok(digest)
    }

    /// The digest of a file, or of a folder with everything below it: relative names, kinds,
    /// permissions, link targets and contents, in the order of names.
    pub fn tree(&self, root: &Path) -> Result<Digest> {
        let mut inputs = Inputs::default();
        for entry in crate::files::walk(root)? {
            // Joining an empty path would add a slash, which a file does not bear.
            let path = if entry.as_os_str().is_empty() {
                root.to_owned()
            } else {
                root.join(&entry)
            };
            let metadata = fs::symlink_metadata(&path)
                .with_context(|| format!("looking at {}", path.display()))?;
            let kind = metadata.file_type();
            let name = hex(entry.as_os_str().as_bytes());
            inputs = if kind.is_symlink() {
                let target = fs::read_link(&path)
                    .with_context(|| format!("reading the link {}", path.display()))?;
                inputs.text(&name, &format!("link {}", target.display()))
            } else if kind.is_dir() {
                inputs.text(&name, &format!("folder {:o}", metadata.mode() & 0o7777))
            } else if kind.is_file() {
                let mode = metadata.mode() & 0o7777;
                inputs.text(&name, &format!("file {mode:o} {}", self.file(&path)?))
            } else {
                bail!(
                    "{}: neither a file, nor a folder, nor a link",
                    path.display()
                );
            };
        }
        Ok(inputs.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("e3b0".parse::<Digest>(), Err(NotADigest::Length(4)));
        assert_eq!("é".repeat(64).parse::<Digest>(), Err(NotADigest::Digits));
    }

    #[test]
    fn names_and_values_do_not_run_together() {
        let one = Inputs::default().text("a", "bc").key();
        let other = Inputs::default().text("ab", "c").key();
        assert_ne!(one, other);
    }

    #[test]
    fn a_changed_file_is_hashed_again() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let file = folder.path().join("file");
        let memory = Memory::load(folder.path().join("memory.json"));
        fs::write(&file, "one").expect("writing");
        let one = memory.file(&file).expect("hashing");
        memory.save().expect("saving");
        // The same size, at once: only the times, or not even those, can differ.
        fs::write(&file, "two").expect("writing");
        let memory = Memory::load(folder.path().join("memory.json"));
        assert_ne!(memory.file(&file).expect("hashing"), one);
        assert_eq!(memory.file(&file).expect("hashing"), Digest::of(b"two"));
    }

    #[test]
    fn a_tree_notices_permissions_and_links() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().expect("a folder for the test");
        let root = folder.path().join("root");
        fs::create_dir(&root).expect("creating");
        fs::write(root.join("file"), "content").expect("writing");
        let memory = Memory::load(folder.path().join("memory.json"));
        let mut seen = vec![memory.tree(&root).expect("hashing")];
        fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o755))
            .expect("changing the mode");
        seen.push(memory.tree(&root).expect("hashing"));
        symlink("file", root.join("link")).expect("linking");
        seen.push(memory.tree(&root).expect("hashing"));
        fs::remove_file(root.join("link")).expect("removing");
        symlink("other", root.join("link")).expect("linking");
        seen.push(memory.tree(&root).expect("hashing"));
        let different: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(different.len(), seen.len());
    }

    #[test]
    fn the_uuid_is_of_the_custom_version() {
        let uuid = Digest::of(b"root").uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "8");
    }
}
