//! The lab's side of a namespace node: a launcher process while it is powered, and a thread that
//! listens to it.

use std::{
    collections::BTreeMap,
    io::BufReader,
    net::SocketAddrV4,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Child, Command as Program, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal::kill, unistd::Pid};

use super::{
    ClusterGroup, cgroup, disks,
    faults::Faults,
    inside,
    protocol::{Command, Configuration, End, Report, receive, send},
    wire::Wire,
};
use crate::{
    error::{Attempt, Error, Result, chain},
    plan::{DiskRole, NodePlan},
    power::{self, Supply},
    provider::{
        Cable, DiskCondition, Effective, Forward, Link, Node, Power, PowerChange, PowerEvent,
        Signal, Wipe,
    },
};

/// A boot that ends in a reboot before this has come to nothing: no machine is that fast.
const SHORT_BOOT: Duration = Duration::from_secs(1);
/// So many of them in a row are a node that cannot boot, and that would keep the host busy for ever.
const SHORT_BOOTS_AT_MOST: u32 = 5;

/// What the nodes of one cluster have in common.
pub(super) struct Machinery {
    /// The `lab` program, which is its nodes' launcher.
    pub(super) lab: PathBuf,
    pub(super) wire: Wire,
    pub(super) faults: Faults,
    /// The control group of the cluster; the nodes' are below.
    pub(super) group: ClusterGroup,
}

/// A node of [`super::NamespaceProvider`].
pub(super) struct NamespaceNode {
    shared: Arc<Shared>,
}

/// What the node and the thread that listens to its launcher have in common.
struct Shared {
    plan: NodePlan,
    machinery: Arc<Machinery>,
    supply: Supply<Running, Settings>,
}

type State = power::State<Running, Settings>;

/// What outlives a power cut.
struct Settings {
    /// The seed file of the next boot.
    seed: String,
    /// The node's power is to stay off, whatever PID 1 asked for at that moment.
    stay_off: bool,
    /// Boots in a row that were short.
    short_boots: u32,
    link: Link,
    disks: BTreeMap<DiskRole, DiskCondition>,
}

/// A powered node.
struct Running {
    socket: UnixStream,
    /// Answers to commands.
    answers: Receiver<Result<(), String>>,
    pid: i32,
    since: Instant,
}

impl NamespaceNode {
    pub(super) fn new(plan: NodePlan, seed: String, machinery: Arc<Machinery>) -> Self {
        let settings = Settings {
            seed,
            stay_off: false,
            short_boots: 0,
            link: Link::Up,
            disks: BTreeMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                supply: Supply::new(&plan.name, settings),
                plan,
                machinery,
            }),
        }
    }
}

impl Node for NamespaceNode {
    fn plan(&self) -> &NodePlan {
        &self.shared.plan
    }

    fn power_on(&self) -> Result<()> {
        let mut state = self.shared.supply.hold_off()?;
        state.stay_off = false;
        state.short_boots = 0;
        self.shared.start(&mut state)?;
        state.record(PowerChange::PoweredOn);
        Ok(())
    }

    fn cut_power(&self) -> Result<()> {
        let mut state = self.shared.supply.hold();
        state.stay_off = true;
        if let Some(running) = &state.running {
            // Processes that are killed close their connections, of which a machine without power tells nobody.
            let machinery = &self.shared.machinery;
            machinery
                .wire
                .set_link(&self.shared.plan.name, Link::Down)?;
            // A launcher that is ending already does not read it, and needs not.
            let _ = send(&running.socket, &Command::Cut);
        }
        self.shared.supply.wait_until_off(state);
        Ok(())
    }

    fn power(&self) -> Power {
        self.shared.supply.power()
    }

    fn history(&self) -> Vec<PowerEvent> {
        self.shared.supply.history()
    }

    fn set_link(&self, link: Link) -> Result<()> {
        let mut state = self.shared.supply.hold();
        state.link = link;
        if state.running.is_some() {
            let machinery = &self.shared.machinery;
            machinery.wire.set_link(&self.shared.plan.name, link)?;
        }
        Ok(())
    }

    fn set_cable(&self, cable: Cable) -> Result<()> {
        let state = self.shared.supply.hold();
        let plugged_in = state.running.is_some();
        let faults = &self.shared.machinery.faults;
        faults.set_cable(&self.shared.plan.name, plugged_in, cable)
    }

