//! Machines that are broken on purpose, from outside: the shipped code has no room for faults.

use std::time::Duration;

use masthead_lifecycle::{
    Action, Answer, Event, Group, GroupAction, GroupEvent, Note, Policy, Probe, ServiceName,
};
use masthead_machine::{BootTime, Machine, Wakes};

use crate::scenario::{APISERVER, ETCD, NAMES, Scenario};

/// A mistake that somebody could make in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    BackOffNeverReset,
    BackOffSkipped,
    JitterBeyondCeiling,
    CrashLoopGivesUp,
    CrashLoopNotShown,
    ReadyBeforeProbe,
    HangNotNoticed,
    StartIntoPopulatedLeaf,
    StartOutOfOrder,
    StopOrderReversed,
    StopForgotten,
    KillForgotten,
    RestartSpreads,
    DeadlineForgotten,
}

impl Fault {
    pub(crate) const ALL: [Self; 14] = [
        Self::BackOffNeverReset,
        Self::BackOffSkipped,
        Self::JitterBeyondCeiling,
        Self::CrashLoopGivesUp,
        Self::CrashLoopNotShown,
        Self::ReadyBeforeProbe,
        Self::HangNotNoticed,
        Self::StartIntoPopulatedLeaf,
        Self::StartOutOfOrder,
        Self::StopOrderReversed,
        Self::StopForgotten,
        Self::KillForgotten,
        Self::RestartSpreads,
        Self::DeadlineForgotten,
    ];

    /// A world in which the fault matters.
    pub(crate) fn scenario(self) -> Scenario {
        let usual = Scenario::default();
        match self {
            // Otherwise the order of the starts is wrong before that of the stops.
            Self::StopOrderReversed => Scenario {
                gated: false,
                node_stops: 100,
                ..usual
            },
            _ => usual,
        }
    }

    /// Whether this is the property that should find it.
    pub(crate) fn is_found_by(self, violation: &str) -> bool {
        let expected: &[&str] = match self {
            Self::BackOffNeverReset => &["wait too long", "crash loop shown wrongly"],
            Self::BackOffSkipped => &["start too early"],
            Self::JitterBeyondCeiling => &["wait too long", "wait beyond the ceiling"],
            Self::CrashLoopGivesUp | Self::HangNotNoticed => &["never restarted"],
            Self::CrashLoopNotShown => &["crash loop shown wrongly"],
            Self::ReadyBeforeProbe => &["ready without proof"],
            Self::StartIntoPopulatedLeaf => &["start into a populated leaf"],
            Self::StartOutOfOrder => &["start out of order"],
            Self::StopOrderReversed => &["stop out of order"],
            Self::StopForgotten => &["never stopped", "never said"],
            Self::KillForgotten => &["never restarted", "never stopped"],
            Self::RestartSpreads => &["ended without a reason"],
            Self::DeadlineForgotten => &["stuck"],
        };
        expected
            .iter()
            .any(|property| violation.starts_with(property))
    }

    /// Breaks the policies that the machines get; the properties keep the right ones.
    pub(crate) fn alter(self, policies: &mut [(ServiceName, Policy)]) {
        match self {
            Self::StopOrderReversed => {
                for (_, policy) in policies.iter_mut() {
                    policy.needs.clear();
                }
                policies[ETCD].1.needs.push(NAMES[APISERVER].into());
            }
            _ => {
                for (_, policy) in policies {
                    match self {
                        Self::BackOffNeverReset => policy.back_off.reset_after = Duration::MAX,
                        Self::JitterBeyondCeiling => policy.back_off.ceiling *= 2,
                        Self::CrashLoopNotShown => policy.back_off.crash_loop_after = u32::MAX,
                        Self::HangNotNoticed => policy.liveness = None,
                        Self::StartOutOfOrder => policy.needs = std::mem::take(&mut policy.after),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// The services of a node, with or without a fault.
pub(crate) struct Faulty {
    group: Group,
    fault: Option<Fault>,
}

impl Faulty {
    pub(crate) fn new(group: Group, fault: Option<Fault>) -> Self {
        Self { group, fault }
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// What the faulty machine does on top of an event.
    fn afterthought(&self, event: &GroupEvent) -> Option<GroupEvent> {
        let GroupEvent::Service(name, event) = event else {
            return None;
        };
        let same = |event| Some(GroupEvent::Service(name.clone(), event));
        match (self.fault?, event) {
            (Fault::ReadyBeforeProbe, Event::Started { process }) => same(Event::ProbeAnswered {
                process: *process,
                probe: Probe::Readiness,
                answer: Answer::Healthy,
            }),
            (Fault::StartIntoPopulatedLeaf, Event::Exited { .. }) => same(Event::LeafEmpty),
            (Fault::BackOffSkipped, Event::LeafEmpty) => same(Event::RestartRequested),
            (Fault::RestartSpreads, Event::Exited { .. }) if name.as_str() == NAMES[ETCD] => Some(
                GroupEvent::Service(NAMES[APISERVER].into(), Event::RestartRequested),
            ),
            _ => None,
        }
    }

    fn forgets(&self, action: &GroupAction) -> bool {
        match self.fault {
            Some(Fault::KillForgotten) => {
                matches!(action, GroupAction::Service(_, Action::KillGroup))
            }
            Some(Fault::DeadlineForgotten) => action.wake_at().is_some(),
            _ => false,
        }
    }
}

impl Machine for Faulty {
    type Event = GroupEvent;
    type Action = GroupAction;

    fn step(&mut self, now: BootTime, event: GroupEvent) -> Vec<GroupAction> {
        if self.fault == Some(Fault::StopForgotten) && event == GroupEvent::StopAll {
            return self.step(now, GroupEvent::Woken);
        }
        let afterthought = self.afterthought(&event);
        let mut actions = self.group.step(now, event);
        let gives_up = actions.iter().find_map(|action| match action {
            GroupAction::Service(name, Action::Note(Note::CrashLooping(_)))
                if self.fault == Some(Fault::CrashLoopGivesUp) =>
            {
                Some(GroupEvent::Service(name.clone(), Event::StopRequested))
            }
            _ => None,
        });
        for event in afterthought.into_iter().chain(gives_up) {
            actions.retain(|action| action.wake_at().is_none());
            actions.extend(self.group.step(now, event));
        }
        actions.retain(|action| !self.forgets(action));
        actions
    }
}
