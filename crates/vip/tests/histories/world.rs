//! The network, etcd, the kernels' gates, and everything that goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use masthead_machine::{BootTime, Machine, Scale};
use masthead_simulator::{Environment, Node, Schedule};
use masthead_vip::{
    Action, Change, Decision, Event, Identity, Nonce, Note, Ownership, Raft, Setup, Version,
};

use crate::clock::Clock;
use crate::etcd::Etcd;
use crate::host::Host;
use crate::scenario::{CALM_FROM, REST_FROM, Scenario};
use masthead_vip_faults::{Broken, Fault};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How often fate looks at each host.
const FATE: Duration = Duration::from_millis(250);

/// How often a master tells the others that it can serve.
const PUBLISH: Duration = Duration::from_millis(300);

/// How often a host asks its member who leads.
const POLL: Duration = Duration::from_millis(50);

/// What happens outside of the machines.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Fate(usize),
    Publish(usize),
    Poll(usize),
    /// To the machine of that life, when its process runs.
    Hear {
        host: usize,
        life: u64,
        event: Event,
    },
    /// A transaction reaches the leader, or does not.
    Arrive(usize, Nonce),
    Commit(usize, Nonce),
    GiveUp(usize, Nonce),
    /// The member of a host shows the key.
    Show(usize),
    AnswerRead {
        host: usize,
        life: u64,
        give_up: BootTime,
    },
    /// The kernel takes what its gate is told; computed when the clock showed that.
    ReachGate {
        host: usize,
        life: u64,
        until: Option<BootTime>,
        computed: BootTime,
    },
    PowerOn(usize),
    StartSupervisor(usize),
    Heal,
    Elect,
    /// etcd has space, or not.
    Space(bool),
    BecomeReady(usize),
    Undrain(usize),
}

#[derive(Clone, Debug)]
struct Transaction {
    expected: Version,
    change: Change,
    life: u64,
    answered: bool,
}

#[derive(Clone, Debug)]
struct Kernel {
    clock: Clock,
    powered: bool,
    boots: u64,
    /// Of the world's time.
    gate: Option<BootTime>,
    open_since: BootTime,
    /// The process stands still until then.
    paused: BootTime,
    /// What it does is done in order.
    busy: BootTime,
    ready: bool,
    /// Hosts of the same side can talk.
    side: u64,
    raft: Raft,
    /// What its member has shown last.
    shown: Option<Version>,
    deciding: BTreeMap<Nonce, Transaction>,
}

pub(crate) struct World {
    scenario: Scenario,
    fault: Option<Fault>,
    hosts: Vec<Kernel>,
    etcd: Etcd,
    /// Owners are counted so that a history without any proves nothing.
    pub(crate) moves: u64,
    pub(crate) steps: u64,
}

impl World {
    pub(crate) fn new(scenario: Scenario, fault: Option<Fault>) -> Self {
        Self {
            scenario,
            fault,
            hosts: Vec::new(),
            etcd: Etcd::new(),
            moves: 0,
            steps: 0,
        }
    }

    fn host_name(host: usize) -> String {
        format!("m{}", host + 1)
    }

    fn start(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        let setup = Setup {
            identity: Identity {
                node: Self::host_name(host),
                instance: format!("boot {}", self.hosts[host].boots),
            },
            seed: schedule.random().bits(),
            scale: Scale::REAL,
            window: self.scenario.window,
        };
        let kernel = &mut self.hosts[host];
        kernel.paused = BootTime::default();
        kernel.busy = BootTime::default();
        kernel.deciding.clear();
        let machine = Host {
            ownership: Ownership::new(setup),
            clock: kernel.clock,
            broken: self.fault.map(Broken::new),
        };
        schedule.boot(Node(host), machine);
        let (ready, raft) = (kernel.ready, kernel.raft);
        schedule.tell(Node(host), Event::Ready(ready));
        schedule.tell(Node(host), Event::Raft(raft));
        self.show_later(schedule, host);
    }

    /// A process that is about to do something may stand still first.
    fn pause(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        if schedule.mishap(self.scenario.pauses, "a process stands still") {
            let time = schedule.random().up_to(3 * SECOND);
            self.hosts[host].paused = schedule.now() + time;
        }
    }

    /// When what a process does now is done, at the earliest.
    fn done_at(&mut self, schedule: &mut Schedule<Self>, host: usize) -> Duration {
        let work = schedule.random().up_to(self.scenario.latency / 8);
        let kernel = &mut self.hosts[host];
        let at = schedule.now().max(kernel.paused).max(kernel.busy) + work;
        kernel.busy = at;
        at.since(schedule.now())
    }

