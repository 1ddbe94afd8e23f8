//! One address: feeds its machine, and carries its actions out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use masthead_api::Timestamp;
use masthead_api::status::{Network, VirtualAddress};
use masthead_machine::{Alarm, BootTime, Scale, Woken};
use masthead_seed::Endpoint;
use masthead_vip::{Action, Event, Note, Raft, Setup};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::announcing::Announcing;
use super::deciding::{Decides, Deciding};
use super::exchange::{Heard, Teller};
use super::gatekeeper::Gatekeeper;
use super::interface::{Interface, Placement};
use super::report::{Circumstances, Story};
use super::store::Store;
use super::{connections, probe, tickle};
use crate::services::boot_time;

/// Sights of the key that wait for the machine.
const SIGHTS: usize = 16;

/// Between two looks whether the address is still on the interface, on a real machine.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// How often, and after what times on a real machine, the clients of a former owner are told: a segment may be lost.
const TELL_CLIENTS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
];

/// What the addresses of one interface share.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) device: String,
    pub(super) interface: Interface,
    pub(super) gates: Gatekeeper,
    pub(super) network: watch::Receiver<Network>,
    pub(super) heard: Arc<Heard>,
    pub(super) teller: Teller,
    pub(super) scale: Scale,
}

/// What drives one address.
pub(super) struct Driver {
    pub(super) address: IpAddr,
    pub(super) setup: Setup,
    pub(super) deciding: Deciding,
    pub(super) place: Place,
    pub(super) store: Arc<Store>,
    /// What the machine is told.
    pub(super) inbox: mpsc::UnboundedReceiver<Event>,
    /// The other end of it, for the answers to actions.
    pub(super) answers: mpsc::UnboundedSender<Event>,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) raft: watch::Receiver<Raft>,
    /// Takes what people are told.
    pub(super) publish: Box<dyn Fn(VirtualAddress) + Send>,
}

