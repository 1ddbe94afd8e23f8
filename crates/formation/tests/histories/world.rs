//! The network, the power, the disks, the operator and the clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use masthead_formation::{
    Action, EtcdStart, Event, Formation, InvalidOverride, KeyFingerprint, Marker, Member, Message,
    Plan, PlanDocument, Record, Sealed, Sender, Started, Status, Volume,
};
use masthead_machine::BootTime;
use masthead_simulator::{Environment, Node, Schedule};

use crate::etcd::{Log, Promises};
use crate::faults::{Fault, Faulty};
use crate::host::{
    EtcdDisk, Host, Seed, StateDisk, Wipe, address, host_named, name, random_bytes, random_cluster,
    some_of,
};
use crate::properties::Properties;
use crate::scenario::{CALM_FROM, Kind, Scenario};
use crate::script::Script;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) struct World {
    scenario: Scenario,
    fault: Option<Fault>,
    pub(crate) seeds: Vec<Seed>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) statuses: Vec<Option<Status>>,
    promises: Promises,
    properties: Properties,
    /// Whether the wrong seeds are put right in the end.
    seeds_heal: bool,
    pub(crate) script: Script,
    /// Actions of all machines so far.
    pub(crate) actions: usize,
    /// What operators were answered.
    pub(crate) answers: Vec<Result<(), InvalidOverride>>,
}

#[derive(Debug)]
pub(crate) enum Happening {
    Boots(usize),
    Reboots(usize),
    Arrives {
        to: usize,
        key: Option<KeyFingerprint>,
        from: Sender,
        message: Box<Message>,
    },
    /// A write ends, in this life of the host.
    Written {
        host: usize,
        life: u64,
    },
    KeysMade {
        host: usize,
        life: u64,
    },
    NetworkMayChange,
    PowerMayGo,
    DiskMayGo,
    OperatorMayAct,
    ClientsWrite,
    Calm,
    Scripted(usize),
}

impl World {
    pub(crate) fn new(scenario: Scenario, fault: Option<Fault>) -> Self {
        Self {
            properties: Properties::new(scenario.masters),
            statuses: vec![None; scenario.masters],
            scenario,
            fault,
            seeds: Vec::new(),
            hosts: Vec::new(),
            promises: Promises::default(),
            seeds_heal: true,
            script: Script::default(),
            actions: 0,
            answers: Vec::new(),
        }
    }

    fn prepare(&mut self, schedule: &mut Schedule<Self>) {
        let masters = self.scenario.masters;
        let random = schedule.random();
        self.hosts = (0..masters).map(|_| Host::blank(random, 0)).collect();
        self.seeds = vec![Seed::listing(1, 0..masters)];
        match self.scenario.kind {
            Kind::Cuts | Kind::Wipes | Kind::Overrides => {}
            Kind::Seeds => {
                let holders = some_of(random, masters);
                let listed: BTreeSet<usize> = match random.below(2) {
                    0 => (0..masters).collect(),
                    _ => holders.union(&some_of(random, masters)).copied().collect(),
                };
                if !holders.is_empty() {
                    self.seeds.push(Seed::listing(2, listed));
                    for host in &holders {
                        self.hosts[*host].seed = 1;
                    }
                }
                self.seeds_heal = random.below(4) > 0;
            }
            Kind::Former if random.below(3) == 0 => {
                self.seeds.push(Seed::listing(2, [0]));
                self.hosts[0].seed = 1;
            }
            Kind::Former => {
                let host = usize::try_from(random.below(masters as u64)).expect("one of seven");
                let step = random.below(5);
                self.place_former_disk(schedule, host, &(0..masters).collect(), step);
            }
        }
    }

