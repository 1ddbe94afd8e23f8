//! Feeds the group's machine and carries its actions out.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use masthead_lifecycle::{
    Action, Event, Exit, Group, GroupAction, GroupEvent, Note, Phase, Probe, Process, ServiceName,
    Story,
};
use masthead_machine::{Alarm, Machine, Scale};
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::{boot_time, from_ticks};
use super::probe::Target;
use super::record::{Record, Records};
use super::watch::{Report, Reports, Watched, start_service, watch_leaf, watch_process};
use super::{AdoptedExits, Command, Managed};
use crate::error_chain::with_sources;
use crate::link::{Exit as LinkExit, ProcessKey, SupervisorLink};
use crate::process::{Launch, Leaf, adopt};

/// How long PID 1 may take to tell the exit of an adopted process after the kernel did.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// The task that owns the machine.
pub(super) struct Driver {
    group: Group,
    alarm: Alarm,
    members: BTreeMap<ServiceName, Member>,
    /// Whose process this is, until its exit was told to the machine.
    owners: BTreeMap<ProcessKey, ServiceName>,
    records: Records,
    scale: Scale,
    publisher: watch::Sender<Vec<Story>>,
    reports: Reports,
    received: mpsc::UnboundedReceiver<Report>,
    /// Who waits until all are stopped, and whether they are.
    stop_waiters: Vec<oneshot::Sender<()>>,
    all_stopped: bool,
}

/// The effects' side of one service.
struct Member {
    leaf: Leaf,
    launch: Launch,
    readiness: Option<Arc<Target>>,
    liveness: Option<Arc<Target>>,
    process: Option<Watched>,
    leaf_is_watched: bool,
    /// The process that was sent TERM last, by this supervisor or an earlier one.
    told_to_end: Option<ProcessKey>,
    /// How often it was started since boot, by this supervisor and earlier ones.
    starts: u64,
}

impl Driver {
    pub(super) fn new(
        mut group: Group,
        services: Vec<Managed>,
        records: PathBuf,
        scale: Scale,
        publisher: watch::Sender<Vec<Story>>,
    ) -> Self {
        let (reports, received) = mpsc::unbounded_channel();
        let records = Records::new(records);
        let mut owners = BTreeMap::new();
        let members = services
            .into_iter()
            .map(|service| {
                let record = records.read(&service.name);
                if let Some(record) = record {
                    owners.insert(record.process, service.name.clone());
                    group.remember(&service.name, record.starts.saturating_sub(1));
                }
                let member = Member {
                    leaf: service.leaf,
                    launch: service.launch,
                    readiness: service.readiness.map(Target::new).map(Arc::new),
                    liveness: service.liveness.map(Target::new).map(Arc::new),
                    process: None,
                    leaf_is_watched: false,
                    told_to_end: record
                        .filter(|record| record.told_to_end)
                        .map(|record| record.process),
                    starts: record.map_or(0, |record| record.starts),
                };
                (service.name, member)
            })
            .collect();
        Self {
            group,
            alarm: Alarm::default(),
            members,
            owners,
            records,
            scale,
            publisher,
            reports,
            received,
            stop_waiters: Vec::new(),
            all_stopped: false,
        }
    }

