//! `.lab/`: where everything of one cluster is kept.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::{
        fs::{OpenOptionsExt, symlink},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

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

    /// Makes the folder anew, without what an earlier lab has left in it.
    pub fn prepare(&self, tools: &Tools) -> Result<()> {
        self.remove()?;
        let programs = self.programs();
        fs::create_dir_all(&programs).attempt(|| format!("make {}", programs.display()))?;
        fs::write(self.path.join(MARK), "`lab down` removes this folder.\n")
            .attempt(|| format!("write into {}", self.path.display()))?;
        for (name, target) in [("mastctl", &tools.mastctl), ("kubectl", &tools.kubectl)] {
            symlink(target, programs.join(name))
                .attempt(|| format!("link {}", programs.join(name).display()))?;
        }
        Ok(())
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
        fs::remove_dir_all(&self.path).attempt(|| format!("remove {}", self.path.display()))
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
        directory.prepare(&tools).expect("prepare");
        fs::write(path.join("left"), "over").expect("write");
        assert!(directory.connect().expect("nobody listens").is_none());
        directory.prepare(&tools).expect("prepare again");
        assert!(!path.join("left").exists());
        assert!(path.join("bin/kubectl").is_symlink());
        directory.remove().expect("remove");
        assert!(!path.exists());
    }
}
