//! An image on trial: whether it is good is for the cluster to say, and what follows from that.

use std::sync::Arc;
use std::time::Duration;

use masthead_api::cluster::{Availability, ClusterStatus};
use masthead_api::status::{FailedImage, ServiceState, Status};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_machine::{Machine as _, Woken};
use masthead_slots::meta::FailedTrial;
use masthead_slots::trial::{Action, Event, Own, Trial};
use tokio::task::spawn_blocking;

use super::board::{Publishers, Shared};
use super::boot::TRY_AGAIN;
use crate::error_chain::with_sources;
use crate::link::{Ending, SupervisorLink};
use crate::node::NodeKind;
use crate::services::boot_time;
use crate::slots::{OwnDisk, OwnDiskError};

/// Between two looks at this node, on a real machine.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many of these pass between two looks at the others.
const LOOKS: u32 = 10;

/// What people are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TrialReport {
    /// Whether all the rest is known by now.
    pub(super) is_known: bool,
    /// While what runs has to show that it is good.
    pub(super) on_trial: Option<Reason>,
    /// The last one that has failed.
    pub(super) failed: Option<FailedImage>,
}

/// What it works with.
pub(super) struct TrialTask {
    pub(super) kind: NodeKind,
    pub(super) board: Shared,
    pub(super) publishers: Publishers,
    pub(super) link: Arc<SupervisorLink>,
}

impl TrialTask {
    /// Finds out whether this boot is a trial, and if so, how it ends.
    pub(super) async fn run(self) {
        let kind = self.kind;
        let found = spawn_blocking(move || OwnDisk::of(kind)).await;
        let Ok(Some(disk)) = found else {
            return self.tell(None, None);
        };
        *self.board.boot_disk.lock().await = Some(disk.clone());
        if disk.is_fresh {
            return self.tell(None, None);
        }
        if let Err(error) = on(&disk, OwnDisk::take_count).await {
            let error = with_sources(&error);
            tracing::error!(error, "what GRUB has counted cannot be kept");
        }
        match on(&disk, OwnDisk::is_on_trial).await {
            Ok(true) => {
                let reason = Reason::new(ReasonCode::ImageOnTrial, Timestamp::now());
                self.tell(Some(reason), None);
                self.count(&disk).await;
                self.judge(disk).await;
            }
            Ok(false) => {
                let settled = on(&disk, OwnDisk::settle).await;
                let failed = settled.unwrap_or_else(|error| {
                    let error = with_sources(&error);
                    tracing::warn!(error, "a trial that has failed is not put away");
                    None
                });
                self.tell(None, failed);
            }
            Err(error) => {
                let error = with_sources(&error);
                tracing::error!(error, "it cannot be seen whether this image is on trial");
                self.tell(None, None);
            }
        }
    }

    fn tell(&self, on_trial: Option<Reason>, failed: Option<FailedTrial>) {
        self.publishers.trial.send_replace(TrialReport {
            is_known: true,
            on_trial,
            failed: failed.map(told),
        });
    }

    /// A boot loader that cannot count would start a bad image for ever; one that comes so far counts for it.
    async fn count(&self, disk: &OwnDisk) {
        match on(disk, OwnDisk::count).await {
            Ok(false) => {}
            Ok(true) => tracing::error!(
                "the boot loader has not counted this start: with this firmware, an image that does not come so far is started again and again"
            ),
            Err(error) => {
                let error = with_sources(&error);
                tracing::error!(error, "it cannot be seen whether this start was counted");
            }
        }
    }

    /// Nothing is to be found out any more by a node that stops its services.
    async fn not_while_ending(&self) {
        let ends = self.publishers.ending.borrow().is_some();
        if ends {
            std::future::pending::<()>().await;
        }
    }