    /// Runs for as long as the supervisor does.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut exits: AdoptedExits,
    ) {
        if exits.ending.borrow().is_some() {
            self.feed(GroupEvent::StopAll);
        }
        self.feed(GroupEvent::Woken);
        loop {
            let alarm = self.alarm;
            tokio::select! {
                Some(report) = self.received.recv() => self.report(report),
                Some(exit) = exits.received.recv() => self.adopted_exit(exit, &exits.link).await,
                Some(command) = commands.recv() => self.command(command),
                () = due(alarm) => self.feed(GroupEvent::Woken),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::StopAll(reply) if self.all_stopped => {
                let _ = reply.send(());
            }
            Command::StopAll(reply) => {
                self.stop_waiters.push(reply);
                self.feed(GroupEvent::StopAll);
            }
            Command::Respond(reply) => {
                let _ = reply.send(());
            }
            Command::One(name, event) => self.feed(GroupEvent::Service(name, event)),
            Command::Launch(name, launch) => {
                if let Some(member) = self.members.get_mut(&name) {
                    member.launch = launch;
                }
            }
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Started(name, Ok(running)) => {
                let key = running.key();
                self.own(&name, key);
                let watched = watch_process(name.clone(), running, self.reports.clone());
                if let Some(member) = self.members.get_mut(&name) {
                    member.process = Some(watched);
                }
                self.feed(GroupEvent::Service(
                    name,
                    Event::Started {
                        process: process(key),
                    },
                ));
            }
            Report::Started(name, Err(error)) => {
                self.feed(GroupEvent::Service(name, Event::StartFailed { error }));
            }
            Report::ToldToEnd(name, key) => {
                if let Some(member) = self.members.get_mut(&name) {
                    member.told_to_end = Some(key);
                }
                self.note(&name, key);
            }
            Report::Ended(name, key, exit) => {
                if let Some(member) = self.members.get_mut(&name) {
                    member.process.take_if(|watched| watched.key == key);
                }
                match exit {
                    Some(exit) => self.exited(key, exit),
                    None => self.await_exit(key),
                }
            }
            Report::ExitOverdue(key) => self.exited(key, Exit::Unknown),
            Report::Emptied(name) => self.leaf_emptied(name),
            Report::Answered(name, process, probe, answer) => {
                let event = Event::ProbeAnswered {
                    process,
                    probe,
                    answer,
                };
                self.feed(GroupEvent::Service(name, event));
            }
        }
    }

    /// PID 1 tells every orphan's exit; most are not ours to tell.
    async fn adopted_exit(&mut self, exit: LinkExit, link: &SupervisorLink) {
        self.exited(exit.process, Exit::from_wait_status(exit.wait_status));
        if let Err(error) = link.acknowledge(exit.process).await {
            tracing::error!(pid = exit.process.pid, %error, "cannot acknowledge an exit to PID 1");
        }
    }

    fn exited(&mut self, key: ProcessKey, exit: Exit) {
        if let Some(name) = self.owners.remove(&key) {
            let event = Event::Exited {
                process: process(key),
                exit,
            };
            self.feed(GroupEvent::Service(name, event));
        }
    }

    fn await_exit(&self, key: ProcessKey) {
        if self.owners.contains_key(&key) {
            let reports = self.reports.clone();
            let patience = self.scale * EXIT_PATIENCE;
            tokio::spawn(async move {
                tokio::time::sleep(patience).await;
                let _ = reports.send(Report::ExitOverdue(key));
            });
        }
    }

    fn leaf_emptied(&mut self, name: ServiceName) {
        let Some(member) = self.members.get_mut(&name) else {
            return;
        };
        member.leaf_is_watched = false;
        // Something may have been started since the report was sent.
        if is_empty(&member.leaf) {
            self.feed(GroupEvent::Service(name, Event::LeafEmpty));
        } else {
            member.watch_leaf(&self.reports);
        }
    }

    fn own(&mut self, name: &ServiceName, key: ProcessKey) {
        let is_noted = self.owners.insert(key, name.clone()).is_some();
        if is_noted {
            return;
        }
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.starts += 1;
        self.note(name, key);
    }

    /// Notes what a later supervisor must know of a service's process.
    fn note(&self, name: &ServiceName, key: ProcessKey) {
        let Some(member) = self.members.get(name) else {
            return;
        };
        let record = Record {
            process: key,
            starts: member.starts,
            told_to_end: member.told_to_end == Some(key),
        };
        if let Err(error) = self.records.write(name, record) {
            tracing::warn!(service = %name, %error, "cannot note the process for a later supervisor");
        }
    }

    /// Lets the machine make a step, and further ones with what its actions find at once.
    fn feed(&mut self, event: GroupEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.group.step(boot_time(), event);
            self.alarm.set_by(&actions);
            for action in actions {
                match action {
                    GroupAction::Service(name, action) => {
                        let found = self.act(&name, action);
                        events.extend(found.map(|event| GroupEvent::Service(name, event)));
                    }
                    GroupAction::AllStopped => {
                        self.all_stopped = true;
                        for waiter in self.stop_waiters.drain(..) {
                            let _ = waiter.send(());
                        }
                    }
                    GroupAction::WakeAt(_) => {}
                }
            }
        }
        let stories = self.group.stories();
        self.publisher.send_if_modified(|published| {
            let is_new = *published != stories;
            *published = stories;
            is_new
        });
    }

    /// Carries out one action. What it finds at once is returned.
    fn act(&mut self, name: &ServiceName, action: Action) -> Option<Event> {
        let member = self.members.get_mut(name)?;
        match action {
            Action::Examine => return self.examine(name),
            Action::Start => {
                let (leaf, launch) = (member.leaf.clone(), member.launch.clone());
                start_service(name.clone(), leaf, launch, self.reports.clone());
            }
            Action::Terminate { process: wanted } => {
                let watched = member.process.as_ref();
                let watched = watched.filter(|watched| process(watched.key) == wanted);
                // An earlier supervisor may have said it: kube-apiserver ends at once when it hears it again.
                let unaware = watched.filter(|watched| member.told_to_end != Some(watched.key));
                if let Some(watched) = unaware {
                    watched.terminate();
                }
            }
            Action::KillGroup => {
                if let Err(error) = member.leaf.kill() {
                    tracing::error!(service = %name, error = with_sources(&error), "cannot kill");
                }
                member.watch_leaf(&self.reports);
            }
            Action::Probe {
                process,
                probe,
                timeout,
            } => {
                let target = match probe {
                    Probe::Readiness => &member.readiness,
                    Probe::Liveness => &member.liveness,
                };
                let (target, name, reports) = (target.clone()?, name.clone(), self.reports.clone());
                tokio::spawn(async move {
                    let answer = target.ask(timeout).await;
                    let _ = reports.send(Report::Answered(name, process, probe, answer));
                });
            }
            Action::Note(note) => log(name, &note),
            Action::WakeAt(_) => {}
        }
        None
    }

    fn examine(&mut self, name: &ServiceName) -> Option<Event> {
        let is_unknown = self
            .group
            .services()
            .any(|service| service.name() == name && service.phase() == Phase::Examining);
        let member = self.members.get_mut(name)?;
        let found = match adopt(&member.leaf) {
            Ok(None) => return Some(Event::LeafEmpty),
            Ok(Some(found)) => found.leader,
            Err(error) => {
                // Either the machine asks again, or it kills what nobody can watch.
                let error = with_sources(&error);
                tracing::error!(service = %name, error, "cannot look into the control group");
                return (!is_empty(&member.leaf)).then_some(Event::LeafPopulated);
            }
        };
        member.watch_leaf(&self.reports);
        if !is_unknown {
            // The main process is known, or was: the rest are its children.
            return Some(Event::LeafPopulated);
        }
        let key = found.key();
        member.process = Some(watch_process(name.clone(), found, self.reports.clone()));
        self.own(name, key);
        // The supervisor that started it may have died before it could note it.
        let starts = self.members.get(name).map_or(0, |member| member.starts);
        self.group.remember(name, starts.saturating_sub(1));
        Some(Event::Adopted {
            process: process(key),
            since: from_ticks(key.start_time),
        })
    }
}

impl Member {
    fn watch_leaf(&mut self, reports: &Reports) {
        if !self.leaf_is_watched {
            self.leaf_is_watched = true;
            watch_leaf(self.leaf.clone(), reports.clone());
        }
    }
}

/// Waits until the machine wants to be woken, which may be never.
async fn due(alarm: Alarm) {
    match alarm.at() {
        Some(at) => tokio::time::sleep(at.since(boot_time())).await,
        None => std::future::pending().await,
    }
}

/// Whether a leaf is known to be empty; when it cannot be read, it is not.
fn is_empty(leaf: &Leaf) -> bool {
    leaf.is_populated().is_ok_and(|populated| !populated)
}

fn process(key: ProcessKey) -> Process {
    Process {
        pid: key.pid,
        start_time: key.start_time,
    }
}

fn log(service: &ServiceName, note: &Note) {
    if note.is_warning() {
        tracing::warn!(%service, "{note}");
    } else {
        tracing::info!(%service, "{note}");
    }
}
