//! `lab namespace-node`: the host's half of one power-on of one node.
//!
//! A process of its own, because it must have one thread (clone, user namespaces), and because
//! the mounts that it makes are to end with it. It lives as long as the node is powered:
//!
//! 1. unshares a mount namespace, clones PID 1-to-be into new namespaces, maps its users;
//! 2. mounts root and disks, reports `Born`, waits for `Start` (the lab plugs the wire in);
//! 3. lets the child take the tree as its root and become `/init`, reports `Started`;
//! 4. serves `Cut` and `Disk` until PID 1 ends or the lab is gone; then ends the file systems,
//!    unmounts, removes the control group and reports `Ended`.
//!
//! The child dies with the launcher (PR_SET_PDEATHSIG), all other processes with the child (it is
//! their PID 1), mounts and network with the last process, loop devices with the mounts.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    boot_disk, cgroup,
    disks::Disk,
    kernel::{self, Cloned},
    pid1,
    protocol::{Command, Configuration, End, Report, receive, send},
    root,
};
use crate::{
    error::{Attempt, Error, Result, chain},
    plan::NodePlan,
    provider::DiskCondition,
};

/// Users of one node, mapped from 0 on.
const USERS: u32 = 65_536;
/// The host's user that is user 0 of the node with number 1. High enough to be nobody's.
const FIRST_USER: u32 = 1_000_000;

/// The host's user that is root in a node; the node's others follow it.
pub(crate) fn first_user(plan: &NodePlan) -> u32 {
    FIRST_USER * u32::from(plan.number)
}

/// Runs a launcher on its standard input, which the lab has made a socket. Failures are reported
/// there; what is returned is only for when even that fails.
pub fn run() -> Result<()> {
    let socket = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(UnixStream::from)
        .attempt(|| "take over standard input")?;
    let mut reader = BufReader::new(socket.try_clone().attempt(|| "duplicate the socket")?);
    let Some(configuration) =
        receive::<Configuration>(&mut reader).attempt(|| "read the configuration")?
    else {
        return Ok(());
    };
    let end = Launcher::power_on(&configuration, &socket, &mut reader)
        .and_then(|launcher| launcher.watch(&socket, &mut reader));
    let removed = cgroup::remove(&configuration.cgroup);
    let report = match end.and_then(|end| removed.map(|()| end)) {
        Ok(how) => Report::Ended { how },
        Err(error) => Report::Failed {
            message: chain(&error),
        },
    };
    // Nobody listens when the lab has died, and then nobody needs to.
    let _ = send(&socket, &report);
    Ok(())
}

/// A running node, as its launcher sees it.
struct Launcher {
    pid: Pid,
    pidfd: OwnedFd,
    disks: Vec<Disk>,
    cut: bool,
}

impl Launcher {
    /// Everything up to a running PID 1.
    fn power_on(
        configuration: &Configuration,
        socket: &UnixStream,
        reader: &mut BufReader<UnixStream>,
    ) -> Result<Self> {
        let plan = &configuration.plan;
        rustix::process::setsid().attempt(|| "start a session")?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .attempt(|| "unshare the mount namespace")?;
        // Slave, not private: what the host unmounts must not stay busy in here.
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::REC
                | rustix::mount::MountPropagationFlags::DOWNSTREAM,
        )
        .attempt(|| "detach the mount namespace from the host's")?;

        let owner = first_user(plan);
        cgroup::delegate(&configuration.cgroup, owner)?;
        let group = File::open(&configuration.cgroup)
            .attempt(|| format!("open {}", configuration.cgroup.display()))?;
        let console = OpenOptions::new()
            .append(true)
            .create(true)
            .open(plan.console())
            .attempt(|| format!("open {}", plan.console().display()))?;
        let tree = plan.directory.join("root");
        let (mut ours, theirs) = UnixStream::pair().attempt(|| "make a socket pair")?;

        let (pid, pidfd) = match kernel::clone_into_new_namespaces(group.as_fd())
            .attempt(|| "clone into new namespaces (is user.max_user_namespaces 0?)")?
        {
            Cloned::Child => {
                drop(ours);
                pid1::become_init(theirs, &console, &tree, configuration.timing_scale);
            }
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(theirs);
        let mut launcher = Self {
            pid: Pid::from_raw(pid),
            pidfd,
            disks: Vec::new(),
            cut: false,
        };

        map_users(pid, owner)?;
        pid1::allow(&mut ours)?;
        let user_namespace = File::open(format!("/proc/{pid}/ns/user"))
            .attempt(|| format!("open the user namespace of {pid}"))?;
        root::build(
            plan,
            &boot_disk::choose(plan, owner)?,
            &configuration.seed,
            &tree,
            user_namespace.as_fd(),
            owner,
        )?;
        launcher.mount_disks(configuration, &tree, user_namespace.as_fd())?;

        report(socket, &Report::Born { pid })?;
        match receive(reader).attempt(|| "wait for the network")? {
            Some(Command::Start) => {}
            _ => {
                return Err(Error::Refused(
                    "the lab has gone during the start".to_owned(),
                ));
            }
        }
        for disk in &mut launcher.disks {
            if configuration.disks.get(&disk.role()) == Some(&DiskCondition::Stalled) {
                disk.set(DiskCondition::Stalled)?;
            }
        }
        pid1::allow(&mut ours)?;
        let mut complaint = String::new();
        ours.read_to_string(&mut complaint)
            .attempt(|| "wait for PID 1")?;
        if !complaint.is_empty() {
            return Err(Error::Refused(format!("PID 1 did not start: {complaint}")));
        }
        report(socket, &Report::Started)?;
        Ok(launcher)
    }