    /// The disk of a cluster that once was, with the same addresses and the same seed: as it was at some step.
    pub(crate) fn place_former_disk(
        &mut self,
        schedule: &mut Schedule<Self>,
        host: usize,
        cluster: &BTreeSet<usize>,
        step: u64,
    ) {
        let masters = self.scenario.masters;
        let random = schedule.random();
        let machines: Vec<StateDisk> = (0..masters).map(|_| StateDisk::blank(random)).collect();
        let cluster_id = random_cluster(random);
        let state = self.hosts[host].state.clone();
        let mut members: Vec<Member> = cluster
            .iter()
            .map(|&other| {
                let machine = if other == host {
                    &state
                } else {
                    &machines[other]
                };
                Member {
                    address: address(other),
                    name: name(other),
                    machine_id: machine.machine_id,
                    key: machine.key,
                }
            })
            .collect();
        members.sort_by_key(|member| member.address);
        let plan = Plan::write(&PlanDocument {
            format: 1,
            oldest_format: 1,
            generation: 1 + random.below(3),
            cluster_id,
            cluster: "history".to_owned(),
            seed: self.seeds[0].hash,
            members,
            excluded: Vec::new(),
            timing_scale_per_mille: 1000,
            sealed: Sealed(vec![7]),
        })
        .expect("a plan");
        let plan = Arc::new(plan);
        self.properties.former(&plan, step > 2);
        let disks = &mut self.hosts[host];
        let machine_id = disks.state.machine_id;
        disks.store(Record::Plan(Arc::clone(&plan)));
        if step > 0 {
            disks.store(Record::Go(plan.hash()));
        }
        if step > 1 {
            disks.store(Record::Marker(Marker {
                cluster_id,
                machine_id,
            }));
        }
        if step > 2 {
            disks.store(Record::Started(Started {
                cluster_id,
                etcd_filesystem: disks.etcd.uuid.clone(),
                confirmed: step > 3,
            }));
        }
        if step > 3 {
            disks.etcd.log = Some(Log::empty(cluster_id, machine_id));
        }
    }

    pub(crate) fn cut(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        if self.hosts[host].off {
            return;
        }
        schedule.crash(Node(host));
        self.end_writing(schedule, host);
        let disks = &mut self.hosts[host];
        disks.off = true;
        disks.limbo.clear();
        disks.running = None;
        self.statuses[host] = None;
        let delay = schedule.random().up_to(SECOND * 2);
        schedule.happen_after(delay, Happening::Boots(host));
    }

    /// What was not confirmed is there or not.
    fn end_writing(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        if let Some(record) = self.hosts[host].writing.take()
            && schedule.random().below(2) == 0
        {
            self.store(host, record);
        }
    }

    fn store(&mut self, host: usize, record: Record) {
        self.properties.stored(&self.hosts[host], &record);
        self.hosts[host].store(record);
    }

    pub(crate) fn boot(&mut self, schedule: &mut Schedule<Self>, host: usize) {
        if !self.hosts[host].off || self.hosts[host].held_off {
            return;
        }
        if schedule.mishap(self.scenario.wipes, "a disk is wiped or replaced") {
            let wipe = match schedule.random().below(3) {
                0 => Wipe::Etcd,
                1 => Wipe::State,
                _ => Wipe::Both,
            };
            self.wipe(schedule, host, wipe);
        }
        let unreadable = schedule.mishap(self.scenario.unreadable, "a disk cannot be read");
        let which = schedule.random().below(3);
        let disks = &mut self.hosts[host];
        disks.state_unreadable = unreadable && which != 1;
        disks.etcd_unreadable = unreadable && which != 0;
        disks.off = false;
        disks.served = false;
        let corrected = schedule.random().below(4) == 0;
        if self.scenario.kind == Kind::Former || self.seeds_heal {
            let calm = schedule.is_calm();
            let disks = &mut self.hosts[host];
            if corrected || calm {
                disks.seed = 0;
            }
        }
        self.properties.booted(host);
        let session = schedule.random().bits();
        let disks = &self.hosts[host];
        let setup = disks.setup(host, &self.seeds[disks.seed], session);
        schedule.boot(Node(host), Faulty::new(setup, self.fault));
        if unreadable {
            let delay = SECOND + schedule.random().up_to(SECOND * 3);
            schedule.happen_after(delay, Happening::Reboots(host));
        }
    }

    pub(crate) fn wipe(&mut self, schedule: &mut Schedule<Self>, host: usize, wipe: Wipe) {
        schedule.note(|| format!("{} is wiped: {wipe:?}", name(host)));
        let disks = &mut self.hosts[host];
        if matches!(wipe, Wipe::State | Wipe::Both) {
            self.properties.wiped(&disks.state);
            disks.state = StateDisk::blank(schedule.random());
        }
        if matches!(wipe, Wipe::Etcd | Wipe::Both) {
            disks.etcd = EtcdDisk::blank(schedule.random());
        }
    }

