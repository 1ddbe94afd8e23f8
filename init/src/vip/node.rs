//! All virtual addresses of this node, on whichever interface it has.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use masthead_api::status::{Network, VirtualAddress, VirtualState};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_control_plane::Request;
use masthead_machine::Scale;
use masthead_vip::{Event, Identity, Raft, Setup};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::deciding::Deciding;
use super::driver::{Driver, Place};
use super::exchange::{self, Answer, Heard, Said, Teller};
use super::gatekeeper::Gatekeeper;
use super::interface::Interface;
use super::sensors::{self, Apiserver};
use super::store::Store;
use crate::error_chain::with_sources;
use crate::etcd::Members;
use crate::{peer, random};

/// How long the kernel is left alone that refuses the gates, on a real machine.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Renewals that are remembered: of 4 s where the hold is shortest, and of a minute where it is longest.
const WINDOW: usize = 64;

/// What the addresses follow from.
pub struct Config {
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// Another one for each boot.
    pub instance: String,
    /// The way to etcd.
    pub members: Arc<Members>,
    /// The way to the other masters.
    pub peers: peer::Handle,
    /// How the own apiserver is asked whether it is ready.
    pub readiness: Request,
    /// The interface.
    pub network: watch::Receiver<Network>,
    /// Which machine decides.
    pub deciding: Deciding,
    /// Multiplies the times.
    pub scale: Scale,
}

/// The way to the addresses; cheap to clone. They are driven for as long as the runtime is there.
#[derive(Clone, Debug)]
pub struct Handle {
    words: mpsc::UnboundedSender<Word>,
    reports: watch::Receiver<Vec<VirtualAddress>>,
    heard: Arc<Heard>,
    ready: watch::Receiver<bool>,
    raft: watch::Receiver<Raft>,
    /// Whether this node takes no address any more.
    drains: Arc<AtomicBool>,
}

/// What is to happen to an address, or to all of them.
#[derive(Debug)]
struct Word {
    about: Option<IpAddr>,
    event: Event,
}

/// What sensors and drivers tell each other.
struct Channels {
    reports: watch::Sender<Vec<VirtualAddress>>,
    /// Those that this node owns.
    owned: watch::Sender<Vec<IpAddr>>,
    /// Whether there is one that it does not own.
    contends: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
    raft: watch::Receiver<Raft>,
    /// From each machine's point of view, an event; all get all.
    others_ready: mpsc::UnboundedReceiver<String>,
}

/// Drives the addresses from now on.
pub fn spawn(config: Config) -> Handle {
    let config = Arc::new(config);
    let unknown = config
        .addresses
        .iter()
        .map(|address| unknown(*address, None));
    let (reports, told) = watch::channel(unknown.collect());
    let (owned, is_owned) = watch::channel(Vec::new());
    let (contends, does_contend) = watch::channel(true);
    let (ready_sender, ready) = watch::channel(false);
    let (raft_sender, raft) = watch::channel(Raft::default());
    let (others_sender, others_ready) = mpsc::unbounded_channel();
    let (said_sender, said) = watch::channel(Said::default());
    let (teller, asked) = Teller::new();
    let (scale, members) = (config.scale, Arc::clone(&config.members));
    tokio::spawn(sensors::watch_raft(
        Arc::clone(&members),
        does_contend,
        raft_sender,
    ));
    let apiserver = Apiserver {
        readiness: config.readiness.clone(),
        owned: is_owned.clone(),
        scale,
    };
    tokio::spawn(apiserver.watch(ready_sender));
    let mut all_told = Vec::new();
    for (name, address) in &members.addresses {
        if *name == members.own {
            continue;
        }
        let (name, others) = (name.clone(), others_sender.clone());
        let is_ready = move || drop(others.send(name.clone()));
        let (told, is_told) = watch::channel(0);
        all_told.push(is_told);
        let (peers, said) = (config.peers.clone(), said.clone());
        tokio::spawn(exchange::talk_to(peers, *address, said, told, is_ready));
    }
    let looking = exchange::look_at_clients(is_owned, said_sender, asked, all_told, scale);
    tokio::spawn(looking);
    let (words, received) = mpsc::unbounded_channel();
    let heard = Arc::new(Heard::of(&config.addresses));
    let channels = Channels {
        reports,
        owned,
        contends,
        ready: ready.clone(),
        raft: raft.clone(),
        others_ready,
    };
    tokio::spawn(run(config, channels, received, Arc::clone(&heard), teller));
    Handle {
        words,
        reports: told,
        heard,
        ready,
        raft,
        drains: Arc::new(AtomicBool::new(false)),
    }
}

