//! What the planner does: it draws up the plan, serves it, and gives go.

use std::collections::BTreeSet;
use std::sync::Arc;

use masthead_machine::BootTime;

use crate::formation::Formation;
use crate::peers::Peer;
use crate::{
    Action, ClusterId, InvalidOverride, Master, Member, Message, PLAN_FORMAT, Plan, PlanDocument,
    Reason, Recipient, Record, Sealed, Standing,
};

/// A plan whose keys are being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    generation: u64,
    members: Vec<Member>,
    /// What an operator founds without; empty as a rule.
    excluded: BTreeSet<String>,
}

impl Formation {
    /// Draws up a plan when it is this node's to do so, and everybody is there for it.
    pub(crate) fn plan(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        if !self.is_idle() || self.holds_a_plan_to_carry_through() {
            return;
        }
        match self.draw(now, &BTreeSet::new()) {
            Ok(draft) => self.make(draft, actions),
            Err(InvalidOverride::MayHaveBegun { generation, names }) => {
                self.refused = Some(Reason::PlanRefused { generation, names });
            }
            // The status says what it waits for.
            Err(_) => {}
        }
    }

    fn make(&mut self, draft: Draft, actions: &mut Vec<Action>) {
        let members = draft.members.clone();
        self.draft = Some(draft);
        actions.push(Action::MakePlan { members });
    }

    /// The keys are there: is it still the plan to make?
    pub(crate) fn plan_made(
        &mut self,
        now: BootTime,
        cluster_id: ClusterId,
        sealed: Sealed,
        actions: &mut Vec<Action>,
    ) {
        let Some(draft) = self.draft.take() else {
            return;
        };
        self.failure = None;
        if self.draw(now, &draft.excluded).as_ref() != Ok(&draft) {
            return;
        }
        let document = PlanDocument {
            format: PLAN_FORMAT,
            oldest_format: PLAN_FORMAT,
            generation: draft.generation,
            cluster_id,
            cluster: self.own.cluster.clone(),
            seed: self.own.seed,
            members: draft.members,
            excluded: draft.excluded.into_iter().collect(),
            timing_scale_per_mille: self.own.scale_per_mille(),
            sealed,
        };
        match Plan::write(&document) {
            Ok(plan) => self.write(Record::Plan(Arc::new(plan)), actions),
            Err(error) => {
                let reason = Reason::PlanFailed {
                    error: error.to_string(),
                };
                self.failure = Some((reason, now + self.own.scale * crate::formation::PAUSE));
            }
        }
    }

    /// The plan of this moment without the `excluded`, or why there can be none.
    fn draw(&self, now: BootTime, excluded: &BTreeSet<String>) -> Result<Draft, InvalidOverride> {
        let disks = self
            .disks()
            .filter(|disks| disks.go.is_none())
            .ok_or(InvalidOverride::NotFresh)?;
        let own = self.own.member().ok_or(InvalidOverride::NotFresh)?;
        let rest: Vec<&Master> = self
            .own
            .masters
            .iter()
            .filter(|master| !excluded.contains(&master.name))
            .collect();
        let listed = self.own.masters.len();
        if 2 * rest.len() <= listed {
            return Err(InvalidOverride::NoMajority {
                left: rest.len(),
                listed,
            });
        }
        // Sorted by address, so that the first one plans.
        if rest[0].name != own.name {
            return Err(InvalidOverride::NotThePlanner {
                planner: rest[0].name.clone(),
            });
        }
        let begun: Vec<String> = self.peers.begun().map(name_of).collect();
        if !begun.is_empty() {
            return Err(InvalidOverride::ClusterExists(begun));
        }
        let others: Vec<&Peer> = rest
            .iter()
            .filter_map(|master| self.peers.get(&master.name))
            .collect();
        let missing = |is_missing: &dyn Fn(&Peer) -> bool| -> Vec<String> {
            let missing = others.iter().filter(|peer| is_missing(peer));
            missing.map(|peer| name_of(peer)).collect()
        };
        let silent = missing(&|peer| !self.peers.answers(now, peer));
        if !silent.is_empty() {
            return Err(InvalidOverride::Silent(silent));
        }
        let unfit = missing(&|peer| {
            !peer
                .report()
                .is_some_and(|report| report.seed == self.own.seed && report.standing.is_open())
        });
        if !unfit.is_empty() {
            return Err(InvalidOverride::Unfit(unfit));
        }
        let member = |peer: &Peer| {
            let (machine_id, key) = peer.identity()?;
            Some(Member {
                address: peer.master.address,
                name: peer.master.name.clone(),
                machine_id,
                key,
            })
        };
        let mut members: Vec<Member> = others.iter().filter_map(|peer| member(peer)).collect();
        members.insert(0, own);
        for plan in &disks.plans {
            if let Some(names) = plan.could_serve_beside(&members) {
                let generation = plan.generation();
                return Err(InvalidOverride::MayHaveBegun { generation, names });
            }
        }
        let generations = self.peers.iter().filter_map(|peer| peer.standing()?.plan());
        let generations = generations.map(|plan| plan.generation);
        let own_generations = disks.plans.iter().map(|plan| plan.generation());
        Ok(Draft {
            generation: generations.chain(own_generations).max().unwrap_or(0) + 1,
            members,
            excluded: excluded.clone(),
        })
    }

