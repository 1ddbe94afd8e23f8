//! What must hold, checked against books of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use masthead_formation::{
    Action, EtcdStart, Event, Formation, MachineId, Message, Phase, Plan, PlanHash, Reason, Record,
    Report, Standing, Status,
};

use crate::host::{Host, Seed, StateDisk, address, host_named};

#[derive(Debug)]
pub(crate) struct Properties {
    /// Who ever had which plan on its disk.
    acknowledged: BTreeMap<PlanHash, BTreeSet<MachineId>>,
    /// Who ever had go of it on its disk.
    gone: BTreeMap<PlanHash, BTreeSet<MachineId>>,
    /// The plans for which some etcd was started.
    started: BTreeMap<PlanHash, Arc<Plan>>,
    /// The plans of which a disk that held go was wiped.
    go_wiped: BTreeSet<PlanHash>,
    /// Machines whose etcd wrote a log.
    had_log: BTreeSet<MachineId>,
    /// What each host heard last from each other one since its start.
    heard: Vec<BTreeMap<String, Report>>,
    /// Hosts at which an operator founded without some since its start.
    overridden: Vec<bool>,
    any_override: bool,
}

impl Properties {
    pub(crate) fn new(hosts: usize) -> Self {
        Self {
            acknowledged: BTreeMap::new(),
            gone: BTreeMap::new(),
            started: BTreeMap::new(),
            go_wiped: BTreeSet::new(),
            had_log: BTreeSet::new(),
            heard: vec![BTreeMap::new(); hosts],
            overridden: vec![false; hosts],
            any_override: false,
        }
    }

    /// The plan of a cluster that once was.
    pub(crate) fn former(&mut self, plan: &Arc<Plan>, started: bool) {
        let all: BTreeSet<MachineId> = plan.members().iter().map(|m| m.machine_id).collect();
        self.acknowledged.insert(plan.hash(), all.clone());
        self.gone.insert(plan.hash(), all.clone());
        if started {
            self.started.insert(plan.hash(), Arc::clone(plan));
        }
    }

    pub(crate) fn booted(&mut self, host: usize) {
        self.heard[host].clear();
        self.overridden[host] = false;
    }

    pub(crate) fn overridden(&mut self, host: usize) {
        self.overridden[host] = true;
        self.any_override = true;
    }

    pub(crate) fn wiped(&mut self, state: &StateDisk) {
        self.go_wiped.extend(state.go);
    }

    pub(crate) fn stored(&mut self, host: &Host, record: &Record) {
        let machine = host.state.machine_id;
        match record {
            Record::Plan(plan) => {
                self.acknowledged
                    .entry(plan.hash())
                    .or_default()
                    .insert(machine);
            }
            Record::Go(hash) => {
                self.gone.entry(*hash).or_default().insert(machine);
            }
            Record::Started(_) | Record::Marker(_) => {}
        }
    }

    pub(crate) fn told(&mut self, host: usize, event: &Event) {
        if let Event::Received {
            message: Message::Report(report),
            ..
        } = event
        {
            let heard = &mut self.heard[host];
            let is_old = heard.get(&report.name).is_some_and(|before| {
                before.session == report.session && before.sequence >= report.sequence
            });
            if !is_old {
                heard.insert(report.name.clone(), report.clone());
            }
        }
    }