    async fn judge(&self, disk: OwnDisk) {
        let generation = disk.running;
        tracing::warn!(generation, "this image is on trial");
        let scale = self.board.scale();
        let mut trial = Trial::new(scale);
        let mut events = vec![Woken.into()];
        let mut looks = 0_u32;
        loop {
            for event in std::mem::take(&mut events) {
                for action in trial.step(boot_time(), event) {
                    match action {
                        // It is told something more often than that.
                        Action::WakeAt(_) => {}
                        Action::Bless => return self.bless(&disk).await,
                        Action::Fail(why) => return self.give_up(&disk, &why).await,
                    }
                }
            }
            tokio::time::sleep(scale * LOOK_EVERY).await;
            self.not_while_ending().await;
            let status = self.board.status();
            let own = own(&status);
            if matches!(own, Own::Waits(_)) && looks.is_multiple_of(LOOKS) {
                events.push(Event::OthersWell(self.others_are_well(&status).await));
            }
            looks = looks.wrapping_add(1);
            events.push(Event::Own(own));
        }
    }

    /// A master that knows of no other one waits for none.
    async fn others_are_well(&self, own: &Status) -> bool {
        let formation = own.formation.as_ref();
        if formation.is_none_or(|formation| formation.peers.is_empty()) {
            return true;
        }
        would_have_quorum(&own.node.name, &self.board.cluster_now().await)
    }

    async fn bless(&self, disk: &OwnDisk) {
        loop {
            let held = self.board.boot_disk.lock().await;
            let blessed = on(disk, OwnDisk::bless).await;
            drop(held);
            match blessed {
                Ok(entry) => {
                    let (generation, version) = (entry.generation, entry.version);
                    tracing::warn!(generation, version, "this image is good");
                    return self.tell(None, None);
                }
                Err(error) => {
                    let error = with_sources(&error);
                    tracing::error!(error, "this image is good, and the disk does not take it");
                }
            }
            tokio::time::sleep(self.board.scale() * TRY_AGAIN).await;
        }
    }

    async fn give_up(&self, disk: &OwnDisk, why: &str) {
        tracing::error!(
            why,
            "this image is not good: the node goes back to the last good one"
        );
        let reason = why.to_owned();
        let _held = self.board.boot_disk.lock().await;
        if let Err(error) = on(disk, move |disk| disk.give_up(&reason)).await {
            // The boot loader has counted: it goes back by itself, without a word.
            let error = with_sources(&error);
            tracing::error!(error, "why this image is not good cannot be kept");
        }
        while let Err(error) = self.link.request(Ending::Reboot).await {
            tracing::error!(%error, "PID 1 does not hear the supervisor");
            tokio::time::sleep(self.board.scale() * TRY_AGAIN).await;
        }
    }
}

/// Whether etcd would have a quorum with this master's member, whatever that says itself.
fn would_have_quorum(own: &str, cluster: &ClusterStatus) -> bool {
    let others = cluster.members().filter(|(name, _)| *name != own);
    Availability::of(others).is_some_and(|seen| {
        let healthy = seen.healthy.iter().filter(|name| *name != own);
        healthy.count() + 1 > seen.voters.len() / 2
    })
}

/// Blocking work on the disk.
pub(super) async fn on<T: Send + 'static>(
    disk: &OwnDisk,
    work: impl FnOnce(&OwnDisk) -> Result<T, OwnDiskError> + Send + 'static,
) -> Result<T, OwnDiskError> {
    let disk = disk.clone();
    match spawn_blocking(move || work(&disk)).await {
        Ok(done) => done,
        // A panic aborts the supervisor.
        Err(_) => std::future::pending().await,
    }
}

fn told(failed: FailedTrial) -> FailedImage {
    FailedImage {
        generation: failed.generation,
        version: failed.version,
        why: failed.why,
        at: Timestamp::from_unix_millis(failed.at),
    }
}

fn restarts(status: &Status) -> u64 {
    let restarts = status
        .services
        .iter()
        .map(|service| u64::from(service.restarts));
    restarts.sum()
}