    fn mount_disks(
        &mut self,
        configuration: &Configuration,
        tree: &Path,
        user_namespace: BorrowedFd<'_>,
    ) -> Result<()> {
        for &(role, _) in &configuration.plan.disks {
            let condition = configuration
                .disks
                .get(&role)
                .copied()
                .unwrap_or(DiskCondition::Healthy);
            if condition != DiskCondition::Removed {
                self.disks.push(Disk::mount(
                    &configuration.plan,
                    role,
                    condition,
                    tree,
                    user_namespace,
                )?);
            }
        }
        Ok(())
    }

    /// Serves commands until the node has ended, and cleans up after it.
    fn watch(mut self, socket: &UnixStream, reader: &mut BufReader<UnixStream>) -> Result<End> {
        loop {
            let mut waiting = [
                PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut waiting, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).attempt(|| "wait for PID 1 and the lab"),
            }
            let [ended, spoken] = waiting.map(|each| each.any().unwrap_or_default());
            if ended {
                return self.finish();
            }
            if spoken && !self.obey(socket, reader)? {
                return self.finish();
            }
        }
    }

    /// Carries out one command. False when the node's power is gone.
    fn obey(&mut self, socket: &UnixStream, reader: &mut BufReader<UnixStream>) -> Result<bool> {
        match receive(reader).attempt(|| "read a command")? {
            // A lab that has gone takes the power with it.
            None | Some(Command::Cut) => {
                self.cut = true;
                Ok(false)
            }
            Some(Command::Disk { role, condition }) => {
                let disk = self.disks.iter_mut().find(|disk| disk.role() == role);
                let result = disk.map_or(Ok(()), |disk| disk.set(condition));
                report(
                    socket,
                    &match result {
                        Ok(()) => Report::Done,
                        Err(error) => Report::Failed {
                            message: chain(&error),
                        },
                    },
                )?;
                Ok(true)
            }
            Some(Command::Start) => Ok(true),
        }
    }

    /// Ends PID 1 if it still runs, then its file systems, in this order and without a pause.
    fn finish(mut self) -> Result<End> {
        self.kill();
        let mut problems: Vec<Error> = Vec::new();
        for disk in &mut self.disks {
            problems.extend(disk.cut().err());
        }
        let status = waitpid(self.pid, None).attempt(|| "wait for PID 1")?;
        for disk in std::mem::take(&mut self.disks) {
            problems.extend(disk.unmount().err());
        }
        match problems.into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(if self.cut {
                End::Cut
            } else {
                how_it_ended(status)
            }),
        }
    }

    fn kill(&self) {
        // Already gone is what is wanted.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}

impl Drop for Launcher {
    /// A start that failed half-way must not leave the child waiting.
    fn drop(&mut self) {
        self.kill();
    }
}

fn how_it_ended(status: WaitStatus) -> End {
    match status {
        // reboot(2), "Behavior inside PID namespaces".
        WaitStatus::Signaled(_, Signal::SIGHUP, _) => End::Reboot,
        WaitStatus::Signaled(_, Signal::SIGINT, _) => End::PowerOff,
        WaitStatus::Signaled(_, signal, _) => End::Crash {
            how: format!("PID 1 was ended by {signal}"),
        },
        WaitStatus::Exited(_, code) => End::Crash {
            how: format!("PID 1 ended with status {code}"),
        },
        other => End::Crash {
            how: format!("{other:?}"),
        },
    }
}

/// Maps the node's users 0… to a range of the host that does not hold 0: with the host's own
/// root inside, all of its `/proc/sys` would be writable.
fn map_users(pid: i32, owner: u32) -> Result<()> {
    for file in ["uid_map", "gid_map"] {
        let path = PathBuf::from(format!("/proc/{pid}/{file}"));
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("0 {owner} {USERS}\n").as_bytes()))
            .attempt(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn report(socket: &UnixStream, report: &Report) -> Result<()> {
    send(socket, report).attempt(|| "report to the lab")
}

/// Whether this process may run launchers at all: says what is missing before anything is made.
pub(super) fn check_privileges() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Refused(
            "namespace nodes need root (they mount file systems): run lab as root, or use \
             --provider vm"
                .to_owned(),
        ));
    }
    if fs::metadata("/proc/self/ns/user").is_err() {
        return Err(Error::Refused(
            "this kernel has no user namespaces (CONFIG_USER_NS): use --provider vm".to_owned(),
        ));
    }
    Ok(())
}
