//! One life of the machine: from disks that were read until they should be read again.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use masthead_control_plane::EtcdStart;
use masthead_formation::{
    Action, ClusterId, Event, Formation, InvalidOverride, KeyFingerprint, MachineId, Master,
    Message, Phase, Plan, Recipient, Record, Report as PeerSays, Sealed, SeedHash, Sender, Setup,
    Standing, Status,
};
use masthead_machine::{Alarm, Machine, Woken};
use masthead_pki::{PeerFingerprint, Trust};
use masthead_seed::DiskSelector;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::membership::{Stage, access};
use super::own::{Own, random};
use super::records::{self, Holdings};
use super::report::{self, Report};
use super::{Command, Config, READ_AGAIN, Shell, Start, memory, sealed};
use crate::error_chain::with_sources;
use crate::peer;
use crate::services::boot_time;

/// The transport, which outlives a life.
pub(super) struct Voice {
    handle: peer::Handle,
    received: mpsc::Receiver<peer::Received>,
    report: watch::Receiver<peer::Report>,
}

impl Voice {
    pub(super) fn new(handle: peer::Handle, received: mpsc::Receiver<peer::Received>) -> Self {
        let report = handle.watch();
        Self {
            handle,
            received,
            report,
        }
    }

    fn report(&self) -> peer::Report {
        self.report.borrow().clone()
    }
}

/// A machine with what it has under way.
pub(super) struct Life<'a> {
    shell: Shell,
    own: &'a Own,
    holdings: Holdings,
    /// The plan that the holdings speak of.
    plan: Option<Plan>,
    machine: Formation,
    alarm: Alarm,
    session: u64,
    writing: Option<(Record, JoinHandle<Result<(), String>>)>,
    planning: Option<JoinHandle<Result<(ClusterId, Sealed), String>>>,
    /// Who waits for the answer to an override.
    asking: Option<oneshot::Sender<Result<(), InvalidOverride>>>,
    status: Option<Status>,
    /// What the transport was told to show.
    shown: Option<(Stage, Option<masthead_formation::PlanHash>)>,
    /// Counts what greetings were taken for.
    greetings: u64,
}

/// What wakes a life.
enum Happening {
    Due,
    Received(peer::Received),
    Written(Record, Result<(), String>),
    Planned(Result<(ClusterId, Sealed), String>),
    Command(Command),
    PeersChanged,
    ReadAgain,
}

impl<'a> Life<'a> {
    pub(super) fn new(shell: Shell, own: &'a Own, holdings: Holdings) -> Self {
        // Without random numbers it is at least another one than that of the machine's last start.
        let session = random().map_or_else(
            |_| boot_time().since_boot().subsec_nanos().into(),
            u64::from_le_bytes,
        );
        let machine = Formation::new(setup(&shell.config, own, &holdings, session));
        Self {
            shell,
            own,
            plan: holdings.plan(),
            holdings,
            machine,
            alarm: Alarm::default(),
            session,
            writing: None,
            planning: None,
            asking: None,
            status: None,
            shown: None,
            greetings: 0,
        }
    }

    /// Runs until the volumes should be read again, which they should while one of them could not be.
    pub(super) async fn run(mut self, voice: &mut Voice) -> Shell {
        let everything_is_read = self.holdings.state.is_ok() && self.holdings.etcd.is_ok();
        let read_again = tokio::time::Instant::now() + self.shell.config.scale * READ_AGAIN;
        self.feed(voice, Woken.into());
        loop {
            let alarm = self.alarm.at();
            let happening = tokio::select! {
                Some(received) = voice.received.recv() => Happening::Received(received),
                Some(command) = self.shell.commands.recv() => Happening::Command(command),
                (record, result) = written(&mut self.writing) => Happening::Written(record, result),
                made = finished(&mut self.planning) => Happening::Planned(made),
                Ok(()) = voice.report.changed() => Happening::PeersChanged,
                () = tokio::time::sleep_until(read_again), if !everything_is_read => {
                    Happening::ReadAgain
                }
                () = due(alarm) => Happening::Due,
            };
            match happening {
                Happening::Due => self.feed(voice, Woken.into()),
                Happening::Received(received) => self.receive(voice, &received),
                Happening::Written(record, Ok(())) => {
                    self.holdings.take(&record);
                    self.plan = self.holdings.plan();
                    self.feed(voice, Event::Persisted);
                    self.remember();
                }
                Happening::Written(_, Err(error)) => {
                    self.feed(voice, Event::PersistFailed { error });
                }
                Happening::Planned(Ok((cluster_id, sealed))) => {
                    self.feed(voice, Event::PlanMade { cluster_id, sealed });
                }
                Happening::Planned(Err(error)) => self.feed(voice, Event::PlanFailed { error }),
                Happening::Command(command) => self.command(voice, command),
                Happening::PeersChanged => self.tell(voice),
                Happening::ReadAgain => return self.shell,
            }
        }
    }