fn own(status: &Status) -> Own {
    if status.serves() {
        return Own::Serves {
            restarts: restarts(status),
        };
    }
    let mut services = status.services.iter();
    // What somebody who is to mend the image needs to know.
    let dying = services.find_map(|service| {
        let (name, state) = (&service.name, &service.state);
        let last = service
            .last_lines
            .last()
            .filter(|_| *state != ServiceState::Ready)?;
        Some(format!("{name} is {state}; it said last: {last}"))
    });
    if let Some(dying) = dying {
        return Own::Waits(dying);
    }
    if let Some(reason) = status.waiting.first() {
        return Own::Waits(format!("{}: {}", reason.code, reason.cause));
    }
    let mut services = status.services.iter();
    let unready = services.find(|service| service.state != ServiceState::Ready);
    Own::Waits(match unready {
        Some(service) => format!("{} is {}", service.name, service.state),
        None if status.services.is_empty() => "no service was started".to_owned(),
        None => "its member of etcd has no vote, or knows no leader".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use masthead_api::FORMAT;
    use masthead_api::cluster::NodeAnswer;
    use serde_json::json;

    use super::*;

    fn status(name: &str, services: &[(&str, &str)], leads: bool) -> Status {
        let services: Vec<_> = services
            .iter()
            .map(|(name, state)| {
                json!({ "name": name, "state": state, "since": "2026-01-01T00:00:00Z", "restarts": 2,
                    "last_lines": ["unknown flag: --nothing"] })
            })
            .collect();
        let members = ["m1", "m2", "m3"].map(|name| json!({ "id": name, "name": name }));
        let status = json!({
            "node": {
                "name": name, "kind": "machine", "version": "0.1.0", "boot_time": "2026-01-01T00:00:00Z", "uptime": 1,
                "boot_id": "b", "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
            },
            "services": services,
            "etcd": {
                "member_id": name, "role": "voter", "leader": leads.then_some("m1"), "raft_term": 3, "raft_index": 9,
                "raft_applied_index": 9, "db_size": 1, "db_in_use": 1, "members": members,
            },
        });
        serde_json::from_value(status).unwrap()
    }

    fn cluster(nodes: &[(&str, bool)]) -> ClusterStatus {
        let answer = |leads| move |name| NodeAnswer::Status(Box::new(status(name, &[], leads)));
        ClusterStatus {
            format: FORMAT,
            nodes: nodes
                .iter()
                .map(|(name, leads)| ((*name).to_owned(), answer(*leads)(name)))
                .collect(),
        }
    }

    #[test]
    fn one_healthy_other_of_three_is_enough_and_the_own_word_does_not_count() {
        assert!(would_have_quorum(
            "m3",
            &cluster(&[("m1", true), ("m2", true)])
        ));
        assert!(would_have_quorum("m3", &cluster(&[("m1", true)])));
        assert!(!would_have_quorum(
            "m3",
            &cluster(&[("m1", false), ("m2", false)])
        ));
        assert!(!would_have_quorum("m3", &cluster(&[("m3", true)])));
        assert!(!would_have_quorum("m3", &cluster(&[])));
    }

    #[test]
    fn a_master_says_what_keeps_it_from_serving() {
        let all = [("etcd", "ready"), ("kube-apiserver", "ready")];
        assert_eq!(own(&status("m1", &all, true)), Own::Serves { restarts: 4 });
        let waits = |status: &Status| match own(status) {
            Own::Waits(why) => why,
            Own::Serves { .. } => panic!("it serves"),
        };
        let broken = [("etcd", "ready"), ("kube-apiserver", "backing-off")];
        assert_eq!(
            waits(&status("m1", &broken, true)),
            "kube-apiserver is backing-off; it said last: unknown flag: --nothing"
        );
        assert_eq!(waits(&status("m1", &[], true)), "no service was started");
        assert_eq!(
            waits(&status("m1", &all, false)),
            "its member of etcd has no vote, or knows no leader"
        );
    }
}