    /// Whether the newest plan is this node's own and can still come to go: then no other is drawn up.
    fn holds_a_plan_to_carry_through(&self) -> bool {
        let Some(plan) = self.newest_own_plan() else {
            return false;
        };
        plan.document().seed == self.own.seed
            && plan.members().iter().all(|member| {
                let Some(peer) = self.peers.get(&member.name) else {
                    return self.own.is(member);
                };
                let fits = |standing: &Standing| match standing.plan() {
                    Some(other) => other.generation < plan.generation() || other == plan.name(),
                    None => true,
                };
                peer.standing()
                    .is_none_or(|standing| peer.is(member) && fits(standing))
            })
    }

    /// The newest plan, if this node drew it up and nobody holds go of any as far as it knows.
    fn newest_own_plan(&self) -> Option<&Arc<Plan>> {
        let disks = self.disks().filter(|disks| disks.go.is_none())?;
        let plan = disks.plans.last()?;
        self.own.is(plan.planner()).then_some(plan)
    }

    /// Gives the plan to all of its members, each pinned to the key that it showed while it was Fresh.
    pub(crate) fn serve_all(&self, plan: &Arc<Plan>, actions: &mut Vec<Action>) {
        let others = plan.members().iter();
        for member in others.filter(|member| !self.own.is(member)) {
            actions.push(serving(plan, member));
        }
    }

    /// Gives the plan to a member that has just said that it lacks it.
    pub(crate) fn serve(&self, name: &str, actions: &mut Vec<Action>) {
        if let Some(plan) = self.newest_own_plan()
            && let Some(member) = plan.member(name)
            && let Some(standing) = self.peers.standing_of(member)
            && standing.is_open()
            && standing.plan() != Some(plan.name())
        {
            actions.push(serving(plan, member));
        }
    }

    /// Persists go when all members have acknowledged the plan, and no cluster is known to have started.
    ///
    /// Somebody who was left out may hold go of an earlier plan: it can no longer find enough others for it.
    pub(crate) fn give_go(&mut self, actions: &mut Vec<Action>) {
        let Some(plan) = self.newest_own_plan() else {
            return;
        };
        let acknowledges = |member: &Member| {
            self.own.is(member)
                || self
                    .peers
                    .standing_of(member)
                    .is_some_and(|standing| standing.plan() == Some(plan.name()))
        };
        if self.is_idle()
            && plan.document().seed == self.own.seed
            && plan.members().iter().all(acknowledges)
            && !self.peers.iter().any(Peer::has_started)
        {
            let go = Record::Go(plan.hash());
            self.write(go, actions);
        }
    }

    /// An operator's word to found without some of the list.
    pub(crate) fn found_without(
        &mut self,
        now: BootTime,
        names: &BTreeSet<String>,
        cluster: &str,
        actions: &mut Vec<Action>,
    ) -> Result<(), InvalidOverride> {
        if cluster != self.own.cluster {
            return Err(InvalidOverride::OtherCluster {
                seed: self.own.cluster.clone(),
                given: cluster.to_owned(),
            });
        }
        if names.is_empty() {
            return Err(InvalidOverride::NobodyLeftOut);
        }
        let is_listed = |name: &&String| self.own.masters.iter().any(|m| m.name == **name);
        let unknown: Vec<String> = names.iter().filter(|n| !is_listed(n)).cloned().collect();
        if !unknown.is_empty() {
            return Err(InvalidOverride::NotListed(unknown));
        }
        if !self.is_idle() {
            return Err(InvalidOverride::Busy);
        }
        let draft = self.draw(now, names)?;
        self.make(draft, actions);
        Ok(())
    }
}

fn name_of(peer: &Peer) -> String {
    peer.master.name.clone()
}

fn serving(plan: &Arc<Plan>, member: &Member) -> Action {
    Action::Send {
        to: Recipient {
            master: Master {
                address: member.address,
                name: member.name.clone(),
            },
            key: Some(member.key),
        },
        message: Message::Plan(Arc::clone(plan)),
    }
}