impl Handle {
    /// What people are told, whenever that changes.
    pub fn watch(&self) -> watch::Receiver<Vec<VirtualAddress>> {
        self.reports.clone()
    }

    /// Lets go of all addresses, and takes none any more. Returns when that is done.
    pub async fn drain(&self) {
        self.drains.store(true, Ordering::SeqCst);
        self.say(
            None,
            Event::Release {
                heir: None,
                drain: true,
            },
        );
        let mut reports = self.watch();
        let gone = reports.wait_for(|told| told.iter().all(|one| !is_held(one)));
        // Nobody drives them any more: that is as well.
        let _ = gone.await;
    }

    /// Lets go of an address, to another master.
    pub fn release(&self, address: IpAddr, heir: &str) {
        let heir = Some(heir.to_owned());
        self.say(Some(address), Event::Release { heir, drain: false });
    }

    /// Answers another master that owns addresses.
    pub fn answer(&self, owner: &str, question: &[u8]) -> Answer {
        let (answer, owned) = exchange::answer(&self.heard, self.could_own(), question);
        for address in owned {
            self.say(Some(address), Event::OwnerSaid(owner.to_owned()));
        }
        answer
    }

    /// Whether this node would take an address that it is offered.
    fn could_own(&self) -> bool {
        let reports = self.reports.borrow();
        let has_gates = reports
            .iter()
            .all(|told| told.state != VirtualState::Unknown);
        let has_leader = self.raft.borrow().leader.is_some();
        has_gates && has_leader && *self.ready.borrow() && !self.drains.load(Ordering::SeqCst)
    }

    fn say(&self, about: Option<IpAddr>, event: Event) {
        // See `drain`.
        let _ = self.words.send(Word { about, event });
    }
}

fn is_held(told: &VirtualAddress) -> bool {
    matches!(told.state, VirtualState::Owner | VirtualState::Releasing)
}

fn unknown(address: IpAddr, reason: Option<Reason>) -> VirtualAddress {
    VirtualAddress {
        address: address.to_string(),
        state: VirtualState::Unknown,
        owner: None,
        since: None,
        epoch: 0,
        hold: None,
        moves: 0,
        reason,
    }
}

/// From one interface to the next, for ever.
async fn run(
    config: Arc<Config>,
    mut channels: Channels,
    mut words: mpsc::UnboundedReceiver<Word>,
    heard: Arc<Heard>,
    teller: Teller,
) {
    let mut network = config.network.clone();
    loop {
        let there = network.wait_for(|network| !network.addresses.is_empty());
        let there = there
            .await
            .ok()
            .map(|now| (now.interface.clone(), now.index));
        let Some((Some(device), Some(index))) = there else {
            return;
        };
        match place(&config, &device, index, &heard, &teller).await {
            Ok(place) => run_on(&config, &mut channels, &mut words, place).await,
            Err(cause) => {
                let reason = Reason::new(ReasonCode::VipGateMissing, Timestamp::now());
                let reason = reason.with_cause(format!("{cause}."));
                tracing::error!(cause, "this node cannot own virtual addresses");
                let told = config.addresses.iter();
                let told = told.map(|address| unknown(*address, Some(reason.clone())));
                channels.reports.send_replace(told.collect());
                tokio::time::sleep(config.scale * TRY_AGAIN).await;
            }
        }
    }
}

