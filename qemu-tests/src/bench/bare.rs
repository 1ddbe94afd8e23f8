//! The same programs, started bare: what a node costs without Masthead.
//!
//! A bare node has the same namespaces, root, disks, address, command lines and configuration files
//! as a Masthead node. Its `/init` (the bench program itself, laid over the root) only mounts what the programs
//! need, sets the address, and starts etcd and kube-apiserver in the same instant. The other two
//! services are left out: Masthead starts them when the apiserver is ready, so they are no part of that time.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::mount::{MsFlags, mount};
use rtnetlink::LinkUnspec;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Attempt, Error, Result},
    plan::PREFIX,
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

/// Makes a folder of root changes that turns a node into a bare one, from a Masthead node that runs.
pub fn capture(node: &dyn Node, changes: &Path) -> Result<()> {
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
    copy(&configuration, &below(changes, CONFIGURATION))
        .attempt(|| format!("copy {}", configuration.display()))?;
    bare.write(changes)
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

/// Copies a folder with owners and modes.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            let owner = entry.metadata()?;
            lchown(&target, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    let owner = fs::metadata(from)?;
    chown(to, Some(owner.uid()), Some(owner.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(owner.mode()))
}

/// `/init` of a bare node: starts the programs, and says on the console if one of them ends.
pub fn init() -> Result<()> {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .attempt(|| format!("mount {target}"))?;
    }
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777)).attempt(|| "open /tmp")?;
    fs::create_dir("/run/masthead")
        .and_then(|()| symlink(CONFIGURATION, USUAL_CONFIGURATION))
        .attempt(|| format!("make {USUAL_CONFIGURATION}"))?;
    let bare: Bare = fs::read(PROGRAMS)
        .and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other))
        .attempt(|| format!("read {PROGRAMS}"))?;
    configure(bare.address)?;

    let mut children = Vec::new();
    for program in &bare.programs {
        children.push(start(program).attempt(|| format!("start {}", program.name))?);
    }
    for (mut child, program) in children.into_iter().zip(&bare.programs) {
        let status = child
            .wait()
            .attempt(|| format!("wait for {}", program.name))?;
        let output = fs::read_to_string(output(program)).unwrap_or_default();
        println!("bare: {} ended: {status}\n{output}", program.name);
    }
    Ok(())
}

fn output(program: &Program) -> String {
    format!("/run/{}.log", program.name)
}

fn start(program: &Program) -> io::Result<std::process::Child> {
    let (name, arguments) = program
        .arguments
        .split_first()
        .ok_or_else(|| io::Error::other("no command line"))?;
    let made = fs::DirBuilder::new().mode(0o700).create(&program.folder);
    match made {
        Ok(()) => chown(&program.folder, Some(program.user), Some(program.user))?,
        // Of an earlier boot.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let output = File::create(output(program))?;
    Command::new(name)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .uid(program.user)
        .gid(program.user)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}

/// Sets both links up and gives `eth0` its address.
fn configure(address: Ipv4Addr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .attempt(|| "make a runtime")?;
    let index = |name: &str| {
        nix::net::if_::if_nametoindex(name).attempt(|| format!("find the link {name}"))
    };
    let (loopback, wire) = (index("lo")?, index("eth0")?);
    let configured = runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| rtnetlink::Error::NamespaceError(error.to_string()))?;
        tokio::spawn(connection);
        for link in [loopback, wire] {
            let up = LinkUnspec::new_with_index(link).up().build();
            handle.link().set(up).execute().await?;
        }
        handle
            .address()
            .add(wire, address.into(), PREFIX)
            .execute()
            .await
    });
    configured
        .map_err(io::Error::other)
        .attempt(|| format!("give the node its address {address}"))
}
