//! PID 1's loop: signals, the link, children, deadlines. It allocates nothing.

use std::os::fd::AsFd;

use masthead_machine::BootTime;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use rustix::time::{ClockId, clock_gettime};

use super::children::{Next, Program, next_ended};
use super::ending::{Shutdown, Step};
use super::exits::{CAPACITY, ExitTable, Origin};
use super::finish;
use super::log::say;
use super::watch::{Order, Watch};
use super::watchdog::Watchdog;
use super::zombie;
use crate::link::{
    self, Ending, Exit, FromPid1, FromSupervisor, Pid1Link, PreviousEnd, ProcessKey, Received,
    Welcome,
};
use crate::node::NodeOptions;

/// Messages that are taken from the link before other work gets its turn.
const MESSAGES_AT_ONCE: usize = 64;

/// The loop's state.
#[derive(Debug)]
pub struct MainLoop<'a> {
    options: &'a NodeOptions,
    program: &'a Program,
    signals: SignalFd,
    exits: ExitTable,
    watch: Watch,
    shutdown: Shutdown,
    supervisor: Option<Supervisor>,
    starts: u32,
    previous_end: PreviousEnd,
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Supervisor {
    pid: Pid,
    /// Gone once the supervisor has closed its end.
    link: Option<Pid1Link>,
    silenced: bool,
    /// It has taken the word to stop the services.
    told_to_stop: bool,
}

/// Blocks the signals that PID 1 acts on: CHLD, TERM (power off) and INT (reboot; Ctrl-Alt-Del on a
/// machine). To be called first of all: what arrives before the loop then waits for it, instead of
/// being lost, as the kernel drops what its PID 1 neither handles nor blocks.
pub(super) fn block_signals() -> Result<(), Errno> {
    signals().thread_block()
}

fn signals() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]
        .into_iter()
        .collect()
}

impl<'a> MainLoop<'a> {
    /// Takes the signals that PID 1 acts on, which are blocked since its first moment. `program` is what
    /// is started as the supervisor, and `watchdog` what is fed.
    pub(super) fn new(
        options: &'a NodeOptions,
        program: &'a Program,
        watchdog: Option<Watchdog>,
    ) -> Result<Self, Errno> {
        Ok(Self {
            options,
            program,
            signals: SignalFd::with_flags(
                &signals(),
                SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
            )?,
            exits: ExitTable::default(),
            watch: Watch::new(now(), options.scale),
            shutdown: Shutdown::new(options.scale),
            supervisor: None,
            starts: 0,
            previous_end: PreviousEnd::None,
            watchdog,
        })
    }

