//! PID 1's real loop with a stand-in for the supervisor, for `tests/pid1_namespace.rs`.
//!
//! A real supervisor lives, beats and acknowledges; PID 1's promises are about those that do not. As
//! process 1 this program runs the loop of `/init` after its real preparation; as `supervisor` it speaks the
//! real link, behaves as the file `behaviour` in its directory says, and writes down what it is told.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use masthead_init::link::{Ending, FromPid1, SUPERVISOR_LINK_FD, SupervisorLink};
use masthead_init::{pid1, supervisor};
use masthead_policy::readback::{self, Difference};
use masthead_policy::{KernelSettings, Mounts};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|role| role == "supervisor") {
        let seed = arguments
            .iter()
            .find_map(|argument| argument.to_str()?.strip_prefix("--seed="));
        let directory = PathBuf::from(seed.expect("the directory of the test"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        return runtime.expect("a runtime").block_on(supervise(&directory));
    }
    let program = env::current_exe().expect("this program");
    pid1::main_with(program.as_os_str(), &arguments)
}

async fn supervise(directory: &Path) -> ExitCode {
    let behaviour = fs::read_to_string(directory.join("behaviour")).unwrap_or_default();
    let says = |word: &str| behaviour.split_whitespace().any(|one| one == word);
    let report = |line: String| {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(directory.join("report"))
            .expect("the report");
        writeln!(file, "{line}").expect("written");
    };
    if says("die-at-once") {
        report("died".into());
        return ExitCode::from(3);
    }
    let link = SupervisorLink::inherit(SUPERVISOR_LINK_FD).expect("the link");
    for number in 0..if says("orphans") { 3 } else { 0 } {
        // A service of a supervisor that dies before it.
        let mut orphan = Command::new("/bin/sh");
        let script = format!(
            "while [ ! -e go ]; do sleep 0.01; done; exit {}",
            number + 40
        );
        orphan.args(["-c", &script]).current_dir(directory);
        report(format!(
            "orphan {}",
            orphan.spawn().expect("a process").id()
        ));
    }
    if says("crowd") {
        // More exits than a link has room for and PID 1 keeps, of children whose parent ends before them.
        let script = "n=0; while [ $n -lt 600 ]; do sh -c ': &'; n=$((n + 1)); done";
        let shell = Command::new("/bin/sh").args(["-c", script]).status();
        assert!(shell.expect("a shell").success());
        report("crowded".into());
    }
    if says("panics-beside") {
        supervisor::abort_on_panic();
        let blocking = tokio::task::spawn_blocking(|| panic!("beside the tasks")).await;
        report(format!("told of a panic: {}", blocking.is_err()));
    }
    if says("panics") {
        supervisor::abort_on_panic();
        tokio::spawn(async { panic!("in a task") });
    }
    if says("replay") {
        link.replay().await.expect("sent");
    }
    if says("compare") {
        for difference in differences() {
            report(format!("difference: {difference}"));
        }
        report("compared".into());
    }
    if says("asks-when-let") {
        while !directory.join("go").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        link.request(Ending::PowerOff).await.expect("sent");
        report("asked".into());
    }
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = beat.tick() => link.beat().await.expect("sent"),
            message = link.next_message(), if !says("deaf") || directory.join("go").exists() => match message.expect("PID 1 lives") {
                FromPid1::Welcome(welcome) => {
                    report(format!("welcome {} {:?} pid {}", welcome.supervisor_starts,
                        welcome.previous_end, std::process::id()));
                }
                FromPid1::Exit(exit) => {
                    report(format!("exit {} {}", exit.process.pid, exit.wait_status >> 8));
                    if says("acknowledge") {
                        link.acknowledge(exit.process).await.expect("sent");
                        report(format!("acknowledged {}", exit.process.pid));
                    }
                }
                FromPid1::Stop(ending) => {
                    report(format!("stop {ending:?}"));
                    if !says("never-stops") {
                        link.shutdown(ending).await.expect("sent");
                    }
                }
            },
        }
        if says("powers-off") {
            link.shutdown(Ending::PowerOff).await.expect("sent");
        }
    }
}

/// Where this node is not as the policy tables say.
fn differences() -> Vec<Difference> {
    let mounted = fs::read_to_string("/proc/self/mounts").expect("readable");
    let mut all = readback::mounts(&Mounts::embedded().expect("a table"), false, &mounted);
    let settings = KernelSettings::embedded().expect("a table");
    all.extend(readback::kernel_settings(&settings, false, |path| {
        fs::read_to_string(Path::new("/proc/sys").join(path))
    }));
    all.retain(Difference::is_fault);
    all
}
