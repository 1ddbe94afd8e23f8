//! Machines that are broken on purpose, from outside: the shipped code has no room for faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use masthead_formation::{
    Action, ClusterId, EtcdHoldings, EtcdStart, Event, Formation, Marker, Message, Plan, Record,
    Report, Sender, Setup, Standing, Started, StateHoldings,
};
use masthead_machine::{BootTime, Machine, Wakes};

use crate::scenario::{Kind, Scenario};

/// A mistake that somebody could make in the machine or in the shell around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    AcknowledgedBeforeSync,
    GoBeforeSync,
    PlanForgotten,
    GoForgotten,
    NewAfterFounding,
    MarkerNotChecked,
    GoBeforeAllAcknowledged,
    NewGenerationOverGo,
    ServedToStrangers,
    StartedBeforeWitnesses,
    PlanOverMembers,
    EverybodyPlans,
    OverrideByMinority,
    StartedWithoutMajority,
    SeedsNotCompared,
    UnreadableTakenForBlank,
    DeadlineForgotten,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::AcknowledgedBeforeSync,
        Self::GoBeforeSync,
        Self::PlanForgotten,
        Self::GoForgotten,
        Self::NewAfterFounding,
        Self::MarkerNotChecked,
        Self::GoBeforeAllAcknowledged,
        Self::NewGenerationOverGo,
        Self::ServedToStrangers,
        Self::StartedBeforeWitnesses,
        Self::PlanOverMembers,
        Self::EverybodyPlans,
        Self::OverrideByMinority,
        Self::StartedWithoutMajority,
        Self::SeedsNotCompared,
        Self::UnreadableTakenForBlank,
        Self::DeadlineForgotten,
    ];

    /// A world in which the fault matters.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::NewAfterFounding
            | Self::MarkerNotChecked
            | Self::NewGenerationOverGo
            | Self::PlanOverMembers
            | Self::UnreadableTakenForBlank => Kind::Wipes,
            Self::OverrideByMinority => Kind::Overrides,
            Self::SeedsNotCompared => Kind::Seeds,
            _ => Kind::Cuts,
        }
    }

    /// Lets happen more often what it takes.
    pub(crate) fn sharpen(self, scenario: &mut Scenario) {
        if self == Self::NewGenerationOverGo {
            scenario.slow_writes = 300;
            scenario.cuts = 200;
            scenario.wipes = 500;
        }
    }

    /// Whether this is the property that should find it.
    pub(crate) fn is_found_by(self, violation: &str) -> bool {
        let expected: &[&str] = match self {
            Self::AcknowledgedBeforeSync => &[
                "acknowledged before it was synced",
                "plan served before it was synced",
            ],
            Self::GoBeforeSync => &["go told before it was synced"],
            Self::PlanForgotten => &["a plan is forgotten"],
            Self::GoForgotten => &["go is forgotten", "a member with its disks stays out"],
            Self::NewAfterFounding | Self::MarkerNotChecked => &[
                "etcd started new after it had data",
                "acknowledged write lost",
                "etcd started before its witnesses were synced",
            ],
            Self::GoBeforeAllAcknowledged => &["go without all acknowledgements"],
            Self::NewGenerationOverGo | Self::PlanOverMembers => &[
                "planned although a cluster has begun",
                "acknowledged a plan although a cluster has begun",
                "two plans started",
            ],
            Self::ServedToStrangers => &["plan for a stranger"],
            Self::StartedBeforeWitnesses => &["etcd started before its witnesses were synced"],
            Self::EverybodyPlans => &["planned out of turn"],
            Self::OverrideByMinority => &["planned with a minority of the list"],
            Self::StartedWithoutMajority => &["etcd started before a majority holds go"],
            Self::SeedsNotCompared => &["planned over seeds that differ"],
            Self::UnreadableTakenForBlank => &["an unreadable disk is taken for"],
            Self::DeadlineForgotten => &["no cluster in the end"],
        };
        expected
            .iter()
            .any(|property| violation.starts_with(property))
    }

    /// Breaks what the machine starts from.
    fn alter(self, setup: &mut Setup) {
        match self {
            Self::PlanForgotten => {
                if let StateHoldings::Read {
                    plans, go: None, ..
                } = &mut setup.state
                {
                    plans.clear();
                }
            }
            Self::GoForgotten => {
                if let StateHoldings::Read {
                    go, started: None, ..
                } = &mut setup.state
                {
                    *go = None;
                }
            }
            Self::NewAfterFounding => {
                if let (
                    StateHoldings::Read { started, .. },
                    EtcdHoldings::Read {
                        marker,
                        has_wal: false,
                        ..
                    },
                ) = (&mut setup.state, &mut setup.etcd)
                {
                    *started = None;
                    *marker = None;
                }
            }
            Self::MarkerNotChecked => forge_witnesses(setup),
            Self::EverybodyPlans => {
                let own = setup.masters.iter_mut().find(|m| m.name == setup.name);
                own.expect("listed").address = "0.0.0.0".parse().expect("an address");
            }
            Self::UnreadableTakenForBlank => {
                if matches!(setup.state, StateHoldings::Unknown(_)) {
                    setup.state = StateHoldings::Read {
                        plans: Vec::new(),
                        go: None,
                        started: None,
                    };
                }
                if matches!(setup.etcd, EtcdHoldings::Unknown(_)) {
                    setup.etcd = EtcdHoldings::Read {
                        uuid: "blank".to_owned(),
                        marker: None,
                        has_wal: false,
                    };
                }
            }
            _ => {}
        }
    }

    /// Breaks what the machine hears.
    fn distort(self, report: &mut Report, own: &Setup, known: &BTreeMap<ClusterId, Arc<Plan>>) {
        match (self, &report.standing) {
            (Self::NewGenerationOverGo, Standing::Founding { plan, go: true })
                if !known.contains_key(&plan.cluster_id) =>
            {
                report.standing = Standing::Founding {
                    plan: *plan,
                    go: false,
                };
            }
            (Self::PlanOverMembers, Standing::Member { plan })
                if !known.contains_key(&plan.cluster_id) =>
            {
                report.standing = Standing::Fresh;
            }
            (Self::SeedsNotCompared, _) => report.seed = own.seed,
            _ => {}
        }
    }
}

