//! Samples of a case that takes hours, kept one by one, so that one that was interrupted is taken up again.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

use super::Bench;
use crate::error::{Attempt, Error, Result};

/// The samples of one case: a line of JSON each, after a line that says of which sources they are.
pub(super) struct Samples<T> {
    path: PathBuf,
    pub(super) taken: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Samples<T> {
    /// Those that were taken before of the same sources.
    pub(super) fn open(bench: &Bench, case: &str) -> Result<Self> {
        let path = bench.directory.join(format!("{case}.samples"));
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let is_same = lines.next() == Some(&bench.sources);
        if !is_same {
            fs::write(&path, format!("{}\n", bench.sources))
                .attempt(|| format!("write {}", path.display()))?;
            return Ok(Self {
                path,
                taken: Vec::new(),
            });
        }
        let read = |line| {
            serde_json::from_str(line)
                .map_err(|error| Error::Refused(format!("{}: {error}", path.display())))
        };
        let taken = lines.map(read).collect::<Result<_>>()?;
        Ok(Self { path, taken })
    }

    /// Keeps one more.
    pub(super) fn add(&mut self, sample: T) -> Result<()> {
        let line = serde_json::to_string(&sample)
            .map_err(|error| Error::Refused(format!("a sample: {error}")))?;
        OpenOptions::new()
            .append(true)
            .open(&self.path)
            .and_then(|mut file| writeln!(file, "{line}"))
            .attempt(|| format!("write {}", self.path.display()))?;
        self.taken.push(sample);
        Ok(())
    }

    /// The case is done.
    pub(super) fn close(self) -> Result<()> {
        fs::remove_file(&self.path).attempt(|| format!("remove {}", self.path.display()))
    }
}
