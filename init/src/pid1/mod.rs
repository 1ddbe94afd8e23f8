//! PID 1: synchronous, single-threaded, small.
//!
//! | module | what |
//! |---|---|
//! | [`initramfs`] | stage 1: from the initramfs into the EROFS root |
//! | [`mounts`], [`clock`], [`kernel_settings`], [`modules`], [`cgroups`] | stage 2: what a node stands on, from the policy tables |
//! | [`main_loop`] | signals, the link, children and deadlines, with nothing allocated |
//! | [`watch`], [`ending`], [`exits`] | its decisions, without effects: when to start or kill a supervisor, the phases of a shutdown, the exits that are not acknowledged |
//! | [`finish`] | the last processes, the file systems, `reboot(2)` |
//! | [`children`], [`watchdog`], [`footprint`] | what needs `unsafe`; the last one gives memory back |
//! | [`log`], [`zombie`] | lines on the console; what `/proc` says of the dead |
//!
//! It never ends by a panic: what cannot go on is said on the console, and the node reboots.

mod cgroups;
pub mod children;
mod clock;
pub mod ending;
pub mod exits;
mod finish;
mod footprint;
mod handed_over;
mod initramfs;
mod kernel_settings;
mod log;
pub mod main_loop;
pub mod modules;
pub mod mounts;
pub mod watch;
mod watchdog;
mod zombie;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::panic;
use std::path::Path;

use masthead_machine::Scale;
use masthead_policy::{KernelSettings, Modules, Mounts, Services, Supervisor};
use rustix::process::Resource;
use rustix::system::{RebootCommand, reboot, uname};

use self::children::Program;
use self::finish::give_up;
use self::log::say;
use self::main_loop::MainLoop;
use self::watchdog::Watchdog;
use crate::link::SUPERVISOR_LINK_FD;
use crate::listeners;
use crate::node::{Facility, NodeKind, NodeOptions, SCALE_IN_FIRMWARE};

/// The root of the initramfs, if it holds what an installation needs: the image's root, and the frame around it.
pub const INITRAMFS: &str = "/run/masthead/initramfs";

/// This binary, in every root.
const INIT: &str = "/init";

/// Runs as PID 1 of an initramfs: goes on as `/init` of the EROFS root that lies in it, and never returns.
pub fn first_stage() -> ! {
    not_by_panic(NodeKind::Machine, || Ok(initramfs::switch_root()?))
}

/// Runs as PID 1 with these arguments (without the program's name), and never returns.
pub fn main(arguments: &[OsString]) -> ! {
    main_with(OsStr::new(INIT), arguments)
}

/// The same with another program than `/init` in the supervisor's role.
pub fn main_with(supervisor: &OsStr, arguments: &[OsString]) -> ! {
    let blocked = main_loop::block_signals();
    // What is known before the arguments are: the lab's namespaces are told by their first one.
    let namespace = arguments
        .first()
        .is_some_and(|first| first == "--namespace");
    let kind = if namespace {
        NodeKind::Namespace
    } else {
        NodeKind::Machine
    };
    if let Err(error) = blocked {
        say!("signals that arrive before the supervisor is started are lost: {error}");
    }
    not_by_panic(kind, || boot(kind, supervisor, arguments))
}

