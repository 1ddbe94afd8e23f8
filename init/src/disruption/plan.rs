//! What a reboot or power-off does, and what speaks against it.

use masthead_api::cluster::{Availability, ClusterStatus};
use masthead_api::disruption::{Disruption, Purpose};
use masthead_api::power::PowerPlan;
use masthead_api::status::ServiceState;
use masthead_api::upgrade::Image;
use masthead_api::{Reason, ReasonCode, Status, Timestamp};
use masthead_control_plane::Component;

/// What is known when a master shall go down.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// What it says of itself.
    pub own: &'a Status,
    /// What it is to go down for.
    pub purpose: Purpose,
    /// What it is to start next, where that is another image.
    pub image: Option<Image>,
    /// What all masters say, this one too.
    pub cluster: &'a ClusterStatus,
    /// Who holds the disruption lock.
    pub lock: LockSeen,
    /// Whether the operator has accepted that nothing may be written meanwhile.
    pub accept_outage: bool,
    /// Now.
    pub now: Timestamp,
}

/// What is known of the disruption lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockSeen {
    /// The master runs no member of a cluster: it takes nothing out of service.
    NotNeeded,
    /// Nobody holds it.
    Free,
    /// Somebody holds it; maybe this master itself, since before it went down last.
    HeldBy(Disruption),
    /// etcd does not say, and why.
    Unknown(String),
}

impl Situation<'_> {
    /// What is to be done, and what speaks against it.
    pub fn plan(&self) -> PowerPlan {
        let name = &self.own.node.name;
        let mut plan = PowerPlan {
            node: name.clone(),
            purpose: self.purpose.clone(),
            image: self.image.clone(),
            availability: None,
            spare_meanwhile: None,
            hand_over_to: None,
            services: running(self.own),
            takes_lock: matches!(self.lock, LockSeen::Free | LockSeen::HeldBy(_)),
            lock: match &self.lock {
                LockSeen::HeldBy(holder) => Some(holder.clone()),
                _ => None,
            },
            refusals: Vec::new(),
            accepted: Vec::new(),
        };
        if self.lock == LockSeen::NotNeeded {
            return plan;
        }
        plan.availability = Availability::of(self.cluster.members());
        if let Some(availability) = &plan.availability {
            let stay = availability
                .healthy
                .iter()
                .filter(|voter| self.stays(voter));
            let left = i64::try_from(stay.count()).unwrap_or(i64::MAX);
            plan.spare_meanwhile = Some(left - quorum(availability));
            // A member that does not answer cannot be told to hand over.
            let leads = availability.leader.as_ref() == Some(name);
            if leads && availability.healthy.contains(name) {
                plan.hand_over_to = self.successor(availability);
            }
        }
        let objections = self.objections(&plan);
        if self.accept_outage {
            plan.accepted = objections;
        } else {
            plan.refusals = objections;
        }
        plan
    }

    /// Whether it is another master, and goes nowhere itself. One that was told to end by its own keys or firmware holds no lock, and
    /// its member is the last service that it stops.
    fn stays(&self, name: &str) -> bool {
        name != self.own.node.name && !self.ending().contains(&name)
    }

    /// The healthy voter that is furthest.
    fn successor(&self, availability: &Availability) -> Option<String> {
        let followers = self.cluster.members().filter(|(name, _)| {
            self.stays(name) && availability.healthy.iter().any(|voter| voter == name)
        });
        let furthest = followers.max_by_key(|(_, etcd)| etcd.raft_applied_index);
        furthest.map(|(name, _)| name.to_owned())
    }

    fn objections(&self, plan: &PowerPlan) -> Vec<Reason> {
        let reason = |code, cause: String| Reason::new(code, self.now).with_cause(cause);
        let mut objections = Vec::new();
        let name = &plan.node;
        let has_quorum = match &plan.availability {
            Some(availability) if availability.spare >= 0 => {
                let voters = availability.voters.len();
                if let Some(lacking @ ..0) = plan.spare_meanwhile {
                    let (needed, left) = (quorum(availability), quorum(availability) + lacking);
                    let ending = self.ending();
                    let also = if ending.is_empty() {
                        String::new()
                    } else {
                        format!(" ({} is shutting down)", ending.join(", "))
                    };
                    objections.push(reason(
                        ReasonCode::QuorumWouldBeLost,
                        format!(
                            "Without {name}, {left} of {voters} voters would be left{also}, and {needed} are needed: nothing could be written until {name} is back."
                        ),
                    ));
                }
                true
            }
            Some(availability) => {
                let (healthy, voters) = (availability.healthy.len(), availability.voters.len());
                objections.push(reason(
                    ReasonCode::QuorumLost,
                    format!("{healthy} of {voters} voters are healthy: nothing can be written, and nobody asked for the disruption lock."),
                ));
                false
            }
            None => {
                objections.push(reason(
                    ReasonCode::QuorumLost,
                    "No member of etcd answers: nothing can be written, and nobody asked for the disruption lock.".to_owned(),
                ));
                false
            }
        };
        match &self.lock {
            LockSeen::HeldBy(holder) if !self.is_own(holder) => {
                objections.push(under_way(holder));
            }
            LockSeen::Unknown(why) if has_quorum => objections.push(reason(
                ReasonCode::DisruptionUnknown,
                format!("The disruption lock cannot be asked for: {why}."),
            )),
            _ => {}
        }
        if objections.is_empty() && has_apiserver(self.own) && !self.others_have_apiserver() {
            objections.push(reason(
                ReasonCode::ApiserverWouldBeLost,
                format!(
                    "No other master's kube-apiserver is ready: nobody would serve until {name} is back."
                ),
            ));
        }
        objections
    }

    fn is_own(&self, holder: &Disruption) -> bool {
        self.own.node.machine_id.as_ref() == Some(&holder.machine_id)
    }

    fn others_have_apiserver(&self) -> bool {
        let mut others = self.cluster.statuses();
        others.any(|(name, status)| self.stays(name) && has_apiserver(status))
    }

    /// The other masters that go down just now.
    fn ending(&self) -> Vec<&str> {
        let others = self.cluster.statuses();
        let ending =
            others.filter(|(name, status)| *name != self.own.node.name && is_ending(status));
        ending.map(|(name, _)| name).collect()
    }
}