    fn receive(&mut self, voice: &Voice, received: &peer::Received) {
        let from = &received.from;
        let message = match Message::decode(&received.bytes) {
            Ok(message) => message,
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(peer = from.subject.name, %error, "a peer's message is not understood");
                return;
            }
        };
        if let Message::Report(said) = &message
            && (said.machine_id.to_string() != from.subject.machine_id
                || said.name != from.subject.name)
        {
            tracing::warn!(
                peer = from.subject.name,
                "a peer speaks for another machine"
            );
            return;
        }
        let from = Sender {
            address: from.address.ip().to_canonical(),
            key: KeyFingerprint(from.key.0),
        };
        self.feed(voice, Event::Received { from, message });
    }

    fn command(&mut self, voice: &Voice, command: Command) {
        match command {
            Command::EtcdServed => {
                if let Ok(etcd) = &mut self.holdings.etcd {
                    etcd.has_wal = true;
                }
                self.remember();
                self.feed(voice, Event::EtcdServed);
            }
            // A running etcd does without STATE, and its own disk's end is its own to find out.
            Command::VolumeLost { .. } if self.has_started() => {}
            Command::VolumeLost { volume, error } => {
                self.feed(voice, Event::VolumeLost { volume, error });
            }
            Command::FoundWithout {
                names,
                cluster,
                reply,
            } => {
                self.asking = Some(reply);
                self.feed(voice, Event::FoundWithout { names, cluster });
            }
        }
    }

    /// Lets the machine make a step, and further ones with what its actions find at once.
    fn feed(&mut self, voice: &Voice, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.machine.step(boot_time(), event);
            self.alarm.set_by(&actions);
            for action in actions {
                events.extend(self.act(voice, action));
            }
        }
        self.show(voice);
    }

    /// Carries out one action. What it finds at once is returned.
    fn act(&mut self, voice: &Voice, action: Action) -> Option<Event> {
        match action {
            Action::Persist(record) => {
                let (config, writing) = (Arc::clone(&self.shell.config), record.clone());
                let task = tokio::task::spawn_blocking(move || {
                    check(&writing)?;
                    records::write(&*config.storage, &config.places, &writing)
                        .map_err(|error| with_sources(&error))
                });
                self.writing = Some((record, task));
            }
            Action::MakePlan { .. } => {
                let services = self.shell.config.seed.kubernetes.services.to_string();
                self.planning = Some(tokio::task::spawn_blocking(move || make_plan(&services)));
            }
            Action::Send { to, message } => return self.send(voice, &to, &message),
            Action::StartEtcd { plan, start } => {
                let start = match start {
                    masthead_formation::EtcdStart::New => EtcdStart::New,
                    masthead_formation::EtcdStart::Existing => EtcdStart::Existing,
                };
                self.start_etcd(plan, start);
            }
            Action::Publish(status) => {
                if self.status.as_ref().map(|before| before.phase) != Some(status.phase) {
                    tracing::info!(phase = ?status.phase, plan = ?status.plan, "formation");
                }
                self.status = Some(status);
                self.tell(voice);
            }
            Action::Answer(answer) => {
                if let Some(asking) = self.asking.take() {
                    let _ = asking.send(answer);
                }
            }
            Action::WakeAt(_) => {}
        }
        None
    }

    fn send(&mut self, voice: &Voice, to: &Recipient, message: &Message) -> Option<Event> {
        if !self.has_started()
            && let Message::Report(asked) = message
            && asked.question
            && let Some(answer) = self.greeting(voice, &to.master)
        {
            return Some(answer);
        }
        let only = to.key.map(|key| PeerFingerprint(key.0));
        voice.handle.send(to.master.address, only, message.encode());
        None
    }

    /// What a member of a founded cluster says to a node that has nothing but the seed: in its greeting only, that it is
    /// one. To the machine this is as good as a report.
    fn greeting(&mut self, voice: &Voice, master: &Master) -> Option<Event> {
        let report = voice.report.borrow();
        let peers = report.peers.iter();
        let connected = peers
            .filter(|peer| peer.address == master.address)
            .find_map(|peer| peer.connected.as_ref())?;
        let is_closed = connected.trust == Trust::Join
            && matches!(
                connected.standing,
                masthead_peer_protocol::Standing::Member { .. }
            );
        let machine_id: MachineId = connected.subject.machine_id.parse().ok()?;
        is_closed.then(|| {
            self.greetings += 1;
            let said = PeerSays {
                name: master.name.clone(),
                machine_id,
                session: self.session,
                sequence: self.greetings,
                echo: Some(self.session),
                question: false,
                // It does not say; a difference would be no use here anyway.
                seed: SeedHash(self.shell.config.seed.hash.0),
                // What a node has begun of which no more is known.
                standing: Standing::Amnesiac {
                    cluster_id: None,
                    holds_go: None,
                },
            };
            Event::Received {
                from: Sender {
                    address: master.address,
                    key: KeyFingerprint(connected.key.0),
                },
                message: Message::Report(said),
            }
        })
    }

    fn start_etcd(&mut self, plan: Arc<Plan>, start: EtcdStart) {
        if self.has_started() {
            return;
        }
        memory::keep(&self.shell.config.handover, self.own, &self.holdings, start);
        tracing::info!(cluster_id = %plan.cluster_id(), ?start, "etcd may start");
        self.shell.start.send_replace(Some(Start {
            machine_id: self.own.machine_id,
            plan,
            start,
        }));
    }

    fn has_started(&self) -> bool {
        self.shell.start.borrow().is_some()
    }

    /// Once etcd may start, keeps what is known for a successor.
    fn remember(&self) {
        let has_wal = self.holdings.etcd.as_ref().is_ok_and(|etcd| etcd.has_wal);
        let start = self.shell.start.borrow().as_ref().map(|start| start.start);
        if let Some(start) = start {
            let start = if has_wal { EtcdStart::Existing } else { start };
            memory::keep(&self.shell.config.handover, self.own, &self.holdings, start);
        }
    }

    /// Shows to peers what the node is now.
    fn show(&mut self, voice: &Voice) {
        let phase = self.status.as_ref().map(|status| status.phase);
        let is_founded = self.has_started()
            || self.holdings.holds_go()
                && matches!(
                    phase,
                    Some(Phase::Member | Phase::Amnesiac | Phase::Unknown)
                );
        let stage = match (&self.plan, is_founded) {
            (None, _) => Stage::Open,
            (Some(_), false) => Stage::Planned,
            (Some(_), true) => Stage::Founded,
        };
        let showing = (stage, self.plan.as_ref().map(Plan::hash));
        if self.shown == Some(showing) {
            return;
        }
        let result = access(stage, self.plan.as_ref())
            .map_err(|error| with_sources(&error))
            .and_then(|access| {
                let shown = voice.handle.set_access(access);
                shown.map_err(|error| with_sources(&error))
            });
        if let Err(error) = result {
            tracing::error!(%error, ?stage, "peers are not shown what this node is");
        }
        self.shown = Some(showing);
    }

    fn tell(&self, voice: &Voice) {
        if let Some(status) = &self.status {
            let told = Report {
                machine_id: Some(self.own.machine_id.to_string()),
                ..Report::of(status, &voice.report())
            };
            report::publish(&self.shell.publisher, |report| *report = told);
        }
    }
}