    fn written(&mut self, schedule: &mut Schedule<Self>, host: usize, life: u64) {
        if self.hosts[host].off || schedule.life(Node(host)) != life {
            return;
        }
        let Some(record) = self.hosts[host].writing.take() else {
            return;
        };
        if schedule.mishap(self.scenario.failed_writes, "a write fails") {
            self.hosts[host].limbo.push(record.clone());
            if schedule.random().below(2) == 0 {
                self.store(host, record);
            }
            let error = "input/output error".to_owned();
            schedule.tell(Node(host), Event::PersistFailed { error });
            return;
        }
        let written = record.file_name();
        let limbo = &mut self.hosts[host].limbo;
        limbo.retain(|failed| failed.file_name() != written);
        self.store(host, record);
        schedule.tell(Node(host), Event::Persisted);
    }

    fn send(
        &mut self,
        schedule: &mut Schedule<Self>,
        from: usize,
        to: &str,
        key: Option<KeyFingerprint>,
        message: &Message,
    ) {
        let to = host_named(to);
        let lost = schedule.mishap(self.scenario.lost, "a message is lost");
        let doubled = schedule.mishap(self.scenario.doubled, "a message is doubled");
        let connected = self.hosts[from].side == self.hosts.get(to).map_or(u64::MAX, |h| h.side);
        if lost || !connected {
            return;
        }
        let sender = Sender {
            address: address(from),
            key: self.hosts[from].state.key,
        };
        for _ in 0..=u64::from(doubled) {
            let mut delay = MILLISECOND + schedule.random().up_to(MILLISECOND * 5);
            if schedule.mishap(self.scenario.late, "a message is late") {
                delay += schedule.random().up_to(SECOND * 3);
            }
            let message = Box::new(message.clone());
            let arrives = Happening::Arrives {
                to,
                key,
                from: sender,
                message,
            };
            schedule.happen_after(delay, arrives);
        }
    }

    fn start_etcd(&mut self, host: usize, plan: Arc<Plan>, start: EtcdStart) -> Result<(), String> {
        self.properties
            .etcd_starts(&self.hosts, host, &plan, start)?;
        let disks = &mut self.hosts[host];
        if start == EtcdStart::New && disks.etcd.log.is_none() {
            disks.etcd.log = Some(Log::empty(plan.cluster_id(), disks.state.machine_id));
        }
        disks.running = Some(plan);
        Ok(())
    }

    /// Clients write through every group of members that can talk to each other.
    fn clients_write(&mut self, schedule: &mut Schedule<Self>) -> Result<bool, String> {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (host, disks) in self.hosts.iter().enumerate() {
            if let Some(plan) = &disks.running {
                let group = groups.entry((plan.cluster_id(), disks.side));
                group.or_default().push(host);
            }
        }
        let mut served = false;
        for group in groups.into_values() {
            let quorum = match &self.hosts[group[0]].running {
                Some(plan) => plan.quorum(),
                None => continue,
            };
            let slow = self.scenario.slow_writes;
            let unsynced = group
                .iter()
                .filter(|_| schedule.mishap(slow, "a member syncs too late for a write"))
                .copied()
                .collect();
            if self
                .promises
                .write(&mut self.hosts, &group, &unsynced, quorum)?
            {
                served = true;
                for host in group {
                    if !self.hosts[host].served {
                        self.hosts[host].served = true;
                        schedule.tell(Node(host), Event::EtcdServed);
                    }
                }
            }
        }
        Ok(served)
    }

    pub(crate) fn found_without(
        &mut self,
        schedule: &mut Schedule<Self>,
        host: usize,
        names: BTreeSet<String>,
    ) {
        self.properties.overridden(host);
        let cluster = "history".to_owned();
        schedule.tell(Node(host), Event::FoundWithout { names, cluster });
    }

    fn operator_acts(&mut self, schedule: &mut Schedule<Self>) {
        let hosts = self.hosts.len();
        let random = schedule.random();
        let host = usize::try_from(random.below(hosts as u64)).expect("one of seven");
        let at_random = random.below(4) == 0;
        let some = some_of(random, hosts);
        if self.hosts[host].off
            || !schedule.mishap(
                self.scenario.operator_acts,
                "an operator founds without some",
            )
        {
            return;
        }
        let side = self.hosts[host].side;
        let is_missing = |other: &usize| {
            let disks = &self.hosts[*other];
            if at_random {
                some.contains(other)
            } else {
                disks.off || disks.side != side
            }
        };
        let names: BTreeSet<String> = (0..hosts)
            .filter(|other| *other != host && is_missing(other))
            .map(name)
            .collect();
        self.found_without(schedule, host, names);
    }

