//! What every member does: it acknowledges a plan by persisting it, and takes go.

use std::sync::Arc;

use crate::disks::Disks;
use crate::formation::Formation;
use crate::{Action, Plan, Reason, Record, Sender};

/// Why a plan is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This node holds go, was started once, or does not know its disks.
    NotOpen,
    /// It does not name this node, this machine and this key.
    NotNamed,
    /// It does not come from its planner.
    NotFromPlanner,
    /// It is of another cluster or another seed.
    OtherSeed,
    /// Its masters are not those of the list, or no majority of it.
    OtherList,
    /// This node acknowledged one that is as new or newer.
    NotNewer,
    /// A cluster has begun.
    Begun,
    /// An earlier plan that this node acknowledged could still be started without anybody that this one names.
    EarlierCouldServe { generation: u64, names: Vec<String> },
    /// Another record is being written.
    Busy,
}

impl Formation {
    /// A plan has come.
    pub(crate) fn consider(&mut self, from: Sender, plan: Arc<Plan>, actions: &mut Vec<Action>) {
        match self.refusal(from, &plan) {
            None => self.write(Record::Plan(plan), actions),
            Some(Refusal::EarlierCouldServe { generation, names }) => {
                self.refused = Some(Reason::PlanRefused { generation, names });
            }
            // The planner says it again, or is told otherwise by this node's reports.
            Some(_) => {}
        }
    }

    pub(crate) fn refusal(&self, from: Sender, plan: &Plan) -> Option<Refusal> {
        let Some(disks) = self.disks().filter(|disks| disks.go.is_none()) else {
            return Some(Refusal::NotOpen);
        };
        let document = plan.document();
        let own = self.own.member();
        let earlier = |earlier: &Arc<Plan>| {
            let names = earlier.could_serve_beside(plan.members())?;
            Some(Refusal::EarlierCouldServe {
                generation: earlier.generation(),
                names,
            })
        };
        if own.is_none() || plan.member(&self.own.name) != own.as_ref() {
            Some(Refusal::NotNamed)
        } else if plan.planner().key != from.key || plan.planner().address != from.address {
            Some(Refusal::NotFromPlanner)
        } else if document.seed != self.own.seed || document.cluster != self.own.cluster {
            Some(Refusal::OtherSeed)
        } else if !self.is_of_the_list(plan) {
            Some(Refusal::OtherList)
        } else if disks
            .plans
            .last()
            .is_some_and(|newest| newest.generation() >= plan.generation())
        {
            Some(Refusal::NotNewer)
        } else if self.peers.begun().next().is_some() {
            Some(Refusal::Begun)
        } else if let Some(refusal) = disks.plans.iter().find_map(earlier) {
            Some(refusal)
        } else {
            (!self.is_idle()).then_some(Refusal::Busy)
        }
    }

    /// Whether a plan's members and those that it leaves out are the list, and its members a majority of it.
    fn is_of_the_list(&self, plan: &Plan) -> bool {
        let masters = &self.own.masters;
        let excluded = &plan.document().excluded;
        let is_planned = |name: &str, address| {
            plan.member(name)
                .is_some_and(|member| member.address == address)
                || excluded.iter().any(|excluded| excluded == name)
        };
        plan.members().len() + excluded.len() == masters.len()
            && 2 * plan.members().len() > masters.len()
            && masters
                .iter()
                .all(|master| is_planned(&master.name, master.address))
    }

    /// Takes go of a plan that this node acknowledged from any member that holds it.
    ///
    /// Of the newest plan always. Of an earlier one only when every newer one is dead. A plan is dead as soon as one of its
    /// members holds go of another: that member will never acknowledge it, so it will never have all acknowledgements. And
    /// it is dead when this node drew it up and now takes go of another: nobody else can give go of it.
    pub(crate) fn take_go(&mut self, actions: &mut Vec<Action>) {
        if !self.is_idle() {
            return;
        }
        let Some(disks) = self.disks().filter(|disks| disks.go.is_none()) else {
            return;
        };
        if let Some(plan) = self.plan_with_go(disks) {
            let go = Record::Go(plan.hash());
            self.write(go, actions);
        }
    }

    fn plan_with_go<'a>(&self, disks: &'a Disks) -> Option<&'a Arc<Plan>> {
        for plan in disks.plans.iter().rev() {
            let others = || plan.members().iter().filter(|member| !self.own.is(member));
            if others().any(|member| self.peers.holds_go(member, plan.hash())) {
                return Some(plan);
            }
            let is_dead = self.own.is(plan.planner())
                || others().any(|member| {
                    let other = self.peers.go_of(member);
                    other.is_some_and(|other| other != plan.hash())
                });
            if !is_dead {
                return None;
            }
        }
        None
    }
}
