//! Starting a service in its leaf.

use std::ffi::{CString, NulError, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::Resource;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::child::{self, Child};
use super::launch::{Launch, ResourceLimit};
use super::leaf::{Leaf, LeafError};
use super::plan::{Plan, REPORT_SIZE, Report, Step};
use super::running::Running;
use super::stat::Stat;

/// Why a service was not started. Nothing of it is left in its leaf.
#[derive(Debug, Error)]
pub enum StartError {
    /// The leaf is populated: what runs there is the service, to be adopted or killed first.
    #[error(
        "service `{service}` is not started: its control group `{}` is populated; adopt or kill what runs there",
        leaf.display()
    )]
    Populated {
        /// The service.
        service: String,
        /// The leaf's directory.
        leaf: PathBuf,
    },
    /// The leaf could not be read.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The program, an argument, a variable or the directory holds a NUL byte.
    #[error("service `{service}` is not started: its launch holds a NUL byte")]
    Nul {
        /// The service.
        service: String,
        /// Where.
        source: NulError,
    },
    /// Something that the child needs could not be made.
    #[error("service `{service}` is not started: cannot {action}")]
    Prepare {
        /// The service.
        service: String,
        /// What could not be done.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel made no process in the leaf. There is no other way that would not leave a moment
    /// in which the process is outside of its leaf.
    #[error(
        "service `{service}` is not started: the kernel or the namespace refuses clone3(CLONE_INTO_CGROUP | CLONE_PIDFD) into `{}`; Linux 5.7 and a writable cgroup2 are needed",
        leaf.display()
    )]
    Clone {
        /// The service.
        service: String,
        /// The leaf's directory.
        leaf: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A step between the birth of the process and its program failed.
    #[error("service `{service}` (`{}`) is not started: cannot {step}", program.display())]
    Step {
        /// The service.
        service: String,
        /// The program.
        program: PathBuf,
        /// What could not be done.
        step: String,
        /// Why.
        source: io::Error,
    },
}

/// Starts a program in an empty leaf, which it [renews](Leaf::renew), and returns when the program
/// executes.
///
/// Not to be cancelled: the process would live on, to be [adopted](super::running::adopt). Must be called on the
/// runtime, by the one who alone starts this service.
pub async fn start(leaf: &Leaf, launch: &Launch) -> Result<Running, StartError> {
    let service = leaf.name();
    let failed = |action: &str| {
        let (service, action) = (service.to_owned(), action.to_owned());
        move |source| StartError::Prepare {
            service,
            action,
            source,
        }
    };
    if !leaf.renew()? {
        let (service, leaf) = (service.to_owned(), leaf.directory().to_owned());
        return Err(StartError::Populated { service, leaf });
    }
    let plan = plan(service, launch)?;
    let group = File::open(leaf.directory()).map_err(failed("open its control group"))?;
    let (receiver, sender) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|error| failed("make a pipe")(error.into()))?;
    let mut receiver = pipe::Receiver::from_owned_fd(receiver).map_err(failed("watch a pipe"))?;

    let Child { pid, pidfd } =
        child::spawn(&plan, group.as_fd(), sender.as_fd()).map_err(|source| {
            let (service, leaf) = (service.to_owned(), leaf.directory().to_owned());
            StartError::Clone {
                service,
                leaf,
                source,
            }
        })?;
    drop((sender, plan));

    // A child is ours until we reap it: its id cannot mean another process.
    let key = Stat::read(pid).map_err(failed("read its start time"))?.key;
    let mut running = Running::new(key, pidfd).map_err(failed("watch its process"))?;

    let mut report = [0; REPORT_SIZE];
    match receiver.read_exact(&mut report).await {
        // Closed without a report: the program executes, or the child was killed, which shows in
        // `exited` like every other end.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(running),
        Err(error) => Err(failed("read what its process reports")(error)),
        Ok(_) => {
            running.exited().await.map_err(failed("reap its process"))?;
            leaf.emptied().await?;
            let invalid = || failed("understand its process")(io::ErrorKind::InvalidData.into());
            let report = Report::decode(report).ok_or_else(invalid)?;
            Err(StartError::Step {
                service: service.to_owned(),
                program: launch.program.clone(),
                step: describe(report, launch),
                source: io::Error::from_raw_os_error(report.errno),
            })
        }
    }
}