    fn signal(&self, service: &str, signal: Signal) -> Result<Vec<i32>> {
        let processes = self.processes(service)?;
        if processes.is_empty() {
            return Err(Error::Node {
                node: self.shared.plan.name.clone(),
                message: format!("no process of {service} runs"),
            });
        }
        let number = match signal {
            Signal::Kill => nix::sys::signal::SIGKILL,
            Signal::Terminate => nix::sys::signal::SIGTERM,
            Signal::Stop => nix::sys::signal::SIGSTOP,
            Signal::Continue => nix::sys::signal::SIGCONT,
        };
        for &pid in &processes {
            match kill(Pid::from_raw(pid), number) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => {
                    return Err(error).attempt(|| format!("send {number} to process {pid}"));
                }
            }
        }
        Ok(processes)
    }

    fn processes(&self, service: &str) -> Result<Vec<i32>> {
        let leaf = match service {
            "init" | "supervisor" => service.to_owned(),
            name => format!("services/{name}"),
        };
        let group = self
            .shared
            .machinery
            .group
            .of(&self.shared.plan.name)
            .join(leaf);
        match cgroup::processes(&group) {
            Ok(processes) => Ok(processes),
            // Never started, or the node is off.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).attempt(|| format!("read {}", group.display())),
        }
    }

    fn set_disk(&self, role: DiskRole, condition: DiskCondition) -> Result<Effective> {
        let mut state = self.shared.supply.hold();
        let before = state
            .disks
            .get(&role)
            .copied()
            .unwrap_or(DiskCondition::Healthy);
        let effective = match &state.running {
            None => Effective::NextPowerOn,
            Some(_) if condition == DiskCondition::Healthy && is_lasting(before) => {
                Effective::NextPowerOn
            }
            Some(running) => {
                self.shared
                    .command(running, &Command::Disk { role, condition })?;
                Effective::Now
            }
        };
        state.disks.insert(role, condition);
        Ok(effective)
    }

    fn wipe(&self, what: Wipe) -> Result<()> {
        // Held to the end: nobody powers it on meanwhile.
        let held = self.shared.supply.hold_off()?;
        let plan = &self.shared.plan;
        let wiped = |role| what == Wipe::All || what == Wipe::Disk(role);
        let disks = plan.disks.iter().filter(|(role, _)| wiped(*role));
        for &(role, size_mib) in disks {
            disks::create(plan, role, size_mib)?;
        }
        drop(held);
        Ok(())
    }

    fn set_seed(&self, seed: &str) -> Result<()> {
        let mut state = self.shared.supply.hold_off()?;
        seed.clone_into(&mut state.seed);
        Ok(())
    }

    fn forward_inside(&self, port: u16) -> Result<Forward> {
        let to = SocketAddrV4::new(self.shared.plan.address(), port);
        let (local, guard) = inside::forward(self.init_process()?, to)?;
        Ok(Forward::new(local, guard))
    }

    fn init_process(&self) -> Result<i32> {
        match &self.shared.supply.hold().running {
            Some(running) => Ok(running.pid),
            None => Err(self.shared.supply.must_be_on()),
        }
    }
}

impl Drop for NamespaceNode {
    fn drop(&mut self) {
        // cut_power fails in no way once it is called on a running node; it waits for the end.
        let _ = self.cut_power();
    }
}

/// Whether a file system does not recover from this while it is mounted.
fn is_lasting(condition: DiskCondition) -> bool {
    matches!(condition, DiskCondition::ReadOnly | DiskCondition::Removed)
}

impl Shared {
    fn failure(&self, message: String) -> Error {
        Error::Node {
            node: self.plan.name.clone(),
            message,
        }
    }