    fn any_host(&self, schedule: &mut Schedule<Self>) -> usize {
        let host = schedule.random().below(self.hosts.len() as u64);
        usize::try_from(host).expect("one of seven")
    }
}

impl Environment for World {
    type Machine = Faulty;
    type Happening = Happening;

    fn begin(&mut self, schedule: &mut Schedule<Self>) {
        self.prepare(schedule);
        for host in 0..self.hosts.len() {
            self.hosts[host].off = true;
            let late = schedule.mishap(self.scenario.powered_on_late, "powered on late");
            let limit = if late { SECOND * 6 } else { MILLISECOND * 300 };
            let delay = schedule.random().up_to(limit);
            schedule.happen_after(delay, Happening::Boots(host));
        }
        for happening in [
            Happening::NetworkMayChange,
            Happening::PowerMayGo,
            Happening::DiskMayGo,
            Happening::OperatorMayAct,
            Happening::ClientsWrite,
        ] {
            let delay = schedule.random().up_to(SECOND);
            schedule.happen_after(delay, happening);
        }
        schedule.happen_after(CALM_FROM.since_boot(), Happening::Calm);
        for (number, (at, _)) in self.script.timed.iter().enumerate() {
            schedule.happen_after(*at, Happening::Scripted(number));
        }
    }

    fn act(
        &mut self,
        schedule: &mut Schedule<Self>,
        node: Node,
        action: Action,
    ) -> Result<(), String> {
        let host = node.0;
        self.properties
            .acts(&self.hosts, &self.seeds, host, &action)?;
        let life = schedule.life(node);
        match action {
            Action::Persist(record) => {
                self.hosts[host].writing = Some(record);
                let slow = schedule.mishap(self.scenario.slow_writes, "a write is slow");
                let limit = if slow { SECOND * 3 } else { MILLISECOND * 10 };
                let delay = schedule.random().up_to(limit);
                schedule.happen_after(delay, Happening::Written { host, life });
            }
            Action::Send { to, message } => {
                self.send(schedule, host, &to.master.name, to.key, &message);
            }
            Action::MakePlan { .. } => {
                let delay = schedule.random().up_to(MILLISECOND * 50);
                schedule.happen_after(delay, Happening::KeysMade { host, life });
            }
            Action::StartEtcd { plan, start } => self.start_etcd(host, plan, start)?,
            Action::Publish(status) => self.statuses[host] = Some(status),
            Action::Answer(answer) => self.answers.push(answer),
            Action::WakeAt(_) => {}
        }
        if schedule.mishap(
            self.scenario.cuts_between,
            "the power goes between two steps",
        ) {
            self.cut(schedule, host);
        }
        self.actions += 1;
        self.spring_traps(schedule)
    }