    fn connected(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.hosts[one], &self.hosts[other]);
        one.powered && other.powered && one.side == other.side
    }

    /// Whether a host's member can reach a leader who has a majority.
    fn is_served(&self, host: usize) -> bool {
        self.etcd
            .leader
            .is_some_and(|leader| self.connected(host, leader) && self.has_majority(leader))
    }

    fn has_majority(&self, host: usize) -> bool {
        let all = 0..self.hosts.len();
        let reached = all.filter(|other| self.connected(host, *other)).count();
        2 * reached > self.hosts.len()
    }

    /// Whether it is only asked for what the own member shows.
    fn is_as_shown(&self, host: usize, nonce: Nonce) -> bool {
        let kernel = &self.hosts[host];
        let asked = kernel.deciding.get(&nonce);
        asked.is_some_and(|asked| {
            asked.change == Change::Confirm && kernel.shown == Some(asked.expected)
        })
    }

    fn show_later(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        let mut delay = schedule.random().up_to(self.scenario.latency);
        if schedule.mishap(self.scenario.late_sights, "a member shows a change late") {
            delay += schedule.random().up_to(3 * SECOND);
        }
        schedule.happen_after(delay, Happening::Show(host));
    }

    fn show_all(&mut self, schedule: &mut Schedule<Self>) {
        for host in 0..self.hosts.len() {
            self.show_later(schedule, host);
        }
    }

    /// The leader is gone, or out of reach of a majority.
    fn lose_leader(&mut self, schedule: &mut Schedule<Self>) {
        self.etcd.leader = None;
        let time = 300 * MILLISECOND + schedule.random().up_to(1500 * MILLISECOND);
        schedule.happen_after(time, Happening::Elect);
    }

    fn elect(&mut self, schedule: &mut Schedule<Self>) {
        if self.etcd.leader.is_some() {
            return;
        }
        let able: Vec<usize> = (0..self.hosts.len())
            .filter(|host| self.hosts[*host].powered && self.has_majority(*host))
            .collect();
        if able.is_empty() {
            schedule.happen_after(200 * MILLISECOND, Happening::Elect);
            return;
        }
        let place = schedule.random().below(able.len() as u64);
        self.etcd.leader = Some(able[usize::try_from(place).expect("it is short")]);
        self.etcd.term += 1;
    }

    fn cut_power(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        schedule.crash(Node(host));
        let kernel = &mut self.hosts[host];
        kernel.powered = false;
        kernel.gate = None;
        kernel.deciding.clear();
        if self.etcd.leader == Some(host) {
            self.lose_leader(schedule);
        }
        let time = SECOND + schedule.random().up_to(5 * SECOND);
        schedule.happen_after(time, Happening::PowerOn(host));
    }

    fn fate(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        schedule.happen_after(FATE, Happening::Fate(host));
        if !self.hosts[host].powered {
            return;
        }
        if schedule.mishap(self.scenario.power_cuts, "a power cut") {
            return self.cut_power(schedule, host);
        }
        if schedule.is_up(Node(host))
            && schedule.mishap(self.scenario.supervisor_deaths, "a supervisor dies")
        {
            schedule.crash(Node(host));
            let time = 100 * MILLISECOND + schedule.random().up_to(SECOND);
            schedule.happen_after(time, Happening::StartSupervisor(host));
        }
        if self.etcd.leader == Some(host)
            && schedule.mishap(self.scenario.elections, "the leader is lost")
        {
            self.lose_leader(schedule);
        }
        if schedule.mishap(self.scenario.partitions, "a partition") {
            for kernel in &mut self.hosts {
                kernel.side = schedule.random().below(2);
            }
            if self
                .etcd
                .leader
                .is_some_and(|leader| !self.has_majority(leader))
            {
                self.lose_leader(schedule);
            }
            let time = schedule.random().up_to(5 * SECOND);
            schedule.happen_after(time, Happening::Heal);
        }
        if self.etcd.space && schedule.mishap(self.scenario.no_space, "etcd has no space") {
            self.etcd.space = false;
            let time = schedule.random().up_to(8 * SECOND);
            schedule.happen_after(time, Happening::Space(true));
        }
        if self.hosts[host].ready && schedule.mishap(self.scenario.unready, "an apiserver fails") {
            self.hosts[host].ready = false;
            hear_after(schedule, MILLISECOND, host, Event::Ready(false));
            let time = schedule.random().up_to(4 * SECOND);
            schedule.happen_after(time, Happening::BecomeReady(host));
        }
        if schedule.mishap(self.scenario.releases, "an operator has it released") {
            let other = schedule.random().below(self.hosts.len() as u64 + 1);
            let other = usize::try_from(other).expect("it is small");
            let heir = (other < self.hosts.len() && other != host).then(|| Self::host_name(other));
            let drain = schedule.random().per_mille(500);
            hear_after(schedule, MILLISECOND, host, Event::Release { heir, drain });
            if drain {
                let time = schedule.random().up_to(4 * SECOND);
                schedule.happen_after(time, Happening::Undrain(host));
            }
        }
    }

    fn poll(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        schedule.happen_after(POLL, Happening::Poll(host));
        if !self.hosts[host].powered {
            return;
        }
        // One that is cut off knows no leader, after a while: here at once.
        let leader = self.etcd.leader.filter(|_| self.is_served(host));
        let raft = Raft {
            leader: leader.map(|leader| leader as u64 + 1),
            term: self.etcd.term,
        };
        if self.hosts[host].raft != raft {
            self.hosts[host].raft = raft;
            hear_after(schedule, MILLISECOND, host, Event::Raft(raft));
        }
    }

    fn decide(
        &mut self,
        schedule: &mut Schedule<Self>,
        host: usize,
        nonce: Nonce,
        decision: Decision,
    ) {
        let Some(transaction) = self.hosts[host].deciding.get_mut(&nonce) else {
            return;
        };
        if transaction.answered || transaction.life != schedule.life(Node(host)) {
            return;
        }
        transaction.answered = true;
        let delay = schedule.random().up_to(self.scenario.latency / 4);
        hear_after(schedule, delay, host, Event::Decided { nonce, decision });
    }

    fn reach_gate(
        &mut self,
        schedule: &mut Schedule<Self>,
        host: usize,
        until: Option<BootTime>,
        computed: BootTime,
    ) -> Result<(), String> {
        let now = schedule.now();
        let kernel = &mut self.hosts[host];
        let shown = kernel.clock.shows(now);
        let end = until.map(|until| {
            // The timer of the element, which was computed before, and the rule with the absolute time.
            let relative = shown + until.since(computed);
            let end = match self.fault {
                Some(Fault::GateRelativeOnly) => relative,
                _ => relative.min(until),
            };
            kernel.clock.when(end)
        });
        let was_open = kernel.gate.is_some_and(|gate| gate > now);
        kernel.gate = end.filter(|end| *end > now);
        let opens = kernel.gate.is_some();
        if opens && !was_open {
            kernel.open_since = now;
            self.moves += 1;
        }
        hear_after(schedule, Duration::ZERO, host, Event::GateSet(until));
        if opens {
            self.one_gate(now, host)?;
        }
        Ok(())
    }

    fn one_gate(&self, now: BootTime, opened: usize) -> Result<(), String> {
        for (other, kernel) in self.hosts.iter().enumerate() {
            if other != opened && kernel.gate.is_some_and(|end| end > now) {
                return Err(format!(
                    "two owners: the gates of {} and {} are open",
                    Self::host_name(opened),
                    Self::host_name(other)
                ));
            }
        }
        Ok(())
    }
}