/// Ends in words on the console, and a reboot, when the work fails or panics.
fn not_by_panic(
    kind: NodeKind,
    work: impl FnOnce() -> Result<Infallible, AnyError> + panic::UnwindSafe,
) -> ! {
    panic::set_hook(Box::new(|panic| {
        say!("a fault of PID 1 itself: {panic}");
        finish::tell_kernel("PID 1 panicked; its last lines are on the console");
    }));
    match panic::catch_unwind(work) {
        Ok(Err(reason)) => give_up(kind, Scale::REAL, &Chain(&*reason)),
        Err(_) => give_up(kind, Scale::REAL, &"see the fault above"),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A machine without one is a machine that hangs for good when it hangs.
fn watchdog(options: &NodeOptions, handed_over: Option<File>) -> Option<Watchdog> {
    if !options.kind.has(Facility::Watchdog) {
        return None;
    }
    let device = Path::new(watchdog::DEVICE);
    match Watchdog::start(handed_over, device, options.scale, main_loop::now()) {
        Ok((watchdog, timeout)) => {
            say!(
                "the watchdog resets this machine after {} s without PID 1",
                timeout.as_secs()
            );
            Some(watchdog)
        }
        Err(error) => {
            say!("no watchdog: {}: {error}", watchdog::DEVICE);
            None
        }
    }
}

/// The second stage and the loop; it returns only when it cannot go on.
fn boot(
    kind: NodeKind,
    supervisor: &OsStr,
    arguments: &[OsString],
) -> Result<Infallible, AnyError> {
    let mut options = NodeOptions::of_pid1(arguments)?;
    let early = handed_over::inherit(arguments, handed_over::WATCHDOG).map(File::from);
    let leaf = prepare(&mut options)?;
    let _initramfs = keep_initramfs(arguments);
    let supervisor = supervisor_program(supervisor, &options, leaf)?;
    let main_loop = MainLoop::new(&options, &supervisor, watchdog(&options, early))?;
    if let Err(error) = footprint::forget_start_up() {
        say!("the memory of the start-up is kept: {error}");
    }
    let ending = main_loop.run();
    finish::finish(kind, options.scale, ending)
}

/// Keeps what the initramfs holds for the disk where the supervisor finds it, for as long as this is.
fn keep_initramfs(arguments: &[OsString]) -> Option<OwnedFd> {
    let initramfs = handed_over::inherit(arguments, handed_over::INITRAMFS)?;
    let target = format!("/proc/1/fd/{}", initramfs.as_raw_fd());
    let kept = std::fs::create_dir_all("/run/masthead")
        .and_then(|()| std::os::unix::fs::symlink(target, INITRAMFS));
    if let Err(error) = kept {
        say!("what the initramfs holds is not found any more: {INITRAMFS}: {error}");
    }
    Some(initramfs)
}

/// Stage 2: makes the node ready for its supervisor, and returns the latter's control group.
fn prepare(options: &mut NodeOptions) -> Result<Option<OwnedFd>, AnyError> {
    let kind = options.kind;
    mounts::mount_all(&Mounts::embedded()?, kind)?;
    if kind.has(Facility::Console) {
        open_console();
        // The kernel then sends INT instead of rebooting on the spot.
        if let Err(error) = reboot(RebootCommand::CadOff) {
            say!("Ctrl-Alt-Del reboots without an orderly end: {error}");
        }
    }
    say_what_is_missing(kind);
    let release = Path::new("/etc/masthead/release.json");
    if let Err(error) = clock::check(release, kind.has(Facility::Clock)) {
        say!(
            "the clock was not checked against {}: {error}",
            release.display()
        );
    }
    if kind.has(Facility::Modules) {
        load_modules(&Modules::embedded()?);
    }
    kernel_settings::write_all(&KernelSettings::embedded()?, kind, Path::new("/proc/sys"));
    if let Err(error) = options.read_scale(Path::new(SCALE_IN_FIRMWARE)) {
        say!("the timing scale of the firmware is not used: {error}");
    }
    let supervisor = Services::embedded()?.supervisor;
    let leaf = cgroups::prepare(Path::new(cgroups::ROOT), supervisor.pids_max);
    Ok(leaf
        .inspect_err(|error| say!("control groups are not set up: {error}"))
        .ok())
}

/// The console as standard output and error, where the kernel left them closed.
fn open_console() {
    if children::standard_descriptors_are_open() {
        return;
    }
    let open = || {
        let console = File::options()
            .read(true)
            .write(true)
            .open("/dev/console")?;
        rustix::stdio::dup2_stdin(&console)?;
        rustix::stdio::dup2_stdout(&console)?;
        rustix::stdio::dup2_stderr(&console)?;
        Ok::<_, io::Error>(())
    };
    if let Err(error) = open() {
        finish::tell_kernel(&format!("there is no console: {error}"));
    }
}

fn say_what_is_missing(kind: NodeKind) {
    let missing: Vec<_> = Facility::ALL
        .into_iter()
        .filter(|one| !kind.has(*one))
        .collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.into_iter().map(Facility::name).collect();
        say!("a {kind} node, which does without: {}", names.join(", "));
    }
}

/// Modules by name, then by device. A node without modules is one whose kernel has everything.
fn load_modules(table: &Modules) {
    let version = uname().release().to_string_lossy().into_owned();
    let directory = Path::new("/lib/modules").join(version);
    match modules::Loader::open(&directory) {
        Ok(mut loader) => {
            loader.load_lists(table);
            let drivers = loader.load_for_devices(Path::new("/sys/devices"), table);
            say!("loaded the drivers of the devices: {drivers}");
        }
        Err(error) => say!("no kernel modules in {}: {error}", directory.display()),
    }
}

/// This binary in its other role: with its options and sockets, in its control group, under its limits.
fn supervisor_program(
    path: &OsStr,
    options: &NodeOptions,
    leaf: Option<OwnedFd>,
) -> Result<Program, AnyError> {
    let listeners = listeners::bind_all(|address, error| {
        say!("{address} is left to each supervisor to bind: {error}");
    });
    let mut arguments: Vec<OsString> = vec![
        "supervisor".into(),
        format!("--link-fd={SUPERVISOR_LINK_FD}").into(),
        format!("--listeners={}", listeners.len()).into(),
    ];
    arguments.extend(options.arguments());
    let mut program = Program::new(path, arguments)?.with_listeners(&listeners)?;
    if let Some(leaf) = leaf {
        program = program.in_leaf(leaf);
    }
    let Supervisor {
        oom_score_adj,
        limits,
        ..
    } = Services::embedded()?.supervisor;
    if options.kind.has(Facility::OomProtection) {
        program = program.with_oom_score_adj(oom_score_adj);
    }
    for (name, value) in limits {
        let resource = match name.as_str() {
            "nofile" => Resource::Nofile,
            "core" => Resource::Core,
            other => return Err(format!("the supervisor cannot be limited in `{other}`").into()),
        };
        program = program.with_limit(resource, value);
    }
    Ok(program)
}

/// An error with everything that led to it.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(formatter, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