/// Makes everything that the child needs.
fn plan(service: &str, launch: &Launch) -> Result<Plan, StartError> {
    let text = |bytes: &OsStr| {
        CString::new(bytes.as_bytes()).map_err(|source| StartError::Nul {
            service: service.to_owned(),
            source,
        })
    };
    let open = |path: &Path, options: &OpenOptions| {
        options
            .open(path)
            .and_then(above_standard)
            .map_err(|source| StartError::Prepare {
                service: service.to_owned(),
                action: format!("open `{}`", path.display()),
                source,
            })
    };
    let rights = &launch.rights;
    let program = text(launch.program.as_os_str())?;
    let arguments = [Ok(program.clone())]
        .into_iter()
        .chain(launch.arguments.iter().map(|argument| text(argument)))
        .collect::<Result<_, _>>()?;
    let environment = launch
        .environment
        .iter()
        .map(|(name, value)| {
            let mut variable = name.clone();
            variable.push("=");
            variable.push(value);
            text(&variable)
        })
        .collect::<Result<_, _>>()?;
    let kept: Vec<u8> = rights
        .capabilities
        .iter()
        .map(caps::Capability::index)
        .collect();
    let last = last_capability().map_err(|source| StartError::Prepare {
        service: service.to_owned(),
        action: format!("read `{LAST_CAPABILITY}`"),
        source,
    })?;
    let no_core = ResourceLimit {
        resource: Resource::RLIMIT_CORE,
        soft: 0,
        hard: 0,
    };
    Ok(Plan {
        program,
        arguments,
        environment,
        directory: text(launch.directory.as_os_str())?,
        input: open(Path::new("/dev/null"), File::options().read(true))?,
        output: open(
            &launch.output,
            File::options().append(true).create(true).mode(0o600),
        )?,
        resource_limits: rights
            .resource_limits
            .iter()
            .chain([&no_core])
            .map(
                |&ResourceLimit {
                     resource,
                     soft,
                     hard,
                 }| {
                    (
                        resource as _,
                        libc::rlimit {
                            rlim_cur: soft,
                            rlim_max: hard,
                        },
                    )
                },
            )
            .collect(),
        oom_score_adjust: rights.oom_score_adjust.to_string(),
        user: rights.account.user,
        group: rights.account.group,
        groups: rights.account.groups.clone(),
        dropped: (0..=last)
            .filter(|capability| !kept.contains(capability))
            .collect(),
        kept,
    })
}

/// A descriptor that is none of the standard ones, which the child overwrites.
fn above_standard(file: File) -> io::Result<OwnedFd> {
    if file.as_raw_fd() > 2 {
        return Ok(file.into());
    }
    Ok(fcntl_dupfd_cloexec(&file, 3)?)
}

const LAST_CAPABILITY: &str = "/proc/sys/kernel/cap_last_cap";

/// The number of the last capability that the running kernel knows.
fn last_capability() -> io::Result<u8> {
    let text = fs::read_to_string(LAST_CAPABILITY)?;
    text.trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Completes "cannot …".
fn describe(report: Report, launch: &Launch) -> String {
    let capability = || {
        let known = caps::all()
            .into_iter()
            .find(|capability| capability.index() == report.detail);
        known.map_or_else(
            || report.detail.to_string(),
            |capability| capability.to_string(),
        )
    };
    let rights = &launch.rights;
    let account = &rights.account;
    match report.step {
        Step::Session => "begin a session (setsid)".to_owned(),
        Step::Signals => "reset the signal mask".to_owned(),
        Step::Descriptors => "arrange the file descriptors".to_owned(),
        Step::ResourceLimit => rights
            .resource_limits
            .get(usize::from(report.detail))
            .map_or_else(
                || "forbid core dumps (RLIMIT_CORE)".to_owned(),
                |limit| {
                    format!(
                        "set {:?} to soft {}, hard {}",
                        limit.resource, limit.soft, limit.hard
                    )
                },
            ),
        Step::OomScore => format!("set oom_score_adj to {}", rights.oom_score_adjust),
        Step::Dumpable => "forbid attaching (PR_SET_DUMPABLE)".to_owned(),
        Step::BoundingSet => format!("drop {} from the bounding set", capability()),
        Step::Groups => format!("set the groups {:?}", account.groups),
        Step::Group => format!("become group {}", account.group),
        Step::KeepCapabilities => "keep capabilities (PR_SET_KEEPCAPS)".to_owned(),
        Step::User => format!("become user {}", account.user),
        Step::Capabilities => format!("set the capabilities {:?}", rights.capabilities),
        Step::AmbientSet => format!("raise {} in the ambient set", capability()),
        Step::NoNewPrivileges => "set no_new_privs".to_owned(),
        Step::Directory => format!("enter the directory `{}`", launch.directory.display()),
        Step::Execute => format!("execute `{}`", launch.program.display()),
    }
}
