//! The same programs, started bare: what a node costs without Masthead.
//!
//! A bare node has the same namespaces, root, disks, address, command lines and configuration files
//! as a Masthead node. Its `/init` (the bench program itself, laid over the root) only mounts what the programs
//! need, sets the address, and starts etcd and kube-apiserver in the same instant. The other two
//! services are left out: Masthead starts them when the apiserver is ready, so they are no part of that time.
//!
//! [`init`] is that program; [`image`] makes an image of it, for machines: same kernel, same root, same modules.

pub mod image;
pub mod init;

use std::{
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Attempt, Error, Result},
    provider::Node,
};

/// Where the configuration files lie in a bare node's root.
pub(super) const CONFIGURATION: &str = "/bare/config";
/// Where the command lines refer to them.
pub(super) const USUAL_CONFIGURATION: &str = "/run/masthead/config";
/// What is to be started, in JSON.
const PROGRAMS: &str = "/bare/programs.json";

/// What a bare node does.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bare {
    pub(super) address: Ipv4Addr,
    pub(super) programs: Vec<Program>,
}

/// A program with its arguments and its user, as Masthead runs it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) name: String,
    /// Its own folder on a disk, which it must own.
    pub(super) folder: String,
    pub(super) arguments: Vec<String>,
    pub(super) user: u32,
}

/// What a started node runs before it is ready, with the folder that Masthead makes for each.
pub(super) const SERVICES: [(&str, &str); 2] =
    [("etcd", "/etcd/data"), ("kube-apiserver", "/data/audit")];

/// Makes a folder of root changes that turns a node into a bare one, from a Masthead node that runs in a namespace.
/// Returns the host's number of the node's user 0: the files belong to users counted from there.
pub fn capture(node: &dyn Node, changes: &Path) -> Result<u32> {
    let init = node.init_process()?;
    let first_user = fs::metadata(format!("/proc/{init}"))
        .attempt(|| "find the node's user 0")?
        .uid();
    let mut programs = Vec::new();
    for (name, folder) in SERVICES {
        let process = node.processes(name)?.first().copied().ok_or_else(|| {
            Error::Refused(format!("{name} does not run, so it cannot be copied"))
        })?;
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).attempt(|| format!("read {path} of {name}"))
        };
        let (line, status) = (read("cmdline")?, read("status")?);
        let user: u32 = status
            .lines()
            .find_map(|line| {
                line.strip_prefix("Uid:")?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .ok_or_else(|| Error::Refused(format!("the user of {name} cannot be told")))?;
        programs.push(Program {
            name: name.to_owned(),
            folder: folder.to_owned(),
            arguments: line
                .trim_end_matches('\0')
                .split('\0')
                .map(str::to_owned)
                .collect(),
            user: user - first_user,
        });
    }
    let bare = Bare {
        address: node.plan().address(),
        programs,
    };

    let configuration = Path::new("/proc")
        .join(init.to_string())
        .join("root")
        .join(USUAL_CONFIGURATION.trim_start_matches('/'));
    copy(&configuration, &below(changes, CONFIGURATION), 0)
        .attempt(|| format!("copy {}", configuration.display()))?;
    bare.write(changes)?;
    Ok(first_user)
}

impl Bare {
    /// Writes what the node does, and this program to do it, beside the configuration files.
    pub(super) fn write(&self, changes: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other);
        text.and_then(|text| fs::write(below(changes, PROGRAMS), text))
            .attempt(|| format!("write {PROGRAMS}"))?;
        std::env::current_exe()
            .and_then(|program| fs::copy(program, changes.join("init")))
            .attempt(|| "copy this program to be /init")?;
        Ok(())
    }
}

/// Where a path of the node's root is in a folder of changes to it.
pub(super) fn below(changes: &Path, path: &str) -> PathBuf {
    changes.join(path.trim_start_matches('/'))
}

/// Copies a folder with modes, and with owners whose numbers are smaller by `shift`; the host's own stay.
fn copy(from: &Path, to: &Path, shift: u32) -> io::Result<()> {
    let shifted = |number: u32| Some(number.checked_sub(shift).unwrap_or(number));
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target, shift)?;
        } else {
            fs::copy(entry.path(), &target)?;
            let owner = entry.metadata()?;
            lchown(&target, shifted(owner.uid()), shifted(owner.gid()))?;
        }
    }
    let owner = fs::metadata(from)?;
    chown(to, shifted(owner.uid()), shifted(owner.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(owner.mode()))
}
