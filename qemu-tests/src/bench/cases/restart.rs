//! From a service's death to its next execution.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{Bench, Figure, Measured};
use crate::{
    bench::{figure::Statistic, nodes::Masthead},
    error::{Attempt, Error, Result},
    provider::{Node, Signal},
};

/// Those that others depend on last.
const SERVICES: [&str; 4] = [
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "etcd",
];
const GOAL_MS: f64 = 100.0;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// No service takes so long to die or to be restarted for the first time.
const PATIENCE: Duration = Duration::from_secs(20);

/// One death.
struct Death {
    /// From the signal to the end of the process, in ms: what the kernel needs to take a large process down.
    dying: f64,
    /// From its end to the execution of the next, in ms.
    dead: f64,
}

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let mut deaths: Vec<(&str, Vec<Death>)> = SERVICES.map(|service| (service, Vec::new())).into();
    for _ in 0..bench.runs {
        // Anew each time: only a first death is not waited after.
        let masthead = Masthead::ready(bench, "restart")?;
        for (service, deaths) in &mut deaths {
            masthead.wait_for_service(service)?;
            deaths.push(kill(masthead.node(), service)?);
        }
        masthead.remove()?;
    }
    let mut figures = Vec::new();
    for (service, deaths) in deaths {
        let times = |which: fn(&Death) -> f64| deaths.iter().map(which).collect();
        figures.push(
            Figure::new(
                format!("{service}, from its end to its next exec"),
                "ms",
                times(|death| death.dead),
            )
            .goal(Statistic::Maximum, GOAL_MS),
        );
        figures.push(Figure::new(
            format!("{service}, from SIGKILL to its end"),
            "ms",
            times(|death| death.dying),
        ));
    }
    Ok(Measured {
        figures,
        notes: vec![
            "The first death of each service in a fresh namespace node whose services were ready; later ones are delayed on purpose.".to_owned(),
            "The end is when the process's pidfd says so. The next exec is when a new process in the service's control group shows the service's command line, looked at every 1 ms.".to_owned(),
        ],
    })
}

fn kill(node: &dyn Node, service: &str) -> Result<Death> {
    let before = node.processes(service)?;
    let process = before.first().and_then(|&process| Pid::from_raw(process));
    let process = process.ok_or_else(|| Error::Refused(format!("{service} does not run")))?;
    let descriptor = pidfd_open(process, PidfdFlags::empty())
        .attempt(|| format!("open the process of {service}"))?;

    let killed = Instant::now();
    node.signal(service, Signal::Kill)?;
    let timeout = Timespec::try_from(PATIENCE).map_err(|_| Error::Refused("no time".to_owned()))?;
    let ended = poll(
        &mut [PollFd::new(&descriptor, PollFlags::IN)],
        Some(&timeout),
    )
    .attempt(|| format!("wait for the end of {service}"))?;
    let died = Instant::now();
    if ended == 0 {
        return Err(Error::Refused(format!("{service} did not die of SIGKILL")));
    }
    let executed = loop {
        let now = node.processes(service)?;
        let executes = |process: &i32| {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let program = line.split(|&byte| byte == 0).next().unwrap_or_default();
            !before.contains(process) && program.ends_with(service.as_bytes())
        };
        if now.iter().any(executes) {
            break Instant::now();
        }
        if died.elapsed() > PATIENCE {
            return Err(Error::Refused(format!(
                "{service} was not started again within {} s; see {}",
                PATIENCE.as_secs(),
                node.plan().console().display()
            )));
        }
        thread::sleep(BETWEEN_LOOKS);
    };
    let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1000.0;
    Ok(Death {
        dying: milliseconds(killed, died),
        dead: milliseconds(died, executed),
    })
}
