//! Results of steps, kept by the digest of what they depend on.
//!
//! `steps/NAME/KEY/` holds a result and `steps/NAME/KEY.json` its digest, by which a damaged or
//! edited result is noticed and made again. The next step depends on that digest, not on the key: when
//! another input leads to the same result, the steps after it are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Inputs, Memory};
use crate::files;
use crate::progress::{Line, Progress};

/// Results per step that are kept: the current one, and those of the last changes.
const KEPT: usize = 3;

/// The folder of results, locked against a second build.
pub struct Cache {
    folder: PathBuf,
    memory: Memory,
    _lock: fs::File,
}

/// What a step made: a folder that nobody changes.
#[derive(Clone, Debug)]
pub struct Made {
    /// The folder.
    pub path: PathBuf,
    /// Digest of the whole tree.
    pub digest: Digest,
}

#[derive(Serialize, Deserialize)]
struct Record {
    digest: Digest,
}

impl Cache {
    /// Opens the cache; while another build is at work in it, says so and waits.
    pub fn open(folder: &Path, progress: &Progress) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock(&folder.join("lock"), progress)?,
            memory: Memory::load(folder.join("digests.json")),
        })
    }

    /// Where something may be kept that is not the result of a step.
    pub fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The digests known so far.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The result for these inputs: the kept one, or one that `make` writes into the empty folder
    /// it is given. `make` returns what to tell the user.
    pub fn step(
        &self,
        name: &'static str,
        inputs: Inputs,
        line: Line,
        make: impl FnOnce(&Path, &Line) -> Result<String>,
    ) -> Result<Made> {
        let key = inputs.key();
        let home = self.folder.join("steps").join(name);
        let path = home.join(key.to_string());
        let record = home.join(format!("{key}.json"));
        if let Some(made) = self.kept(&path, &record) {
            line.unchanged();
            return Ok(made);
        }
        fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
        clear(&path)?;
        let scratch = tempfile::Builder::new()
            .prefix(".making-")
            .tempdir_in(&home)
            .with_context(|| format!("creating a folder in {}", home.display()))?;
        let made = files::folder(scratch.path(), "made")?;
        let told = make(&made, &line).with_context(|| format!("step {name}"))?;
        fs::rename(&made, &path).with_context(|| format!("keeping {}", path.display()))?;
        let digest = self.memory.tree(&path)?;
        let text = serde_json::to_vec(&Record { digest }).context("serialising a record")?;
        files::write_atomically(&record, &text)?;
        line.done(&told);
        prune(&home, &record);
        Ok(Made { path, digest })
    }

    fn kept(&self, path: &Path, record: &Path) -> Option<Made> {
        let text = fs::read(record).ok()?;
        let Record { digest } = serde_json::from_slice(&text).ok()?;
        (self.memory.tree(path).ok()? == digest).then(|| Made {
            path: path.to_owned(),
            digest,
        })
    }

    /// Remembers the digests for the next run.
    pub fn close(self) -> Result<()> {
        self.memory.save()
    }
}

/// Takes the lock that keeps two builds apart.
fn lock(path: &Path, progress: &Progress) -> Result<fs::File> {
    let locking = || format!("locking {}", path.display());
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .with_context(locking)?;
    if file.try_lock().is_err() {
        let holder = fs::read_to_string(path).unwrap_or_default();
        progress.notice(&format!(
            "another imagebuild (process {}) is at work here; waiting for it to end",
            holder.trim()
        ));
        file.lock().with_context(locking)?;
    }
    fs::write(path, std::process::id().to_string()).with_context(locking)?;
    Ok(file)
}

/// Removes what an interrupted run left at a place where a result will be.
fn clear(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the oldest results; what cannot be removed stays, and takes only room.
fn prune(home: &Path, newest: &Path) {
    let Ok(entries) = fs::read_dir(home) else {
        return;
    };
    let mut records: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter(|path| path != newest)
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    records.sort();
    let surplus = (records.len() + 1).saturating_sub(KEPT);
    for (_, record) in records.into_iter().take(surplus) {
        let _ = fs::remove_file(&record);
        let _ = fs::remove_dir_all(record.with_extension(""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        runs: std::cell::Cell<u32>,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().expect("a folder for the test"),
                runs: std::cell::Cell::new(0),
            }
        }

        fn build(&self, input: &str) -> Made {
            let progress = Progress::new();
            let cache = Cache::open(&self.folder.path().join("cache"), &progress).expect("opening");
            let made = cache
                .step(
                    "test",
                    Inputs::of_step("test", 1).text("input", input),
                    progress.line("test"),
                    |folder, _| {
                        self.runs.set(self.runs.get() + 1);
                        files::put(folder, "/result", 0o644, &input.as_bytes()[..1])?;
                        Ok("made".to_owned())
                    },
                )
                .expect("making");
            cache.close().expect("closing");
            made
        }
    }

    #[test]
    fn a_step_runs_once_per_input() {
        let fixture = Fixture::new();
        let first = fixture.build("one");
        assert_eq!(fixture.build("one").digest, first.digest);
        assert_eq!(fixture.runs.get(), 1);
        assert_eq!(
            fixture.build("other").digest,
            first.digest,
            "the same result"
        );
        assert_eq!(fixture.runs.get(), 2);
    }

    #[test]
    fn a_damaged_result_is_made_again() {
        let fixture = Fixture::new();
        let made = fixture.build("one");
        fs::write(made.path.join("result"), "damaged").expect("damaging");
        let again = fixture.build("one");
        assert_eq!(fs::read(again.path.join("result")).expect("reading"), b"o");
        assert_eq!(fixture.runs.get(), 2);
    }

    #[test]
    fn old_results_go() {
        let fixture = Fixture::new();
        for number in 0..6 {
            fixture.build(&number.to_string());
        }
        let home = fixture.folder.path().join("cache/steps/test");
        assert_eq!(fs::read_dir(home).expect("listing").count(), 2 * KEPT);
    }

    #[test]
    fn a_failed_step_leaves_nothing() {
        let fixture = Fixture::new();
        let progress = Progress::new();
        let cache = Cache::open(&fixture.folder.path().join("cache"), &progress).expect("opening");
        let result = cache.step(
            "test",
            Inputs::of_step("test", 1),
            progress.line("test"),
            |folder, _| {
                files::put(folder, "/half", 0o644, b"")?;
                anyhow::bail!("lost power")
            },
        );
        let error = result.expect_err("a failure");
        assert_eq!(format!("{error:#}"), "step test: lost power");
        let home = fixture.folder.path().join("cache/steps/test");
        assert_eq!(fs::read_dir(home).expect("listing").count(), 0);
    }

    #[test]
    fn two_builds_lock_each_other_out() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let progress = Progress::new();
        let first = Cache::open(folder.path(), &progress).expect("opening");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Cache::open(folder.path(), &progress).map(drop));
            // The second one is either before or at the lock, and cannot pass it.
            let other = fs::File::open(folder.path().join("lock")).expect("opening");
            assert!(other.try_lock().is_err());
            assert!(!second.is_finished());
            drop(first);
            second
                .join()
                .expect("no panic")
                .expect("opening after the first");
        });
    }
}