impl Driver {
    /// Runs for as long as the interface is there.
    pub(super) async fn run(mut self) {
        let own = self.setup.identity.node.clone();
        let mut running = Running {
            machine: (self.deciding)(self.setup.clone()),
            alarm: Alarm::default(),
            story: Story::new(self.address, &own),
            announcing: None,
            tasks: JoinSet::new(),
            placement: Arc::new(Placement::new(self.place.interface.clone(), self.address)),
        };
        let mut ticks = interval(self.place.scale * KEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (sights, mut seen) = mpsc::channel(SIGHTS);
        let store = Arc::clone(&self.store);
        tokio::spawn(async move { store.follow(sights).await });
        let ready = *self.ready.borrow_and_update();
        let raft = *self.raft.borrow_and_update();
        for event in [Woken.into(), Event::Ready(ready), Event::Raft(raft)] {
            self.feed(&mut running, event);
        }
        loop {
            let event = tokio::select! {
                Some(event) = self.inbox.recv() => event,
                Some(sight) = seen.recv() => Event::Saw(sight),
                Ok(()) = self.ready.changed() => Event::Ready(*self.ready.borrow_and_update()),
                Ok(()) = self.raft.changed() => Event::Raft(*self.raft.borrow_and_update()),
                () = due(running.alarm.at()) => Event::Woken,
                _ = ticks.tick() => {
                    let placement = Arc::clone(&running.placement);
                    running.tasks.spawn(async move { placement.keep().await });
                    Event::Woken
                }
                else => return,
            };
            while running.tasks.try_join_next().is_some() {}
            self.feed(&mut running, event);
        }
    }

    fn feed(&self, running: &mut Running, event: Event) {
        let now = boot_time();
        let actions = running.machine.step(now, event);
        running.alarm.set_by(&actions);
        for action in actions {
            self.carry_out(running, action);
        }
        let around = Circumstances {
            ready: *self.ready.borrow(),
            leader: self.raft.borrow().leader.is_some(),
            overdue: running.machine.ownership().is_overdue(now),
        };
        let told = running
            .story
            .tell(running.machine.ownership(), around, Timestamp::now());
        (self.publish)(told);
    }

    fn carry_out(&self, running: &mut Running, action: Action) {
        let (address, place) = (self.address, &self.place);
        match action {
            Action::WakeAt(_) => {}
            Action::Transact {
                nonce,
                expected,
                change,
                give_up,
            } => {
                let store = Arc::clone(&self.store);
                self.answer(running, async move {
                    let patience = give_up.since(boot_time());
                    let decision = store.transact(expected, &change, patience).await;
                    Event::Decided { nonce, decision }
                });
            }
            Action::Read(patience) => {
                let store = Arc::clone(&self.store);
                self.answer(running, async move {
                    let seen = store.read(patience).await;
                    seen.map_or(Event::ReadFailed, Event::Read)
                });
            }
            Action::SetGate(until) => {
                let gates = place.gates.clone();
                self.answer(running, async move {
                    gates.set(address, until).await;
                    Event::GateSet(until)
                });
            }
            Action::SetAddress(there) => {
                let placement = Arc::clone(&running.placement);
                self.answer(running, async move {
                    placement.set(there).await;
                    Event::AddressSet(there)
                });
            }
            Action::Announce(false) => running.announcing = None,
            Action::Announce(true) => {
                let (device, network) = (place.device.clone(), place.network.clone());
                running.announcing = Some(Announcing::begin(device, address, place.scale, network));
                self.tell_clients();
            }
            Action::LeaveClients { followed } => {
                let (gates, teller, local) =
                    (place.gates.clone(), place.teller.clone(), self.local());
                self.answer(running, async move {
                    // Whoever is reset comes back at once, and is heard only where the next owner is there by then.
                    if followed && teller.tell_now(address).await {
                        tracing::info!(%address, "the other masters know the clients");
                    } else {
                        gates.refuse_new(address).await;
                        reset(local);
                    }
                    Event::ClientsLeft
                });
            }
            Action::ProbeAddress => {
                let device = place.device.clone();
                self.answer(running, async move {
                    let probed = tokio::task::spawn_blocking(move || probe::probe(&device, address));
                    let answer = match probed.await {
                        Ok(Ok(answer)) => answer,
                        Ok(Err(error)) => {
                            tracing::error!(%address, %error, "the wire cannot be asked for a virtual address");
                            None
                        }
                        Err(panicked) => {
                            tracing::error!(%address, %panicked, "asking the wire panicked");
                            None
                        }
                    };
                    Event::Probed(answer)
                });
            }
            Action::Note(note) => {
                if let Note::Released { .. } = note {
                    // Behind the closed gate: the next owner tells the clients, and nobody here waits for them.
                    reset(self.local());
                }
                running.story.note(&note);
                tell(address, &note);
            }
        }
    }

    /// Has the machine told what becomes of an action.
    fn answer(&self, running: &mut Running, answer: impl Future<Output = Event> + Send + 'static) {
        let answers = self.answers.clone();
        running.tasks.spawn(async move {
            // A machine that is gone needs no answer.
            let _ = answers.send(answer.await);
        });
    }

    /// Tells the clients of the owner before, if there is one who could not.
    fn tell_clients(&self) {
        let clients = self.place.heard.take_clients(self.address);
        if clients.is_empty() {
            return;
        }
        let (local, scale) = (self.local(), self.place.scale);
        tokio::spawn(async move {
            for pause in TELL_CLIENTS {
                tokio::time::sleep(scale * pause).await;
                match tickle::tickle(local, &clients) {
                    Ok(number) => {
                        tracing::info!(%local, number, "the clients of the owner before are told");
                    }
                    Err(error) => {
                        tracing::warn!(%local, %error, "the clients of the owner before cannot be told");
                    }
                }
            }
        });
    }

    fn local(&self) -> SocketAddr {
        SocketAddr::new(self.address, Endpoint::VIRTUAL_PORT)
    }
}

/// What changes while an address is driven.
struct Running {
    machine: Box<dyn Decides>,
    alarm: Alarm,
    story: Story,
    announcing: Option<Announcing>,
    /// What is being done for it. It ends with this.
    tasks: JoinSet<()>,
    placement: Arc<Placement>,
}

/// Waits until the machine wants to be woken, which may be never.
async fn due(at: Option<BootTime>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(boot_time())).await,
        None => std::future::pending().await,
    }
}

/// Ends all connections to the address, and tells their clients if the gate is open. The kernel answers at once.
fn reset(local: SocketAddr) {
    match connections::destroy(local) {
        Ok(0) => {}
        Ok(number) => tracing::info!(%local, number, "connections are reset"),
        Err(error) => {
            tracing::warn!(%local, %error, "connections cannot be reset; clients notice by themselves");
        }
    }
}

fn tell(address: IpAddr, note: &Note) {
    match note {
        Note::Won { epoch } => tracing::info!(%address, epoch, "this master owns the address"),
        Note::Expired => {
            tracing::warn!(%address, "no renewal is acknowledged in time: nobody answers for the address until one is");
        }
        Note::Lost => tracing::warn!(%address, "another master owns the address"),
        Note::Released { heir } => tracing::info!(%address, heir, "the address is let go of"),
        Note::KeptUnready => {
            tracing::warn!(%address, "the own apiserver cannot serve, and no other is known to: the address stays");
        }
        Note::Stranger { hardware } => {
            tracing::error!(%address, hardware, "a machine that is none of the cluster's answers for the address");
        }
        Note::Frozen => {
            tracing::warn!(%address, "etcd has no space: the address is owned by asking a majority, and another owner takes it more slowly");
        }
        Note::Thawed => tracing::info!(%address, "etcd has space again for the address's record"),
        Note::UnknownFormat => {
            tracing::error!(%address, "a later release keeps the address, in a format that is not known here");
        }
    }
}