/// Whether enough voters follow one leader for the lock to be asked for.
pub fn has_quorum(cluster: &ClusterStatus) -> bool {
    Availability::of(cluster.members()).is_some_and(|availability| availability.spare >= 0)
}

/// That a master holds the lock, for whoever is refused or looks at the status.
pub fn under_way(holder: &Disruption) -> Reason {
    let what = match &holder.purpose {
        Purpose::Reboot => "to reboot",
        Purpose::PowerOff => "to power off",
        Purpose::Upgrade => "to be upgraded",
        Purpose::Rollback => "to go back to its last image",
        Purpose::Other(other) => other.as_str(),
    };
    let name = &holder.holder;
    Reason::new(ReasonCode::DisruptionUnderWay, holder.since)
        .with_cause(format!(
            "{name} holds the disruption lock since {}, {what}, and gives it back when it serves again.",
            holder.since
        ))
        .with_remedy(format!(
            "Wait until {name} is back. If it never comes back: `mastctl unlock {name} --id {}`.",
            holder.short_id()
        ))
}

fn quorum(availability: &Availability) -> i64 {
    i64::try_from(availability.voters.len() / 2 + 1).unwrap_or(i64::MAX)
}

fn is_ending(status: &Status) -> bool {
    let mut waiting = status.waiting.iter();
    waiting.any(|reason| reason.code == ReasonCode::ShuttingDown)
}

fn has_apiserver(status: &Status) -> bool {
    status.services.iter().any(|service| {
        service.name == Component::KubeApiserver.name() && service.state == ServiceState::Ready
    })
}

/// In the order in which they are stopped: the reverse of their start.
fn running(status: &Status) -> Vec<String> {
    let services = status.services.iter().rev();
    services
        .filter(|service| service.pid.is_some())
        .map(|service| service.name.clone())
        .collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