    pub(crate) fn acts(
        &mut self,
        hosts: &[Host],
        seeds: &[Seed],
        host: usize,
        action: &Action,
    ) -> Result<(), String> {
        let disks = &hosts[host];
        match action {
            Action::Persist(record) => self.persists(disks, host, record),
            Action::Send {
                to,
                message: Message::Plan(plan),
            } => {
                let member = plan.member(&to.master.name);
                if to.key.is_none() || member.map(|member| member.key) != to.key {
                    return Err(format!("plan for a stranger: {to:?}"));
                }
                if disks.state.started.is_some() {
                    return Err("plan served by a member".to_owned());
                }
                if disks.state.plan(plan.hash()).is_none() {
                    return Err("plan served before it was synced".to_owned());
                }
                Ok(())
            }
            Action::Send {
                message: Message::Report(report),
                ..
            } => reports(disks, &report.standing),
            Action::MakePlan { members } => {
                let seed = &seeds[disks.seed];
                let names: BTreeSet<&str> = members.iter().map(|m| m.name.as_str()).collect();
                let lowest = members.iter().map(|m| address(host_named(&m.name))).min();
                if lowest != Some(address(host)) {
                    return Err("planned out of turn".to_owned());
                }
                if 2 * members.len() <= seed.masters.len() {
                    return Err("planned with a minority of the list".to_owned());
                }
                if members.len() < seed.masters.len() && !self.overridden[host] {
                    return Err("planned without some, and nobody said so".to_owned());
                }
                for (name, report) in &self.heard[host] {
                    if report.standing.has_begun() {
                        return Err("planned although a cluster has begun".to_owned());
                    }
                    if names.contains(name.as_str()) && report.seed != seed.hash {
                        return Err("planned over seeds that differ".to_owned());
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn persists(&self, disks: &Host, host: usize, record: &Record) -> Result<(), String> {
        if disks.writing.is_some() {
            return Err("two records at a time".to_owned());
        }
        match record {
            Record::Plan(plan) => {
                if disks.state.go.is_some() {
                    return Err("acknowledged a plan while holding go".to_owned());
                }
                let known = known_to_the_machine(disks);
                let newest = known.plans.keys().next_back();
                if newest.is_some_and(|newest| *newest >= plan.generation()) {
                    return Err("acknowledged an older plan after a newer one".to_owned());
                }
                if self.heard[host]
                    .values()
                    .any(|report| report.standing.has_begun())
                {
                    return Err("acknowledged a plan although a cluster has begun".to_owned());
                }
                Ok(())
            }
            Record::Go(hash) => {
                let plan = disks.state.plan(*hash).ok_or("go without the plan")?;
                let acknowledged = self.acknowledged.get(hash);
                let all = plan.members().iter().all(|member| {
                    acknowledged.is_some_and(|machines| machines.contains(&member.machine_id))
                });
                if !all {
                    return Err("go without all acknowledgements".to_owned());
                }
                let is_planner = plan.planner().machine_id == disks.state.machine_id;
                if !is_planner && !self.gone.contains_key(hash) {
                    return Err("go that nobody gave".to_owned());
                }
                Ok(())
            }
            Record::Started(_) | Record::Marker(_) => match disks.state.go {
                Some(_) => Ok(()),
                None => Err("witnesses of a start without go".to_owned()),
            },
        }
    }

    pub(crate) fn etcd_starts(
        &mut self,
        hosts: &[Host],
        host: usize,
        plan: &Arc<Plan>,
        start: EtcdStart,
    ) -> Result<(), String> {
        let disks = &hosts[host];
        let machine = disks.state.machine_id;
        if disks.state.started.is_none() || disks.etcd.marker.is_none() {
            return Err("etcd started before its witnesses were synced".to_owned());
        }
        if disks.state.go != Some(plan.hash()) {
            return Err("etcd started without go".to_owned());
        }
        let holders = self.gone.get(&plan.hash()).map_or(0, BTreeSet::len);
        if holders < plan.starters() {
            return Err("etcd started before a majority holds go".to_owned());
        }
        match (start, &disks.etcd.log) {
            (EtcdStart::New, _) if self.had_log.contains(&machine) => {
                return Err("etcd started new after it had data".to_owned());
            }
            (EtcdStart::New, None) => {}
            (EtcdStart::Existing, Some(log))
                if log.machine == machine && log.cluster == plan.cluster_id() => {}
            _ => return Err(format!("etcd started {start:?} on other data")),
        }
        self.had_log.insert(machine);
        for (hash, other) in &self.started {
            let survives = hosts.iter().any(|host| host.state.go == Some(*hash));
            let is_override = !plan.document().excluded.is_empty();
            let lost = self.go_wiped.contains(hash) && (is_override || !survives);
            if *hash != plan.hash() && !self.started.contains_key(&plan.hash()) && !lost {
                return Err(format!("two plans started: {other:?}, then {plan:?}"));
            }
        }
        self.started.insert(plan.hash(), Arc::clone(plan));
        Ok(())
    }

    /// The claim: when network and disks have healed and all hold one seed, there is one cluster, unless what it takes was
    /// wiped; and whoever is not part of it says why.
    pub(crate) fn finish(
        &self,
        hosts: &[Host],
        seeds: &[Seed],
        statuses: &[Option<Status>],
        machines: &[&Formation],
        serving: Option<&Arc<Plan>>,
    ) -> Result<(), String> {
        for (host, disks) in hosts.iter().enumerate() {
            let status = statuses[host].as_ref().ok_or("no status in the end")?;
            let speaks = status.reasons.iter().any(|reason| !reason.is_warning());
            if disks.running.is_none() && !speaks {
                return Err(format!("waits without a reason: {status:?}"));
            }
            let differ = hosts.iter().any(|other| {
                other.seed != disks.seed && seeds[disks.seed].lists(host_index(hosts, other))
            });
            let says = |reason: &Reason| matches!(reason, Reason::SeedsDiffer { .. });
            let waits = matches!(status.phase, Phase::Fresh | Phase::Founding)
                && !status.plan.is_some_and(|plan| plan.go);
            if differ && waits && !status.reasons.iter().any(says) {
                return Err(format!("seeds differ, and nobody is told: {status:?}"));
            }
            if machines[host].standing() == Standing::Newer {
                return Err("a standing of a newer release".to_owned());
            }
        }
        match serving {
            Some(plan) => self.nobody_stays_out(hosts, plan),
            None => self.no_cluster_is_right(hosts),
        }
    }

    /// Every member of the cluster whose disks are still there takes part.
    fn nobody_stays_out(&self, hosts: &[Host], plan: &Plan) -> Result<(), String> {
        for host in hosts {
            let is_member = plan.machine(host.state.machine_id).is_some();
            let bound = self.any_override && host.state.go != Some(plan.hash());
            if is_member && !bound && !host.is_amnesiac() && host.running.is_none() {
                return Err("a member with its disks stays out".to_owned());
            }
        }
        Ok(())
    }

    fn no_cluster_is_right(&self, hosts: &[Host]) -> Result<(), String> {
        let one_seed = hosts.iter().all(|host| host.seed == hosts[0].seed);
        let overruled = self.any_override && !self.go_wiped.is_empty();
        let plans: Vec<&Arc<Plan>> = hosts.iter().filter_map(Host::gone_plan).collect();
        let survives = |plan: &Plan| {
            let able = hosts.iter().filter(|host| {
                plan.machine(host.state.machine_id).is_some()
                    && !host.is_amnesiac()
                    && host.state.go.is_none_or(|go| go == plan.hash())
                    && !(self.any_override && is_bound_past(host, hosts, plan))
            });
            able.count() >= plan.starters()
        };
        let possible = if plans.is_empty() {
            one_seed && !hosts.iter().any(Host::is_amnesiac)
        } else {
            plans.iter().any(|plan| survives(plan))
        };
        if possible && !overruled {
            Err("no cluster in the end".to_owned())
        } else {
            Ok(())
        }
    }
}

/// Whether a host acknowledged a newer plan that is not dead. Only an operator's word can lead to it for good: a newer plan
/// names every master else, so also those that took go of this one, unless their machine was wiped in between.
fn is_bound_past(host: &Host, hosts: &[Host], plan: &Plan) -> bool {
    let is_dead = |newer: &Plan| {
        newer.planner().machine_id == host.state.machine_id
            || hosts.iter().any(|other| {
                newer.machine(other.state.machine_id).is_some()
                    && other.state.go.is_some_and(|go| go != newer.hash())
            })
    };
    let plans = host.state.plans.values();
    let mut newer = plans.filter(|newer| newer.generation() > plan.generation());
    host.state.go.is_none() && newer.any(|newer| !is_dead(newer))
}

fn host_index(hosts: &[Host], host: &Host) -> usize {
    hosts
        .iter()
        .position(|other| std::ptr::eq(other, host))
        .expect("one of them")
}

/// STATE without what failed to be written, and may be there all the same.
fn known_to_the_machine(disks: &Host) -> StateDisk {
    let mut state = disks.state.clone();
    for failed in &disks.limbo {
        match failed {
            Record::Plan(plan) => drop(state.plans.remove(&plan.generation())),
            Record::Go(_) => state.go = None,
            Record::Started(_) | Record::Marker(_) => {}
        }
    }
    state
}

/// A node says nothing that is not on its disks.
fn reports(disks: &Host, standing: &Standing) -> Result<(), String> {
    let state = known_to_the_machine(disks);
    let newest = state.plans.values().next_back();
    let unreadable = disks.state_unreadable || disks.etcd_unreadable;
    if unreadable && !matches!(standing, Standing::Unknown { .. }) {
        return Err(format!("an unreadable disk is taken for {standing:?}"));
    }
    match standing {
        Standing::Fresh if newest.is_some() || state.go.is_some() => {
            Err("a plan is forgotten".to_owned())
        }
        Standing::Founding { plan, go: false } if state.plan(plan.hash).is_none() => {
            Err("acknowledged before it was synced".to_owned())
        }
        Standing::Founding { go: false, .. } | Standing::Fresh if state.go.is_some() => {
            Err("go is forgotten".to_owned())
        }
        Standing::Founding { plan, go: true } if state.go != Some(plan.hash) => {
            Err("go told before it was synced".to_owned())
        }
        Standing::Member { .. } if state.started.is_none() => {
            Err("told of a start before it was synced".to_owned())
        }
        _ => Ok(()),
    }
}
