//! `/init` of a bare node.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::mount::{MsFlags, mount};
use rtnetlink::LinkUnspec;

use super::{Bare, CONFIGURATION, PROGRAMS, Program, USUAL_CONFIGURATION};
use crate::{
    error::{Attempt, Error, Result},
    plan::PREFIX,
};

/// The drivers of a machine of the lab, and its file system.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_net", "ext4"];
/// Masthead's partitions of the machine's disk, which is the only one. `masthead-disk-layout` has their order.
const FILE_SYSTEMS: [(&str, &str); 2] = [("/dev/vda5", "/etcd"), ("/dev/vda6", "/data")];
/// Says that the disk's data is of a bare node.
const MARK: &str = "/etcd/bare";
/// A device that did not appear by then will not.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the programs, and says on the console if one of them ends.
pub fn run() -> Result<()> {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        mount_at(kind, kind, target)?;
    }
    // The lab's namespaces say so, and have the rest done already.
    if !std::env::args().any(|argument| argument == "--namespace") {
        prepare_machine()?;
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

/// What a machine needs beside: its drivers, and its disk without the data of the Masthead node that it is from.
fn prepare_machine() -> Result<()> {
    mount_at("devtmpfs", "dev", "/dev")?;
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").attempt(|| "read the kernel's version")?;
    let folder = Path::new("/lib/modules").join(release.trim());
    let index = folder.join("modules.dep");
    let index = fs::read_to_string(&index).attempt(|| format!("read {}", index.display()))?;
    for name in MODULES {
        load(&folder, &index, name)?;
    }
    for (device, target) in FILE_SYSTEMS {
        wait_for(Path::new(device))?;
        mount_at("ext4", device, target)?;
    }
    if !Path::new(MARK).exists() {
        for folder in ["/etcd/data", "/data/audit"] {
            fs::remove_dir_all(folder).attempt(|| format!("remove {folder}"))?;
        }
        File::create(MARK)
            .and_then(|file| file.sync_all())
            .attempt(|| format!("make {MARK}"))?;
    }
    Ok(())
}

/// Loads a module after all that it depends on. One that is no file is in the kernel.
fn load(folder: &Path, index: &str, name: &str) -> Result<()> {
    let file = format!("/{name}.ko:");
    let line = index.lines().find_map(|line| {
        let (module, needs) = line.split_once(' ').unwrap_or((line, ""));
        module
            .ends_with(&file)
            .then(|| (module.trim_end_matches(':'), needs))
    });
    let Some((module, needs)) = line else {
        return Ok(());
    };
    // What is needed first is named last (modprobe.d(5), depmod(8)).
    for path in needs.split_whitespace().rev().chain([module]) {
        let file = File::open(folder.join(path)).attempt(|| format!("open {path}"))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).attempt(|| format!("load {path}")),
        }
    }
    Ok(())
}

fn wait_for(device: &Path) -> Result<()> {
    let begun = Instant::now();
    while !device.exists() {
        if begun.elapsed() > PATIENCE {
            return Err(Error::Refused(format!("no {} appeared", device.display())));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Mounts a file system, unless the initramfs has left one there.
fn mount_at(kind: &str, source: &str, target: &str) -> Result<()> {
    let mounted = mount(
        Some(source),
        target,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    );
    match mounted {
        Ok(()) | Err(nix::errno::Errno::EBUSY) => Ok(()),
        Err(error) => Err(error).attempt(|| format!("mount {target}")),
    }
}