    /// Runs until no process is left, or none that would go, and says how the node shall end.
    pub fn run(mut self) -> Ending {
        loop {
            self.take_signals();
            if let Some(ending) = self.reap() {
                return ending;
            }
            self.take_messages();
            if let Some(ending) = self.act_on_time() {
                return ending;
            }
            self.send_owed();
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.feed(now());
            }
            self.wait();
        }
    }

    /// No supervisor has said anything for very long: a machine that serves nobody is to become another one, or at least absent.
    fn give_up(&mut self) -> Option<Ending> {
        say!("no supervisor has said anything for too long: rebooting");
        let step = self.shutdown.request(now(), Ending::Reboot)?;
        Self::carry_out(step)
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let ending = match Signal::try_from(signal.ssi_signo.cast_signed()) {
                Ok(Signal::SIGTERM) => Ending::PowerOff,
                Ok(Signal::SIGINT) => Ending::Reboot,
                // CHLD: the loop looks for ended children anyhow.
                _ => continue,
            };
            say!("asked to {} by signal {}", word(ending), signal.ssi_signo);
            let step = self.shutdown.request(now(), ending);
            // Neither asking the supervisor nor asking again ends the loop.
            let _ = step.and_then(Self::carry_out);
        }
    }

    /// Reaps what has ended. Some ending once nobody is left and the node shall end.
    fn reap(&mut self) -> Option<Ending> {
        for _ in 0..CAPACITY {
            match next_ended() {
                Next::Running => return None,
                Next::Nobody => {
                    let step = self.shutdown.nobody_left()?;
                    return Self::carry_out(step);
                }
                Next::Ended(pid) => self.reap_one(pid),
            }
        }
        None
    }

    fn reap_one(&mut self, pid: Pid) {
        let stat = zombie::stat(pid);
        let process = ProcessKey {
            pid: pid.as_raw_pid().cast_unsigned(),
            start_time: stat.start_time,
        };
        let origin = match (zombie::was_of_service(pid), stat.led_session) {
            (false, _) => Origin::Stranger,
            (true, false) => Origin::Helper,
            (true, true) => Origin::Service,
        };
        let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG) else {
            return;
        };
        if self
            .supervisor
            .as_ref()
            .is_some_and(|supervisor| supervisor.pid == pid)
        {
            self.supervisor_ended(status);
            return;
        }
        let exit = Exit {
            process,
            wait_status: status.as_raw(),
        };
        // A flood of orphans must not become one of lines: each time that twice as many are forgotten.
        if let Some(dropped) = self.exits.keep(exit, origin)
            && self.exits.dropped().is_power_of_two()
        {
            say!(
                "the table of exits is full: forgot how process {} ended ({} forgotten since boot)",
                dropped.process.pid,
                self.exits.dropped()
            );
        }
    }

    fn supervisor_ended(&mut self, status: WaitStatus) {
        self.take_last_words();
        let supervisor = self.supervisor.take();
        let silenced = supervisor.is_some_and(|supervisor| supervisor.silenced);
        let code = |code: Option<i32>| code.unwrap_or_default().cast_unsigned();
        self.previous_end = match status.terminating_signal() {
            _ if silenced => PreviousEnd::Silent,
            Some(signal) => PreviousEnd::Killed(code(Some(signal))),
            None => PreviousEnd::Exited(code(status.exit_status())),
        };
        if !self.shutdown.wants_supervisor() {
            return;
        }
        let delay = self.watch.ended(now()).as_millis();
        match self.previous_end {
            PreviousEnd::Silent => say!("the silent supervisor is dead; the next in {delay} ms"),
            PreviousEnd::Killed(signal) => {
                say!("the supervisor was killed by signal {signal}; the next in {delay} ms");
            }
            PreviousEnd::Exited(code) => {
                say!("the supervisor exited with code {code}; the next in {delay} ms");
            }
            PreviousEnd::None => {}
        }
    }

    /// Takes what a supervisor that runs no more has left on the link: an operator may have been told that it is done.
    fn take_last_words(&mut self) {
        while self.take_messages() {}
    }

    /// Takes messages, up to a bound; `true` when there may be more.
    fn take_messages(&mut self) -> bool {
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(link) = self.supervisor.as_ref().and_then(|one| one.link.as_ref()) else {
                return false;
            };
            match link.receive() {
                Ok(Received::Message(message)) => self.take_message(message),
                Ok(Received::Garbage(error)) => say!("{error}"),
                Ok(Received::Nothing) => return false,
                // A supervisor without a link can beat no more, and is killed in time.
                Ok(Received::Closed) | Err(_) => self.drop_link(),
            }
        }
        true
    }

    fn take_message(&mut self, message: FromSupervisor) {
        match message {
            FromSupervisor::Beat => self.watch.beat(now()),
            FromSupervisor::Acknowledge(process) => self.exits.acknowledge(process),
            FromSupervisor::Replay => self.exits.replay(),
            FromSupervisor::Request(ending) => {
                say!("the supervisor was asked to end the node: {}", word(ending));
                let step = self.shutdown.request(now(), ending);
                let _ = step.and_then(Self::carry_out);
            }
            FromSupervisor::Shutdown(ending) => {
                say!("the supervisor has stopped the services: {}", word(ending));
                let step = self.shutdown.services_stopped(now(), ending);
                let _ = step.and_then(Self::carry_out);
            }
        }
    }

    /// Some ending when the last phase has taken too long.
    fn act_on_time(&mut self) -> Option<Ending> {
        if self.shutdown.wants_supervisor() {
            match self.watch.due(now()) {
                Some(Order::Start) => self.start_supervisor(),
                Some(Order::Kill) => self.kill_silent_supervisor(),
                Some(Order::Abandon) => self.abandon_supervisor(),
                Some(Order::GiveUp) => return self.give_up(),
                None => {}
            }
        }
        let step = self.shutdown.due(now())?;
        say!("time is up for this phase of the shutdown");
        Self::carry_out(step)
    }

    fn start_supervisor(&mut self) {
        let started = link::pair().and_then(|(ours, theirs)| {
            let pid = self.program.start(&theirs)?;
            Ok((pid, ours))
        });
        let (pid, link) = match started {
            Ok(started) => started,
            Err(error) => {
                let delay = self.watch.ended(now()).as_millis();
                let reason = Errno::from_raw(error.raw_os_error().unwrap_or_default()).desc();
                say!("cannot start the supervisor: {reason}; the next attempt in {delay} ms");
                return;
            }
        };
        self.starts = self.starts.saturating_add(1);
        self.watch.started(now());
        self.exits.hold();
        say!(
            "started the supervisor, process {}, number {} since boot",
            pid,
            self.starts
        );
        self.supervisor = Some(Supervisor {
            pid,
            link: Some(link),
            silenced: false,
            told_to_stop: false,
        });
        self.send(FromPid1::Welcome(Welcome {
            node_kind: self.options.kind,
            timing_scale: self.options.scale,
            supervisor_starts: self.starts,
            previous_end: self.previous_end,
        }));
    }

    fn kill_silent_supervisor(&mut self) {
        let Some(supervisor) = &mut self.supervisor else {
            return;
        };
        say!(
            "the supervisor, process {}, is silent for too long: killing it",
            supervisor.pid
        );
        supervisor.silenced = true;
        // It is a child that was not reaped, so the number is its own.
        let _ = kill(
            nix::unistd::Pid::from_raw(supervisor.pid.as_raw_pid()),
            Signal::SIGKILL,
        );
    }

    /// Goes on without the one that was killed and is not gone. What is left of it runs no more; reaped one
    /// day, it is an exit like any other.
    fn abandon_supervisor(&mut self) {
        self.take_last_words();
        let Some(supervisor) = self.supervisor.take() else {
            return;
        };
        self.previous_end = PreviousEnd::Silent;
        let delay = self.watch.ended(now()).as_millis();
        say!(
            "the supervisor, process {}, does not die while a disk does not answer; another one beside it in {delay} ms",
            supervisor.pid
        );
    }

    fn carry_out(step: Step) -> Option<Ending> {
        match step {
            Step::AskSupervisor(ending) => {
                say!(
                    "asking the supervisor to stop the services, then {}",
                    word(ending)
                );
            }
            Step::TerminateAll => {
                say!("asking all processes to end");
                finish::signal_everybody(Signal::SIGTERM);
            }
            Step::KillAll => {
                say!("killing all processes");
                finish::kill_services();
                finish::signal_everybody(Signal::SIGKILL);
            }
            Step::Finish(ending) => return Some(ending),
        }
        None
    }

    /// Sends what the supervisor has room for; `false` when it has none.
    fn send(&mut self, message: FromPid1) -> bool {
        let Some(link) = self.supervisor.as_ref().and_then(|one| one.link.as_ref()) else {
            return false;
        };
        if let Ok(taken) = link.send(message) {
            taken
        } else {
            self.drop_link();
            false
        }
    }

    fn drop_link(&mut self) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.link = None;
        }
    }

    /// The word to stop the services, if the supervisor has not taken it yet.
    fn stop_owed(&self) -> Option<Ending> {
        let told = self.supervisor.as_ref()?.told_to_stop;
        self.shutdown.stopping().filter(|_| !told)
    }

    /// Sends what the supervisor is owed, as far as it has room for it: a full link loses nothing.
    fn send_owed(&mut self) {
        if let Some(ending) = self.stop_owed() {
            let taken = self.send(FromPid1::Stop(ending));
            if let Some(supervisor) = &mut self.supervisor {
                supervisor.told_to_stop = taken;
            }
        }
        while let Some(exit) = self.exits.next_to_send() {
            if !self.send(FromPid1::Exit(exit)) {
                return;
            }
            self.exits.sent(exit.process);
        }
    }

    fn wait(&self) {
        let watch = self
            .watch
            .wake_at()
            .filter(|_| self.shutdown.wants_supervisor());
        let watchdog = self.watchdog.as_ref().map(Watchdog::wake_at);
        let times = [watch, watchdog, self.shutdown.wake_at()];
        let wake_at = times.into_iter().flatten().min();
        let timeout = wake_at.map(|instant| {
            let wait = instant.since(now());
            Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            }
        });
        let signals = PollFd::new(&self.signals, PollFlags::IN);
        let link = self
            .supervisor
            .as_ref()
            .and_then(|supervisor| supervisor.link.as_ref());
        let result = match link {
            None => poll(&mut [signals], timeout.as_ref()),
            Some(link) => {
                let mut events = PollFlags::IN;
                if self.stop_owed().is_some() || self.exits.next_to_send().is_some() {
                    events |= PollFlags::OUT;
                }
                poll(
                    &mut [signals, PollFd::from_borrowed_fd(link.as_fd(), events)],
                    timeout.as_ref(),
                )
            }
        };
        // Whatever it found, the loop looks at everything; EINTR is no different.
        let _ = result;
    }
}

fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Reboot => "reboot",
        Ending::PowerOff => "power off",
    }
}

/// Now, on the clock that all of PID 1's deadlines are on.
pub(super) fn now() -> BootTime {
    let now = clock_gettime(ClockId::Boottime);
    BootTime::from_boot(std::time::Duration::new(
        now.tv_sec.cast_unsigned(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    ))
}
