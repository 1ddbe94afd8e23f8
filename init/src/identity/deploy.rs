//! Writing what a plan says: directories and files on the tmpfs from which services read.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::path::{Path, PathBuf};

use masthead_control_plane::{Component, ControlPlane};
use masthead_policy::Services;
use rustix::process::geteuid;
use thiserror::Error;

/// A file or directory could not be written.
#[derive(Debug, Error)]
#[error("write {}", path.display())]
pub struct DeployError {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// User and group of each component.
#[derive(Clone, Debug, Default)]
pub struct Owners(Vec<(Component, u32, u32)>);

impl Owners {
    /// From the table of services. Without root's rights nothing is given away: all files are the caller's.
    pub fn of(services: &Services) -> Self {
        if !geteuid().is_root() {
            return Self::default();
        }
        let owners = Component::ALL.into_iter().filter_map(|component| {
            let service = services.get(component.name())?;
            Some((component, service.uid, service.gid))
        });
        Self(owners.collect())
    }

    fn give(&self, path: &Path, owner: Option<Component>) -> io::Result<()> {
        match self
            .0
            .iter()
            .find(|(component, ..)| Some(*component) == owner)
        {
            Some((_, user, group)) => chown(path, Some(*user), Some(*group)),
            None => Ok(()),
        }
    }
}

/// What [`write_plan`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files that are new or have other contents.
    pub written: usize,
    /// Services that read one of them only when they start: restart these if they run.
    pub restart: BTreeSet<Component>,
}

/// Makes the directories and writes the files whose contents changed, each at once. Running it again changes
/// nothing.
pub fn write_plan(plan: &ControlPlane, owners: &Owners) -> Result<Changes, DeployError> {
    for directory in &plan.directories {
        let path = &directory.path;
        make_directory(path, directory.mode)
            .and_then(|()| owners.give(path, directory.owner))
            .map_err(|source| DeployError {
                path: path.clone(),
                source,
            })?;
    }
    let mut changes = Changes::default();
    for file in &plan.files {
        let contents = file.contents.expose();
        let failed = |source| DeployError {
            path: file.path.clone(),
            source,
        };
        let previous = match fs::read(&file.path) {
            Ok(previous) => Some(previous),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if previous.as_deref() == Some(contents) {
            continue;
        }
        let mut temporary = file.path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        write(&temporary, contents, file.mode)
            .and_then(|()| owners.give(&temporary, file.owner))
            .and_then(|()| fs::rename(&temporary, &file.path))
            .map_err(failed)?;
        changes.written += 1;
        if file.read_once && previous.is_some() {
            changes.restart.extend(file.owner);
        }
    }
    Ok(changes)
}

/// Makes the directories that a service writes to, on the file systems that are mounted now, and gives them to it.
/// One that is as it should be is left alone: its file system may have turned read-only since.
pub fn make_service_directories(service: &masthead_policy::Service) -> Result<(), DeployError> {
    for directory in &service.directories {
        let path = PathBuf::from(&directory.path);
        let owner = geteuid().is_root().then_some((service.uid, service.gid));
        if is_directory_of(&path, directory.mode, owner) {
            continue;
        }
        let made = make_directory(&path, directory.mode).and_then(|()| match owner {
            Some((user, group)) => chown(&path, Some(user), Some(group)),
            None => Ok(()),
        });
        made.map_err(|source| DeployError { path, source })?;
    }
    Ok(())
}

fn is_directory_of(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> bool {
    fs::metadata(path).is_ok_and(|found| {
        found.is_dir()
            && found.mode() & 0o7777 == mode
            && owner.is_none_or(|owner| owner == (found.uid(), found.gid()))
    })
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    // A rest of an earlier try may be read-only.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?
        .write_all(contents)
}