/// Takes a lost ETCD for the one that etcd was started on.
fn forge_witnesses(setup: &mut Setup) {
    let StateHoldings::Read { plans, started, .. } = &mut setup.state else {
        return;
    };
    let EtcdHoldings::Read {
        uuid,
        marker,
        has_wal: false,
    } = &mut setup.etcd
    else {
        return;
    };
    let plans = plans
        .iter()
        .filter_map(|bytes| Plan::from_record(bytes).ok());
    let Some(plan) = plans
        .max_by_key(Plan::generation)
        .filter(|_| started.is_some())
    else {
        return;
    };
    *marker = Some(
        Record::Marker(Marker {
            cluster_id: plan.cluster_id(),
            machine_id: setup.machine_id,
        })
        .bytes(),
    );
    *started = Some(
        Record::Started(Started {
            cluster_id: plan.cluster_id(),
            etcd_filesystem: uuid.clone(),
            confirmed: false,
        })
        .bytes(),
    );
}

/// A node, with or without a fault.
pub(crate) struct Faulty {
    formation: Formation,
    setup: Setup,
    fault: Option<Fault>,
    plans: BTreeMap<ClusterId, Arc<Plan>>,
}

impl Faulty {
    pub(crate) fn new(mut setup: Setup, fault: Option<Fault>) -> Self {
        if let Some(fault) = fault {
            fault.alter(&mut setup);
        }
        let plans = match &setup.state {
            StateHoldings::Read { plans, .. } => plans.as_slice(),
            StateHoldings::Unknown(_) => &[],
        };
        let plans = plans
            .iter()
            .filter_map(|bytes| Plan::from_record(bytes).ok());
        let plans = plans.map(|plan| (plan.cluster_id(), Arc::new(plan)));
        Self {
            plans: plans.collect(),
            formation: Formation::new(setup.clone()),
            setup,
            fault,
        }
    }