    /// Sends a command to the launcher and waits for its answer.
    fn command(&self, running: &Running, command: &Command) -> Result<()> {
        send(&running.socket, command).attempt(|| "reach the node's launcher")?;
        match running.answers.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(message)) => Err(self.failure(message)),
            Err(_) => Err(self.failure("its power went off at this moment".to_owned())),
        }
    }

    /// Starts a launcher and, with it, PID 1; then a thread that listens to it until its end.
    fn start(self: &Arc<Self>, state: &mut State) -> Result<()> {
        let (socket, theirs) = UnixStream::pair().attempt(|| "make a socket pair")?;
        let launcher = Program::new(&self.machinery.lab)
            .arg("namespace-node")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // It outlives `lab up`, whose caller may wait for the end of what it reads. Its words come by the socket.
            .stderr(Stdio::null())
            .spawn()
            .attempt(|| format!("start {} namespace-node", self.machinery.lab.display()))?;
        let mut reader = BufReader::new(socket.try_clone().attempt(|| "duplicate the socket")?);
        match self.bring_up(state, &socket, &mut reader) {
            Ok(pid) => {
                let (to_caller, answers) = mpsc::channel();
                state.running = Some(Running {
                    socket,
                    answers,
                    pid,
                    since: Instant::now(),
                });
                let shared = Arc::clone(self);
                thread::spawn(move || shared.listen(launcher, &mut reader, to_caller));
                Ok(())
            }
            Err(error) => {
                // Its socket ends here, and it with it.
                drop((socket, reader));
                reap(launcher);
                Err(error)
            }
        }
    }

    fn bring_up(
        &self,
        state: &State,
        socket: &UnixStream,
        reader: &mut BufReader<UnixStream>,
    ) -> Result<i32> {
        let configuration = Configuration {
            plan: self.plan.clone(),
            seed: state.seed.clone(),
            timing_scale: self.plan.timing_scale,
            cgroup: self.machinery.group.of(&self.plan.name),
            disks: state.disks.clone(),
        };
        send(socket, &configuration).attempt(|| "configure the node's launcher")?;
        let pid = match self.next_report(reader)? {
            Report::Born { pid } => pid,
            other => return Err(self.unexpected(&other)),
        };
        let (name, machinery) = (&self.plan.name, &self.machinery);
        machinery
            .wire
            .attach(name, pid, self.plan.mac(), state.link)?;
        machinery.faults.plugged_in(name)?;
        send(socket, &Command::Start).attempt(|| "start PID 1")?;
        match self.next_report(reader)? {
            Report::Started => Ok(pid),
            other => Err(self.unexpected(&other)),
        }
    }

    fn next_report(&self, reader: &mut BufReader<UnixStream>) -> Result<Report> {
        receive(reader)
            .attempt(|| "hear the node's launcher")?
            .ok_or_else(|| self.failure("its launcher ended during the start".to_owned()))
    }

    fn unexpected(&self, report: &Report) -> Error {
        self.failure(match report {
            Report::Failed { message } => message.clone(),
            other => format!("its launcher said {other:?} during the start"),
        })
    }

    /// Listens to a launcher until its end, and starts the next one if PID 1 wanted a reboot.
    fn listen(
        self: &Arc<Self>,
        launcher: Child,
        reader: &mut BufReader<UnixStream>,
        answers: Sender<Result<(), String>>,
    ) {
        let mut last_failure = None;
        let end = loop {
            match receive(reader) {
                Ok(Some(Report::Ended { how })) => break how,
                // Whoever asked may have stopped waiting.
                Ok(Some(Report::Done)) => drop(answers.send(Ok(()))),
                Ok(Some(Report::Failed { message })) => {
                    last_failure = Some(message.clone());
                    drop(answers.send(Err(message)));
                }
                Ok(Some(Report::Born { .. } | Report::Started)) => {}
                Ok(None) => {
                    let how =
                        last_failure.unwrap_or_else(|| "the node's launcher was killed".to_owned());
                    break End::Crash { how };
                }
                Err(error) => {
                    break End::Crash {
                        how: format!("no sense in its launcher: {error}"),
                    };
                }
            }
        };
        // Who holds the state and waits for an answer must see that none will come.
        drop(answers);
        reap(launcher);
        let mut state = self.supply.hold();
        let boot = state.running.take().map(|running| running.since.elapsed());
        state.short_boots = match boot {
            Some(time) if time < SHORT_BOOT => state.short_boots + 1,
            _ => 0,
        };
        let may_start = !state.stay_off && state.short_boots < SHORT_BOOTS_AT_MOST;
        match end {
            End::Cut => state.record(PowerChange::Cut),
            End::PowerOff => state.record(PowerChange::PoweredOff),
            // A kernel that panics resets its machine, which boots from its disk again.
            End::Crash { how } if self.plan.boots_from_disk && may_start => {
                state.record(PowerChange::Crashed { how });
                self.start_again(&mut state);
            }
            End::Crash { how } => state.record(PowerChange::Crashed { how }),
            End::Reboot if state.stay_off => state.record(PowerChange::Cut),
            End::Reboot if state.short_boots >= SHORT_BOOTS_AT_MOST => {
                let how = format!(
                    "rebooted {SHORT_BOOTS_AT_MOST} times within a second of its start: see its console"
                );
                state.record(PowerChange::Crashed { how });
            }
            End::Reboot => self.start_again(&mut state),
        }
        self.supply.went_off(state);
    }

    fn start_again(self: &Arc<Self>, state: &mut State) {
        match self.start(state) {
            Ok(()) => state.record(PowerChange::Rebooted),
            Err(error) => state.record(PowerChange::Crashed {
                how: format!("the start after a reboot failed: {}", chain(&error)),
            }),
        }
    }
}

fn reap(mut launcher: Child) {
    // Its end is all that is waited for; its status says nothing that it has not reported.
    let _ = launcher.wait();
}