/// Tells the machine of a host something after a while, when its process runs.
fn hear_after(schedule: &mut Schedule<World>, delay: Duration, host: usize, event: Event) {
    let life = schedule.life(Node(host));
    schedule.happen_after(delay, Happening::Hear { host, life, event });
}

impl Environment for World {
    type Machine = Host;
    type Happening = Happening;

    fn begin(&mut self, schedule: &mut Schedule<Self>) {
        for host in 0..self.scenario.hosts {
            let clock = Clock::draw(schedule.random());
            self.hosts.push(Kernel {
                clock,
                powered: true,
                boots: 1,
                gate: None,
                open_since: BootTime::default(),
                paused: BootTime::default(),
                busy: BootTime::default(),
                ready: true,
                side: 0,
                raft: Raft::default(),
                shown: None,
                deciding: BTreeMap::new(),
            });
            self.start(schedule, host);
            for (often, happening) in [
                (FATE, Happening::Fate(host)),
                (PUBLISH, Happening::Publish(host)),
                (POLL, Happening::Poll(host)),
            ] {
                let delay = schedule.random().up_to(often);
                schedule.happen_after(delay, happening);
            }
        }
        schedule.happen_after(100 * MILLISECOND, Happening::Elect);
        if let Some(time) = self.scenario.full_from {
            schedule.happen_after(time, Happening::Space(false));
        }
    }

