//! The machine: its parts, and one step.

use std::sync::Arc;
use std::time::Duration;

use masthead_machine::{BootTime, Machine, Scale};

use crate::disks::{Condition, Disks};
use crate::peers::Peers;
use crate::planning::Draft;
use crate::{
    Action, Event, KeyFingerprint, MachineId, Master, Member, Message, Reason, Record, SeedHash,
    Setup, Standing, Started, Status,
};

/// How often a node that waits asks its peers, on a real machine.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often a member asks, so that disks of different clusters find out about each other.
pub(crate) const MEMBER_ASKS_EVERY: Duration = Duration::from_secs(10);
/// A peer that says nothing for this long does not answer.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);
/// The pause after a step that failed.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// How long a member of a cluster of one waits for the other masters of a longer list to contradict it.
pub(crate) const CONTRADICTION: Duration = Duration::from_secs(2);

/// How one node takes part in the founding of its cluster.
#[derive(Clone, Debug)]
pub struct Formation {
    pub(crate) own: Own,
    pub(crate) condition: Condition,
    pub(crate) peers: Peers,
    /// The record that is being written. Go that failed to be written may be there all the same, so it stays until it is
    /// confirmed, and nothing else is done before.
    pub(crate) writing: Option<Record>,
    /// The plan whose keys are being made.
    pub(crate) draft: Option<Draft>,
    /// The last step that failed, and when to try again.
    pub(crate) failure: Option<(Reason, BootTime)>,
    /// The last plan that was refused because of an earlier one.
    pub(crate) refused: Option<Reason>,
    /// Whether etcd was asked for since this start.
    pub(crate) started_etcd: bool,
    /// Whether etcd was seen serving since this start.
    pub(crate) served: bool,
    /// When the first step was.
    pub(crate) began: Option<BootTime>,
    pub(crate) sequence: u64,
    pub(crate) ask_at: BootTime,
    pub(crate) told: Option<Standing>,
    pub(crate) published: Option<Status>,
}

/// What a node knows of itself.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) cluster: String,
    /// The founding list, by address.
    pub(crate) masters: Vec<Master>,
    pub(crate) name: String,
    pub(crate) seed: SeedHash,
    pub(crate) machine_id: MachineId,
    pub(crate) key: KeyFingerprint,
    pub(crate) session: u64,
    pub(crate) scale: Scale,
}

impl Formation {
    /// A node as it is at the start. It does nothing before its first event.
    pub fn new(setup: Setup) -> Self {
        let condition = Condition::judge(&setup);
        let mut masters = setup.masters;
        masters.sort();
        let planned = match &condition {
            Condition::Able(disks) => disks.plans.as_slice(),
            _ => &[],
        };
        let planned = planned.iter().flat_map(|plan| plan.members());
        let peers = Peers::new(
            &setup.name,
            &masters,
            planned.map(|member| Master {
                address: member.address,
                name: member.name.clone(),
            }),
            setup.session,
            setup.scale * SILENCE,
        );
        Self {
            own: Own {
                cluster: setup.cluster,
                masters,
                name: setup.name,
                seed: setup.seed,
                machine_id: setup.machine_id,
                key: setup.key,
                session: setup.session,
                scale: setup.scale,
            },
            condition,
            peers,
            writing: None,
            draft: None,
            failure: None,
            refused: None,
            started_etcd: false,
            served: false,
            began: None,
            sequence: 0,
            ask_at: BootTime::default(),
            told: None,
            published: None,
        }
    }

    /// What the node is now.
    pub fn standing(&self) -> Standing {
        self.condition.standing()
    }

    pub(crate) fn disks(&self) -> Option<&Disks> {
        match &self.condition {
            Condition::Able(disks) => Some(disks),
            _ => None,
        }
    }

    /// Whether the next record can be written, or the next plan be made.
    pub(crate) fn is_idle(&self) -> bool {
        self.writing.is_none() && self.draft.is_none() && self.failure.is_none()
    }

    pub(crate) fn write(&mut self, record: Record, actions: &mut Vec<Action>) {
        self.writing = Some(record.clone());
        actions.push(Action::Persist(record));
    }