    pub(crate) fn formation(&self) -> &Formation {
        &self.formation
    }

    /// What the faulty machine believes after it asked for something.
    fn delusions(&self, action: &Action) -> Vec<Event> {
        match (self.fault, action) {
            (Some(Fault::AcknowledgedBeforeSync), Action::Persist(Record::Plan(_)))
            | (Some(Fault::GoBeforeSync), Action::Persist(Record::Go(_))) => {
                vec![Event::Persisted]
            }
            (
                Some(Fault::GoBeforeAllAcknowledged),
                Action::Send {
                    to,
                    message: Message::Plan(plan),
                },
            ) => forged(plan, &to.master.name, false),
            (Some(Fault::StartedWithoutMajority), Action::Publish(status)) => {
                let held = status.plan.filter(|plan| plan.go);
                let plan = held.and_then(|held| self.plans.get(&held.cluster_id));
                let others = plan.iter().flat_map(|plan| plan.members());
                others
                    .filter(|member| member.name != self.setup.name)
                    .flat_map(|member| forged(plan.expect("it has members"), &member.name, true))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Every plan that passes by.
    fn remember(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Persist(Record::Plan(plan)) = action {
                self.plans.insert(plan.cluster_id(), Arc::clone(plan));
            }
        }
    }
}

/// A report that nobody sent.
fn forged(plan: &Plan, name: &str, go: bool) -> Vec<Event> {
    let Some(member) = plan.member(name) else {
        return Vec::new();
    };
    vec![Event::Received {
        from: Sender {
            address: member.address,
            key: member.key,
        },
        message: Message::Report(Report {
            name: name.to_owned(),
            machine_id: member.machine_id,
            session: 0,
            sequence: 1,
            echo: None,
            question: false,
            seed: plan.document().seed,
            standing: Standing::Founding {
                plan: plan.name(),
                go,
            },
        }),
    }]
}

impl Machine for Faulty {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: BootTime, mut event: Event) -> Vec<Action> {
        if let (
            Some(fault),
            Event::Received {
                message: Message::Report(report),
                ..
            },
        ) = (self.fault, &mut event)
        {
            fault.distort(report, &self.setup, &self.plans);
        }
        if let (Some(Fault::OverrideByMinority), Event::FoundWithout { names, .. }) =
            (self.fault, &event)
            && self.formation.standing() == Standing::Fresh
            && names.len() + 1 == self.setup.masters.len()
        {
            let mut setup = self.setup.clone();
            setup.masters.retain(|master| !names.contains(&master.name));
            self.formation = Formation::new(setup);
        }
        let mut actions = self.formation.step(now, event);
        self.remember(&actions);
        let delusions: Vec<Event> = actions.iter().flat_map(|a| self.delusions(a)).collect();
        for event in delusions {
            actions.retain(|action| action.wake_at().is_none());
            actions.extend(self.formation.step(now, event));
        }
        match self.fault {
            Some(Fault::ServedToStrangers) => {
                for action in &mut actions {
                    if let Action::Send {
                        to,
                        message: Message::Plan(_),
                    } = action
                    {
                        to.key = None;
                    }
                }
            }
            Some(Fault::StartedBeforeWitnesses) => {
                let started = actions.iter().find_map(|action| match action {
                    Action::Persist(Record::Marker(marker)) => self.plans.get(&marker.cluster_id),
                    _ => None,
                });
                actions.extend(started.map(|plan| Action::StartEtcd {
                    plan: Arc::clone(plan),
                    start: EtcdStart::New,
                }));
            }
            Some(Fault::DeadlineForgotten) => {
                actions.retain(|action| action.wake_at().is_none());
            }
            _ => {}
        }
        actions
    }
}