    fn act(
        &mut self,
        schedule: &mut Schedule<Self>,
        node: Node,
        action: Action,
    ) -> Result<(), String> {
        let host = node.0;
        if !matches!(action, Action::WakeAt(_) | Action::Note(_)) {
            self.pause(schedule, host);
        }
        let life = schedule.life(node);
        match action {
            Action::WakeAt(_) | Action::Announce(_) | Action::Note(_) => {}
            Action::Transact {
                nonce,
                expected,
                change,
                give_up,
            } => {
                let transaction = Transaction {
                    expected,
                    change,
                    life,
                    answered: false,
                };
                self.hosts[host].deciding.insert(nonce, transaction);
                let sent = self.done_at(schedule, host);
                schedule.happen_after(sent, Happening::Arrive(host, nonce));
                let give_up = self.hosts[host].clock.when(give_up).since(schedule.now());
                schedule.happen_after(give_up.max(sent), Happening::GiveUp(host, nonce));
            }
            Action::Read(patience) => {
                let asked = self.done_at(schedule, host);
                let delay = asked + schedule.random().up_to(self.scenario.latency);
                let give_up = schedule.now() + asked + patience;
                schedule.happen_after(
                    delay,
                    Happening::AnswerRead {
                        host,
                        life,
                        give_up,
                    },
                );
            }
            Action::SetGate(until) => {
                let computed = self.done_at(schedule, host);
                let at = schedule.now() + computed;
                let computed_at = self.hosts[host].clock.shows(at);
                // Between the computation and the kernel it may stand still again.
                self.pause(schedule, host);
                let arrives = self.done_at(schedule, host);
                schedule.happen_after(
                    arrives,
                    Happening::ReachGate {
                        host,
                        life,
                        until,
                        computed: computed_at,
                    },
                );
            }
            Action::SetAddress(there) => {
                let done = self.done_at(schedule, host);
                hear_after(schedule, done, host, Event::AddressSet(there));
            }
            Action::LeaveClients { .. } => {
                let done = self.done_at(schedule, host);
                hear_after(schedule, done, host, Event::ClientsLeft);
            }
            Action::ProbeAddress => {
                let done = self.done_at(schedule, host) + 200 * MILLISECOND;
                hear_after(schedule, done, host, Event::Probed(None));
            }
        }
        Ok(())
    }

