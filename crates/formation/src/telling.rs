//! What peers and people are told.

use std::collections::BTreeMap;

use masthead_machine::BootTime;

use crate::disks::Condition;
use crate::formation::{ASK_EVERY, Formation, MEMBER_ASKS_EVERY, Own};
use crate::peers::{Peer, Relation};
use crate::{
    Action, HeldPlan, KeyFingerprint, Message, PeerStatus, Phase, Plan, Reason, Recipient, Report,
    SeedHash, Standing, Status,
};

impl Formation {
    /// Tells everybody when this node has become something else, and asks from time to time.
    pub(crate) fn tell(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let standing = self.standing();
        let question = self.ask_at <= now;
        if !question && self.told.as_ref() == Some(&standing) {
            return;
        }
        if question {
            let every = if self.started_etcd {
                MEMBER_ASKS_EVERY
            } else {
                ASK_EVERY
            };
            self.ask_at = now + self.own.scale * every;
        }
        self.sequence += 1;
        for peer in self.peers.iter() {
            let echo = peer.report().map(|report| report.session);
            actions.push(Action::Send {
                to: Recipient {
                    master: peer.master.clone(),
                    key: None,
                },
                message: Message::Report(self.report(echo, question, standing.clone())),
            });
        }
        self.told = Some(standing);
    }

    /// Answers a question.
    pub(crate) fn answer(
        &mut self,
        name: &str,
        key: KeyFingerprint,
        session: u64,
        actions: &mut Vec<Action>,
    ) {
        self.sequence += 1;
        if let Some(peer) = self.peers.get(name) {
            actions.push(Action::Send {
                to: Recipient {
                    master: peer.master.clone(),
                    key: Some(key),
                },
                message: Message::Report(self.report(Some(session), false, self.standing())),
            });
        }
    }

    fn report(&self, echo: Option<u64>, question: bool, standing: Standing) -> Report {
        Report {
            name: self.own.name.clone(),
            machine_id: self.own.machine_id,
            session: self.own.session,
            sequence: self.sequence,
            echo,
            question,
            seed: self.own.seed,
            standing,
        }
    }

    /// When something follows from time alone.
    pub(crate) fn deadline(&self, now: BootTime) -> BootTime {
        let again = self.failure.as_ref().map(|(_, again_at)| *again_at);
        let waits_for_contradiction = self
            .disks()
            .is_some_and(|disks| disks.started.is_some() && !self.started_etcd);
        let contradiction = waits_for_contradiction.then(|| self.contradiction_ends());
        [again, contradiction]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .fold(self.ask_at, BootTime::min)
    }

    pub(crate) fn publish(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let status = self.status(now);
        if self.published.as_ref() != Some(&status) {
            self.published = Some(status.clone());
            actions.push(Action::Publish(status));
        }
    }

    /// What people are told at this moment.
    pub fn status(&self, now: BootTime) -> Status {
        let standing = self.standing();
        let disks = self.disks();
        let held = disks.and_then(|disks| disks.go.as_ref().or(disks.plans.last()));
        let mut reasons = match &self.condition {
            Condition::Unknown { reason, .. } => vec![reason.clone()],
            Condition::Amnesiac { detail, .. } => vec![Reason::Amnesiac {
                detail: detail.clone(),
            }],
            Condition::Able(disks) => match (&disks.go, &disks.started) {
                (None, _) => self.waits_to_found(now),
                (Some(plan), None) => self.waits_to_start(plan),
                (Some(plan), Some(_)) => self.meets_other_clusters(plan).into_iter().collect(),
            },
        };
        reasons.extend(self.failure.as_ref().map(|(reason, _)| reason.clone()));
        let masters = self.own.masters.len();
        if masters.is_multiple_of(2) {
            reasons.push(Reason::EvenMasters { masters });
        }
        let peer = |peer: &Peer| PeerStatus {
            master: peer.master.clone(),
            answers: self.peers.answers(now, peer),
            standing: peer.standing().cloned(),
        };
        Status {
            phase: phase(&standing),
            plan: held.map(|plan| HeldPlan {
                generation: plan.generation(),
                cluster_id: plan.cluster_id(),
                hash: plan.hash(),
                go: standing.holds_go().is_some(),
            }),
            reasons,
            peers: self.peers.listed().map(peer).collect(),
        }
    }