async fn place(
    config: &Config,
    device: &str,
    index: u32,
    heard: &Arc<Heard>,
    teller: &Teller,
) -> Result<Place, String> {
    let gates = Gatekeeper::install(device, &config.addresses).await;
    let gates = gates.map_err(|error| {
        format!(
            "The gate of the virtual address cannot be hung into {device}: {}",
            with_sources(&error)
        )
    })?;
    let netlink = rtnetlink::new_connection();
    let (connection, netlink, _) =
        netlink.map_err(|error| format!("No netlink socket can be opened: {error}"))?;
    tokio::spawn(connection);
    Ok(Place {
        device: device.to_owned(),
        interface: Interface { netlink, index },
        gates,
        network: config.network.clone(),
        heard: Arc::clone(heard),
        teller: teller.clone(),
        scale: config.scale,
    })
}

/// Until the node has another interface.
async fn run_on(
    config: &Config,
    channels: &mut Channels,
    words: &mut mpsc::UnboundedReceiver<Word>,
    place: Place,
) {
    let mut drivers = JoinSet::new();
    let mut inboxes = Vec::new();
    let (device, number) = (place.device.clone(), place.interface.index);
    for (index, address) in config.addresses.iter().enumerate() {
        let (answers, inbox) = mpsc::unbounded_channel();
        inboxes.push((*address, answers.clone()));
        let reports = channels.reports.clone();
        let driver = Driver {
            address: *address,
            setup: setup(config),
            deciding: config.deciding,
            place: place.clone(),
            store: Arc::new(Store::new(Arc::clone(&config.members), *address)),
            inbox,
            answers,
            ready: channels.ready.clone(),
            raft: channels.raft.clone(),
            publish: Box::new(move |told| {
                reports.send_if_modified(|all| {
                    std::mem::replace(&mut all[index], told.clone()) != told
                });
            }),
        };
        drivers.spawn(driver.run());
    }
    let mut reports = channels.reports.subscribe();
    let mut network = config.network.clone();
    let tell = |about: Option<IpAddr>, event: Event| {
        let addressed = inboxes.iter();
        for (_, inbox) in
            addressed.filter(|(address, _)| about.is_none_or(|about| about == *address))
        {
            let _ = inbox.send(event.clone());
        }
    };
    loop {
        tokio::select! {
            Some(word) = words.recv() => tell(word.about, word.event),
            Some(name) = channels.others_ready.recv() => tell(None, Event::OtherReady(name)),
            Ok(()) = reports.changed() => {
                let told = reports.borrow_and_update().clone();
                follow(channels, &told);
            }
            // One of the same name may be another one.
            gone = network.wait_for(|now| now.interface.as_ref() != Some(&device) || now.index != Some(number)) => {
                drop(gone);
                tracing::warn!(device, "the interface of the virtual addresses is gone");
                return;
            }
        }
    }
}

/// What sensors must know of the addresses' states.
fn follow(channels: &Channels, told: &[VirtualAddress]) {
    let owned: Vec<IpAddr> = told
        .iter()
        .filter(|one| one.state == VirtualState::Owner)
        .filter_map(|one| one.address.parse().ok())
        .collect();
    let contends = owned.len() < told.len();
    channels
        .contends
        .send_if_modified(|before| std::mem::replace(before, contends) != contends);
    channels
        .owned
        .send_if_modified(|before| std::mem::replace(before, owned.clone()) != owned);
}

fn setup(config: &Config) -> Setup {
    // Without random numbers it is at least another one than that of the supervisor before.
    let seed = random::random().map_or_else(
        |_| {
            crate::services::boot_time()
                .since_boot()
                .subsec_nanos()
                .into()
        },
        u64::from_le_bytes,
    );
    Setup {
        identity: Identity {
            node: config.members.own.clone(),
            instance: config.instance.clone(),
        },
        seed,
        scale: config.scale,
        window: WINDOW,
    }
}