    fn happen(
        &mut self,
        schedule: &mut Schedule<Self>,
        happening: Happening,
    ) -> Result<(), String> {
        match happening {
            Happening::Fate(host) => self.fate(schedule, host),
            Happening::Publish(host) => {
                schedule.happen_after(PUBLISH, Happening::Publish(host));
                let owns = self.hosts[host].gate > Some(schedule.now());
                for other in 0..self.hosts.len() {
                    if other != host && self.connected(host, other) {
                        let name = || Self::host_name(host);
                        let ready = self.hosts[host].ready.then(|| Event::OtherReady(name()));
                        let owner = owns.then(|| Event::OwnerSaid(name()));
                        for event in ready.into_iter().chain(owner) {
                            hear_after(schedule, MILLISECOND, other, event);
                        }
                    }
                }
            }
            Happening::Poll(host) => self.poll(schedule, host),
            Happening::Hear { host, life, event } => {
                if life == schedule.life(Node(host)) && schedule.is_up(Node(host)) {
                    let paused = self.hosts[host].paused;
                    if paused > schedule.now() {
                        let delay = paused.since(schedule.now());
                        hear_after(schedule, delay, host, event);
                    } else {
                        schedule.tell(Node(host), event);
                    }
                }
            }
            Happening::Arrive(host, nonce) => {
                let is_there = self.hosts[host].deciding.contains_key(&nonce);
                if self.fault == Some(Fault::OnlyOwnMemberAsked) && self.is_as_shown(host, nonce) {
                    self.decide(schedule, host, nonce, Decision::Done(0));
                    return Ok(());
                }
                let lost =
                    schedule.mishap(self.scenario.lost_transactions, "a transaction is lost");
                if !is_there || lost || !self.is_served(host) {
                    return Ok(());
                }
                let mut delay = schedule.random().up_to(self.scenario.latency);
                if schedule.mishap(self.scenario.slow_commits, "a commit takes long") {
                    delay += schedule.random().up_to(5 * SECOND);
                }
                if schedule.mishap(self.scenario.slow_disks, "a disk is slow") {
                    delay += schedule.random().up_to(200 * MILLISECOND);
                }
                schedule.happen_after(delay, Happening::Commit(host, nonce));
            }
            Happening::Commit(host, nonce) => {
                // It lies in the log of a leader, who may be another one by now.
                if self.etcd.leader.is_none() {
                    schedule.happen_after(50 * MILLISECOND, Happening::Commit(host, nonce));
                    return Ok(());
                }
                let Some(transaction) = self.hosts[host].deciding.get(&nonce).cloned() else {
                    return Ok(());
                };
                let now = schedule.now();
                let Transaction {
                    expected, change, ..
                } = &transaction;
                let is_expected = self.etcd.seen.version == *expected;
                let robbed = self.etcd.robbed_heir(change, now);
                if let Some(heir) = robbed.filter(|_| is_expected && self.etcd.space) {
                    let name = Self::host_name(host);
                    return Err(format!(
                        "taken from the heir: {name} was faster than {heir}"
                    ));
                }
                let before = self.etcd.seen.as_of;
                let all_the_same = !self.etcd.space && schedule.random().per_mille(100);
                let decision = self
                    .etcd
                    .commit(now, *expected, change, all_the_same, self.fault);
                if self.etcd.seen.as_of != before {
                    self.show_all(schedule);
                }
                let lost = schedule.mishap(self.scenario.lost_answers, "an answer is lost");
                if !lost && self.is_served(host) {
                    self.decide(schedule, host, nonce, decision);
                }
            }
            Happening::GiveUp(host, nonce) => {
                self.decide(schedule, host, nonce, Decision::Unanswered);
            }
            Happening::Show(host) => {
                if self.hosts[host].powered {
                    if self.is_served(host) {
                        let seen = self.etcd.seen.clone();
                        self.hosts[host].shown = Some(seen.version);
                        hear_after(schedule, Duration::ZERO, host, Event::Saw(seen));
                    } else {
                        schedule.happen_after(100 * MILLISECOND, Happening::Show(host));
                    }
                }
            }
            Happening::AnswerRead {
                host,
                life,
                give_up,
            } => {
                if life != schedule.life(Node(host)) {
                    return Ok(());
                }
                if self.is_served(host) {
                    let seen = self.etcd.seen.clone();
                    hear_after(schedule, MILLISECOND, host, Event::Read(seen));
                } else {
                    let delay = give_up.since(schedule.now());
                    hear_after(schedule, delay, host, Event::ReadFailed);
                }
            }
            Happening::ReachGate {
                host,
                life,
                until,
                computed,
            } => {
                // A process that has died since has not done it.
                if life == schedule.life(Node(host)) {
                    return self.reach_gate(schedule, host, until, computed);
                }
            }
            Happening::PowerOn(host) => {
                self.hosts[host].powered = true;
                self.hosts[host].boots += 1;
                self.hosts[host].ready = true;
                self.hosts[host].raft = Raft::default();
                self.start(schedule, host);
            }
            Happening::StartSupervisor(host) => {
                if self.hosts[host].powered && !schedule.is_up(Node(host)) {
                    self.start(schedule, host);
                }
            }
            Happening::Heal => {
                for kernel in &mut self.hosts {
                    kernel.side = 0;
                }
                self.show_all(schedule);
            }
            Happening::Elect => self.elect(schedule),
            Happening::Space(space) => {
                let is_full = |from: Duration| from <= schedule.now().since_boot();
                self.etcd.space = space && !self.scenario.full_from.is_some_and(is_full);
            }
            Happening::BecomeReady(host) => {
                self.hosts[host].ready = true;
                hear_after(schedule, MILLISECOND, host, Event::Ready(true));
            }
            Happening::Undrain(host) => {
                hear_after(schedule, MILLISECOND, host, Event::Undrain);
            }
        }
        Ok(())
    }

    fn told(&mut self, _: BootTime, _: Node, _: &Event) {}

    fn check(
        &mut self,
        now: BootTime,
        node: Node,
        _: &Host,
        actions: &[<Host as Machine>::Action],
    ) -> Result<(), String> {
        self.steps += 1;
        let expired = actions.contains(&Action::Note(Note::Expired));
        if expired && now >= REST_FROM {
            let name = Self::host_name(node.0);
            return Err(format!("time is over in a calm world: that of {name}"));
        }
        Ok(())
    }

    fn finish(&mut self, now: BootTime, _: &[Option<&Host>]) -> Result<(), String> {
        let owners = self
            .hosts
            .iter()
            .filter(|kernel| kernel.gate.is_some_and(|end| end > now));
        let since: Vec<BootTime> = owners.map(|kernel| kernel.open_since).collect();
        match since.as_slice() {
            [] => Err("no owner in the end".to_owned()),
            [since] if *since > REST_FROM => Err(format!(
                "no owner in the end: not before {since}, and calm since {CALM_FROM}"
            )),
            _ => Ok(()),
        }
    }
}