    fn waits_to_found(&self, now: BootTime) -> Vec<Reason> {
        let names = |is_meant: &dyn Fn(&Peer) -> bool| -> Option<Vec<String>> {
            let listed = self.peers.listed().filter(|peer| is_meant(peer));
            let names: Vec<String> = listed.map(|peer| peer.master.name.clone()).collect();
            (!names.is_empty()).then_some(names)
        };
        let mut reasons: Vec<Reason> = self.cluster_exists().into_iter().collect();
        reasons.extend(self.seeds_differ(now));
        let silent = names(&|peer| !self.peers.answers(now, peer));
        reasons.extend(silent.map(|names| Reason::PeersMissing { names }));
        let unready = names(&|peer| {
            matches!(
                peer.standing(),
                Some(Standing::Unknown { .. } | Standing::Newer)
            )
        });
        reasons.extend(unready.map(|names| Reason::PeersNotReady { names }));
        reasons.extend(self.refused.clone());
        if !reasons.is_empty() {
            return reasons;
        }
        match self.disks().and_then(|disks| disks.plans.last()) {
            Some(plan) => vec![Reason::Acknowledging {
                missing: self.without_acknowledgement(plan),
            }],
            None => vec![Reason::Planning {
                planner: self
                    .own
                    .masters
                    .first()
                    .map(|master| master.name.clone())
                    .unwrap_or_default(),
            }],
        }
    }

    fn without_acknowledgement(&self, plan: &Plan) -> Vec<String> {
        let members = plan.members().iter().filter(|member| {
            !self.own.is(member)
                && self.peers.standing_of(member).and_then(Standing::plan) != Some(plan.name())
        });
        members.map(|member| member.name.clone()).collect()
    }

    fn cluster_exists(&self) -> Option<Reason> {
        let names: Vec<String> = self
            .peers
            .begun()
            .map(|peer| peer.master.name.clone())
            .collect();
        let cluster_id = |peer: &Peer| {
            let standing = peer.standing()?;
            standing
                .started_cluster()
                .or_else(|| standing.plan().map(|plan| plan.cluster_id))
        };
        (!names.is_empty()).then(|| Reason::ClusterExists {
            names,
            cluster_id: self.peers.begun().find_map(cluster_id),
        })
    }

    fn seeds_differ(&self, now: BootTime) -> Option<Reason> {
        let mut seeds: BTreeMap<SeedHash, Vec<String>> = BTreeMap::new();
        seeds.insert(self.own.seed, vec![self.own.name.clone()]);
        for peer in self.peers.all() {
            let is_meant = peer.relation == Relation::Listed || self.peers.answers(now, peer);
            if let Some(report) = peer.report().filter(|_| is_meant) {
                let names = seeds.entry(report.seed).or_default();
                names.push(peer.master.name.clone());
            }
        }
        (seeds.len() > 1).then(|| {
            let mut seeds: Vec<(SeedHash, Vec<String>)> = seeds.into_iter().collect();
            for (_, names) in &mut seeds {
                names.sort();
            }
            Reason::SeedsDiffer { seeds }
        })
    }

    fn waits_to_start(&self, plan: &Plan) -> Vec<Reason> {
        let foreign = self.meets_other_clusters(plan);
        let spreading = match &foreign {
            Some(reason) if !reason.is_warning() => None,
            _ => Some(Reason::Spreading {
                missing: self.without_go(plan),
            }),
        };
        foreign.into_iter().chain(spreading).collect()
    }

    fn meets_other_clusters(&self, plan: &Plan) -> Option<Reason> {
        let clusters = self.other_clusters(plan.cluster_id());
        (!clusters.is_empty()).then(|| Reason::ForeignCluster {
            clusters: clusters.into_iter().collect(),
            refused: !self.started_etcd && self.is_outnumbered(plan.cluster_id()),
        })
    }
}

fn phase(standing: &Standing) -> Phase {
    match standing {
        Standing::Fresh => Phase::Fresh,
        Standing::Founding { .. } => Phase::Founding,
        Standing::Member { .. } => Phase::Member,
        Standing::Amnesiac { .. } => Phase::Amnesiac,
        Standing::Unknown { .. } | Standing::Newer => Phase::Unknown,
    }
}

impl Own {
    /// `timing.scale` in thousandths.
    pub(crate) fn scale_per_mille(&self) -> u64 {
        let second = self.scale * std::time::Duration::from_secs(1);
        u64::try_from(second.as_millis()).unwrap_or(u64::MAX)
    }
}
