//! `.lab/`: where everything of one cluster is kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{
        fs::{OpenOptionsExt, symlink},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    error::{Attempt, Error, Result},
    tools::Tools,
};

/// Says that a folder is ours, and may be removed whole.
const MARK: &str = "this-is-a-lab";

/// The folder of one cluster.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Names the folder; touches nothing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of the daemon that runs the cluster.
    pub fn socket(&self) -> PathBuf {
        self.path.join("daemon.sock")
    }

    /// What the daemon itself has to say.
    pub fn daemon_log(&self) -> PathBuf {
        self.path.join("daemon.log")
    }

    /// The cluster's seed.
    pub fn seed(&self) -> PathBuf {
        self.path.join("seed.toml")
    }

    /// The private key of the operator that the lab is.
    pub fn operator_key(&self) -> PathBuf {
        self.path.join("operator.key")
    }

    /// mastctl's configuration.
    pub fn mastctl_configuration(&self) -> PathBuf {
        self.path.join("mastctl.toml")
    }

    /// kubectl's configuration.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// The folder of programs that fit the cluster.
    pub fn programs(&self) -> PathBuf {
        self.path.join("bin")
    }

    /// Makes the folder anew, without what an earlier lab has left in it, and claims it.
    pub fn prepare(&self, tools: &Tools) -> Result<Claim> {
        let taken = || {
            Error::Refused(format!(
                "another lab is being started in {}: wait for it, or choose another folder with --directory",
                self.path.display()
            ))
        };
        if !self.clear()? {
            return Err(taken());
        }
        fs::create_dir_all(&self.path).attempt(|| format!("make {}", self.path.display()))?;
        let claim = self.claim()?.ok_or_else(taken)?;
        // First of all, so that a lab that is killed leaves nothing that the next one does not know for a lab's.
        fs::write(self.path.join(MARK), "`lab down` removes this folder.\n")
            .attempt(|| format!("write into {}", self.path.display()))?;
        let programs = self.programs();
        fs::create_dir(&programs).attempt(|| format!("make {}", programs.display()))?;
        for (name, target) in [("mastctl", &tools.mastctl), ("kubectl", &tools.kubectl)] {
            symlink(target, programs.join(name))
                .attempt(|| format!("link {}", programs.join(name).display()))?;
        }
        Ok(claim)
    }

    /// Claims the folder, which must be there; nothing when another process has.
    fn claim(&self) -> Result<Option<Claim>> {
        let what = || format!("claim {}", self.path.display());
        let folder = File::open(&self.path).attempt(what)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Claim { _folder: folder })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).attempt(what),
        }
    }

    /// Removes the folder, if it is ours and no living lab has claimed it; `false` if one has.
    pub fn clear(&self) -> Result<bool> {
        if !self.path.exists() {
            return Ok(true);
        }
        let Some(_claim) = self.claim()? else {
            return Ok(false);
        };
        self.remove()?;
        Ok(true)
    }

    /// Removes the folder and all in it, if it is ours. The processes of a lab that died have died
    /// with it; what it wrote is all that can be left.
    pub fn remove(&self) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        let empty = fs::read_dir(&self.path)
            .attempt(|| format!("read {}", self.path.display()))?
            .next()
            .is_none();
        if !empty && !self.path.join(MARK).exists() {
            return Err(Error::Refused(format!(
                "{} is not a lab's folder: choose another one with --directory, or remove it yourself",
                self.path.display()
            )));
        }
        self.remove_marked()
            .attempt(|| format!("remove {}", self.path.display()))
    }

    /// The mark goes last: whoever is killed in between leaves a folder that is known for ours.
    fn remove_marked(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_name() != MARK {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir_all(&self.path)
    }

    /// A connection to the daemon; `None` when none runs.
    pub fn connect(&self) -> Result<Option<UnixStream>> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        match UnixStream::connect(self.socket()) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
            Err(error) => Err(error).attempt(|| format!("reach {}", self.socket().display())),
        }
    }
}

/// A folder that belongs to a living lab: from before the daemon listens until it has gone, however it goes.
#[derive(Debug)]
pub struct Claim {
    /// Locked (flock(2)) for as long as it is open.
    _folder: File,
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .attempt(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("thesis.tex"), "years of work").expect("write");
        let error = Directory::new(folder.path())
            .remove()
            .expect_err("not ours");
        assert!(
            error.to_string().contains("is not a lab's folder"),
            "{error}"
        );
        assert!(folder.path().join("thesis.tex").exists());
    }

    #[test]
    fn ours_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lab");
        let tools = Tools {
            lab: "/lab".into(),
            mastctl: "/mastctl".into(),
            kubectl: "/kubectl".into(),
        };
        let directory = Directory::new(&path);
        let claim = directory.prepare(&tools).expect("prepare");
        fs::write(path.join("left"), "over").expect("write");
        assert!(directory.connect().expect("nobody listens").is_none());
        let error = directory.prepare(&tools).expect_err("it is somebody's");
        assert!(error.to_string().contains("being started"), "{error}");
        assert!(!directory.clear().expect("looked at"));
        assert!(path.join("left").exists());

        drop(claim);
        directory.prepare(&tools).expect("prepare again");
        assert!(!path.join("left").exists());
        assert!(path.join("bin/kubectl").is_symlink());
        directory.remove().expect("remove");
        assert!(!path.exists());
    }
}