    fn persisted(&mut self, actions: &mut Vec<Action>) {
        let Some(record) = self.writing.take() else {
            return;
        };
        self.failure = None;
        let Condition::Able(disks) = &mut self.condition else {
            return;
        };
        match record {
            Record::Plan(plan) => {
                self.refused = None;
                disks.plans.push(Arc::clone(&plan));
                if self.own.is(plan.planner()) {
                    self.serve_all(&plan, actions);
                }
            }
            Record::Go(hash) => {
                disks.go = disks.plans.iter().find(|plan| plan.hash() == hash).cloned();
            }
            Record::Marker(marker) => disks.marker = Some(marker),
            Record::Started(started) => disks.started = Some(started),
        }
    }

    fn failed(&mut self, now: BootTime, reason: Reason) {
        self.draft = None;
        // A plan that may be there binds nobody but this node; the witnesses of a start are left anew.
        self.writing
            .take_if(|record| !matches!(record, Record::Go(_)));
        self.failure = Some((reason, now + self.own.scale * PAUSE));
    }

    fn receive(&mut self, now: BootTime, event: Event, actions: &mut Vec<Action>) {
        let Event::Received { from, message } = event else {
            return;
        };
        match message {
            Message::Report(report) => {
                let (name, session, question) =
                    (report.name.clone(), report.session, report.question);
                if self.peers.hear(now, from, report) {
                    self.serve(&name, actions);
                    if question {
                        self.answer(&name, from.key, session, actions);
                    }
                }
            }
            Message::Plan(plan) => self.consider(from, plan, actions),
        }
    }

    /// Whatever follows from what is known now. One record at a time: the next one when this one is synced.
    fn advance(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        if self
            .failure
            .as_ref()
            .is_some_and(|(_, again_at)| *again_at <= now)
        {
            self.failure = None;
            actions.extend(self.writing.clone().map(Action::Persist));
        }
        let Some(disks) = self.disks() else {
            return;
        };
        if disks.started.is_some() {
            self.run_etcd(now, actions);
        } else if let Some(plan) = disks.go.clone() {
            self.start_first(&plan, actions);
        } else {
            self.take_go(actions);
            self.give_go(actions);
            self.plan(now, actions);
        }
    }
}

impl Own {
    pub(crate) fn is(&self, member: &Member) -> bool {
        member.machine_id == self.machine_id
    }

    /// This node as a member of a plan.
    pub(crate) fn member(&self) -> Option<Member> {
        let master = self
            .masters
            .iter()
            .find(|master| master.name == self.name)?;
        Some(Member {
            address: master.address,
            name: self.name.clone(),
            machine_id: self.machine_id,
            key: self.key,
        })
    }
}

impl Machine for Formation {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.began.is_none() {
            self.began = Some(now);
            self.ask_at = now;
        }
        match event {
            Event::Woken => {}
            Event::Received { .. } => self.receive(now, event, &mut actions),
            Event::Persisted => self.persisted(&mut actions),
            Event::PersistFailed { error } => self.failed(now, Reason::WriteFailed { error }),
            Event::PlanMade { cluster_id, sealed } => {
                self.plan_made(now, cluster_id, sealed, &mut actions);
            }
            Event::PlanFailed { error } => self.failed(now, Reason::PlanFailed { error }),
            Event::VolumeLost { volume, error } => {
                self.condition = Condition::Unknown {
                    holds_go: self.standing().holds_go(),
                    reason: Reason::VolumeUnknown { volume, error },
                };
                self.writing = None;
                self.draft = None;
            }
            Event::EtcdServed => self.served = true,
            Event::FoundWithout { names, cluster } => {
                let answer = self.found_without(now, &names, &cluster, &mut actions);
                actions.push(Action::Answer(answer));
            }
        }
        self.advance(now, &mut actions);
        self.tell(now, &mut actions);
        self.publish(now, &mut actions);
        actions.push(Action::WakeAt(self.deadline(now)));
        actions
    }
}

impl Formation {
    fn run_etcd(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        if !self.started_etcd && !self.is_contradicted(now) {
            self.start_etcd(actions);
        }
        let started = self.disks().and_then(|disks| disks.started.as_ref());
        if let Some(started) = started.filter(|started| self.served && !started.confirmed)
            && self.is_idle()
        {
            let record = Record::Started(Started {
                confirmed: true,
                ..started.clone()
            });
            self.write(record, actions);
        }
    }
}