    fn happen(
        &mut self,
        schedule: &mut Schedule<Self>,
        happening: Happening,
    ) -> Result<(), String> {
        match happening {
            Happening::Boots(host) => self.boot(schedule, host),
            Happening::Reboots(host) => self.cut(schedule, host),
            Happening::Arrives {
                to,
                key,
                from,
                message,
            } => {
                let disks = &self.hosts[to];
                if !disks.off && key.is_none_or(|key| key == disks.state.key) {
                    let message = *message;
                    schedule.tell(Node(to), Event::Received { from, message });
                }
            }
            Happening::Written { host, life } => self.written(schedule, host, life),
            Happening::KeysMade { host, life } => {
                if !self.hosts[host].off && schedule.life(Node(host)) == life {
                    let event = if schedule.mishap(self.scenario.plan_failures, "no keys") {
                        let error = "no entropy".to_owned();
                        Event::PlanFailed { error }
                    } else {
                        Event::PlanMade {
                            cluster_id: random_cluster(schedule.random()),
                            sealed: Sealed(random_bytes(schedule.random()).to_vec()),
                        }
                    };
                    schedule.tell(Node(host), event);
                }
            }
            Happening::NetworkMayChange => {
                let apart = schedule.mishap(self.scenario.partitions, "the network splits");
                // Without splits of its own, a script's are left alone.
                if self.scenario.partitions > 0 {
                    for disks in &mut self.hosts {
                        disks.side = if apart { schedule.random().below(2) } else { 0 };
                    }
                }
                let delay = MILLISECOND * 300 + schedule.random().up_to(SECOND * 3);
                schedule.happen_after(delay, Happening::NetworkMayChange);
            }
            Happening::PowerMayGo => {
                if schedule.mishap(self.scenario.all_cut, "the power of all goes") {
                    (0..self.hosts.len()).for_each(|host| self.cut(schedule, host));
                }
                for host in 0..self.hosts.len() {
                    if schedule.mishap(self.scenario.cuts, "the power goes") {
                        self.cut(schedule, host);
                    }
                }
                let delay = schedule.random().up_to(SECOND);
                schedule.happen_after(delay, Happening::PowerMayGo);
            }
            Happening::DiskMayGo => {
                let host = self.any_host(schedule);
                let is_state = schedule.random().below(2) == 0;
                if !self.hosts[host].off
                    && schedule.mishap(self.scenario.volumes_lost, "a disk goes away")
                {
                    self.end_writing(schedule, host);
                    let disks = &mut self.hosts[host];
                    let volume = if is_state {
                        disks.state_unreadable = true;
                        Volume::State
                    } else {
                        disks.etcd_unreadable = true;
                        disks.running = None;
                        Volume::Etcd
                    };
                    let error = "input/output error".to_owned();
                    schedule.tell(Node(host), Event::VolumeLost { volume, error });
                    let delay = schedule.random().up_to(SECOND * 3);
                    schedule.happen_after(delay, Happening::Reboots(host));
                }
                schedule.happen_after(SECOND, Happening::DiskMayGo);
            }
            Happening::OperatorMayAct => {
                self.operator_acts(schedule);
                schedule.happen_after(MILLISECOND * 500, Happening::OperatorMayAct);
            }
            Happening::ClientsWrite => {
                self.clients_write(schedule)?;
                schedule.happen_after(MILLISECOND * 700, Happening::ClientsWrite);
            }
            Happening::Calm => {
                for host in 0..self.hosts.len() {
                    let disks = &mut self.hosts[host];
                    disks.side = 0;
                    let wrong_seed =
                        disks.seed != 0 && (self.seeds_heal || self.scenario.kind == Kind::Former);
                    if disks.state_unreadable || disks.etcd_unreadable || wrong_seed {
                        self.cut(schedule, host);
                    }
                }
            }
            Happening::Scripted(number) => {
                let (_, commands) = self.script.timed[number].clone();
                self.obey(schedule, &commands)?;
            }
        }
        self.spring_traps(schedule)
    }

    fn told(&mut self, _: BootTime, node: Node, event: &Event) {
        self.properties.told(node.0, event);
    }

    fn check(&mut self, _: BootTime, _: Node, _: &Faulty, _: &[Action]) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, _: BootTime, machines: &[Option<&Faulty>]) -> Result<(), String> {
        let machines: Vec<&Formation> = machines
            .iter()
            .map(|machine| {
                machine
                    .map(Faulty::formation)
                    .ok_or("a master is down in the end")
            })
            .collect::<Result<_, _>>()?;
        let serving = self.serving()?;
        self.properties.finish(
            &self.hosts,
            &self.seeds,
            &self.statuses,
            &machines,
            serving.as_ref(),
        )
    }
}

impl World {
    /// The cluster that takes writes in the end.
    fn serving(&mut self) -> Result<Option<Arc<Plan>>, String> {
        let mut serving = None;
        let plans: BTreeMap<_, Arc<Plan>> = self
            .hosts
            .iter()
            .filter_map(|host| host.running.clone())
            .map(|plan| (plan.cluster_id(), plan))
            .collect();
        for plan in plans.into_values() {
            let runs = |host: &Host| host.running.as_ref().is_some_and(|own| *own == plan);
            let group: Vec<usize> = (0..self.hosts.len())
                .filter(|host| runs(&self.hosts[*host]))
                .collect();
            let quorum = plan.quorum();
            if self
                .promises
                .write(&mut self.hosts, &group, &BTreeSet::new(), quorum)?
            {
                if serving.is_some() {
                    return Err("two clusters serve in the end".to_owned());
                }
                serving = Some(plan);
            }
        }
        Ok(serving)
    }
}