fn setup(config: &Config, own: &Own, holdings: &Holdings, session: u64) -> Setup {
    let masters = config.seed.masters.iter().map(|master| Master {
        address: master.address,
        name: master.name.clone(),
    });
    Setup {
        cluster: config.seed.cluster.clone(),
        masters: masters.collect(),
        name: config.master.name.clone(),
        seed: SeedHash(config.seed.hash.0),
        machine_id: own.machine_id,
        key: KeyFingerprint(own.key.fingerprint().0),
        session,
        durable: matches!(config.master.disk, DiskSelector::Match(_)),
        state: holdings.state(),
        etcd: holdings.etcd(),
        scale: config.scale,
    }
}

/// A plan is acknowledged only by one who can use what is in it.
fn check(record: &Record) -> Result<(), String> {
    match record {
        Record::Plan(plan) => sealed::open(&plan.document().sealed)
            .map(drop)
            .map_err(|error| with_sources(&error)),
        _ => Ok(()),
    }
}

fn make_plan(services: &str) -> Result<(ClusterId, Sealed), String> {
    let cluster_id = ClusterId(random().map_err(|problem| problem.cause)?);
    let sealed = sealed::make(cluster_id, services, OffsetDateTime::now_utc());
    sealed
        .map(|sealed| (cluster_id, sealed))
        .map_err(|error| with_sources(&error))
}

/// Waits for the record that is being written, if one is.
async fn written(
    writing: &mut Option<(Record, JoinHandle<Result<(), String>>)>,
) -> (Record, Result<(), String>) {
    let Some((_, task)) = writing else {
        return pending().await;
    };
    let result = joined(task.await);
    match writing.take() {
        Some((record, _)) => (record, result),
        None => pending().await,
    }
}

/// Waits for work that is under way, if any is.
async fn finished<T>(work: &mut Option<JoinHandle<Result<T, String>>>) -> Result<T, String> {
    let Some(task) = work else {
        return pending().await;
    };
    let result = joined(task.await);
    *work = None;
    result
}

fn joined<T>(result: Result<Result<T, String>, tokio::task::JoinError>) -> Result<T, String> {
    result.unwrap_or_else(|panicked| Err(panicked.to_string()))
}

/// Waits until the machine wants to be woken, which may be never.
async fn due(at: Option<masthead_machine::BootTime>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(boot_time())).await,
        None => pending().await,
    }
}
