//! Taking this master out of service at an operator's word, under the one disruption lock, and giving that back when the
//! master serves again.
//!
//! One task does both, one word after the other: it never gives back the lock that it has taken to go down. A supervisor
//! that dies in between leaves the lock to the next one, which gives it back when the node goes on after all.

use std::sync::Arc;

use masthead_api::cluster::ClusterStatus;
use masthead_api::disruption::{Disruption, Purpose};
use masthead_api::etcd::LeaderRequest;
use masthead_api::power::{PowerAnswer, PowerPlan};
use masthead_api::{ApiError, ErrorCode, FORMAT, Timestamp, hex};
use masthead_machine::Scale;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::board::{Publishers, Shared};
use super::boot::TRY_AGAIN;
use super::ending;
use super::next_image::{NextImage, take_snapshot};
use crate::disruption::{Held, Lock, LockSeen, Situation, has_quorum, under_way};
use crate::error_chain::with_sources;
use crate::link::{Ending, SupervisorLink};
use crate::management::{PowerAction, PowerCommand};

/// What it works with.
pub(super) struct DisruptionTask {
    pub(super) board: Shared,
    pub(super) publishers: Publishers,
    pub(super) link: Arc<SupervisorLink>,
    /// How the node ends, once that is settled.
    pub(super) ending: watch::Receiver<Option<Ending>>,
    pub(super) scale: Scale,
}

/// A plan and what it was made of.
struct Look {
    cluster: ClusterStatus,
    plan: PowerPlan,
    /// The way to the lock, on a node that runs a member of etcd.
    lock: Option<Lock>,
    /// Who holds it.
    held: Option<Held>,
}

impl DisruptionTask {
    /// Carries out words, for ever.
    pub(super) async fn run(self, mut words: mpsc::Receiver<PowerCommand>) {
        let mut goes_down = false;
        let mut not_before = Instant::now();
        loop {
            tokio::select! {
                word = words.recv() => {
                    let Some(word) = word else { return };
                    let ends = goes_down || self.ending.borrow().is_some();
                    let answer = if ends { Err(already()) } else { self.answer(&word).await };
                    goes_down |= answer.is_ok() && !word.plan;
                    // An operator who has gone wanted it all the same.
                    let _ = word.reply.send(answer);
                }
                () = self.due(not_before), if !goes_down => {
                    self.give_back_own().await;
                    not_before = Instant::now() + self.scale * TRY_AGAIN;
                }
            }
        }
    }

    async fn answer(&self, word: &PowerCommand) -> Result<PowerAnswer, ApiError> {
        let cluster = self.board.cluster_now().await;
        let next = match NextImage::find(&self.board, &word.action, &cluster).await {
            // Before an image is sent it is to be known what would become of it.
            Err(_) if word.plan && matches!(word.action, PowerAction::Upgrade { .. }) => None,
            found => found?,
        };
        let look = self.look_at(cluster, word, next.as_ref()).await;
        let plan = if word.plan {
            look.plan
        } else {
            refuse(&look.plan)?;
            self.go_down(word, look, next.as_ref()).await?
        };
        Ok(PowerAnswer {
            format: FORMAT,
            boot_id: self.board.status().node.boot_id,
            plan,
        })
    }

    /// What follows from what all masters say for this one.
    async fn look_at(
        &self,
        cluster: ClusterStatus,
        word: &PowerCommand,
        next: Option<&NextImage>,
    ) -> Look {
        let own = self.board.status();
        let lock = self.board.members().map(|members| Lock { members });
        let (seen, held) = match &lock {
            None => (LockSeen::NotNeeded, None),
            // Each member would be waited for in vain.
            Some(_) if !has_quorum(&cluster) => {
                (LockSeen::Unknown("etcd has no quorum".to_owned()), None)
            }
            Some(lock) => match lock.read().await {
                Ok(None) => (LockSeen::Free, None),
                Ok(Some(held)) => (LockSeen::HeldBy(held.disruption.clone()), Some(held)),
                Err(error) => (LockSeen::Unknown(with_sources(&error)), None),
            },
        };
        let situation = Situation {
            own: &own,
            purpose: purpose(&word.action),
            image: next.map(|next| next.image.clone()),
            cluster: &cluster,
            lock: seen,
            accept_outage: word.accept_outage,
            now: Timestamp::now(),
        };
        let plan = situation.plan();
        Look {
            cluster,
            plan,
            lock,
            held,
        }
    }

    /// Takes the lock, looks again, has etcd's leader hand over, and tells PID 1. Gives the lock back when it does not come so far.
    async fn go_down(
        &self,
        word: &PowerCommand,
        look: Look,
        next: Option<&NextImage>,
    ) -> Result<PowerPlan, ApiError> {
        let taken = self.take(word, &look).await?;
        // The status of all nodes is to tell of it soon.
        self.publishers.ask_etcd.notify_one();
        let gone = self.go_down_with(word, look, next, taken.as_ref()).await;
        if gone.is_err()
            && let Some((lock, held)) = &taken
            && let Err(error) = lock.give_back(held).await
        {
            // It is tried again, as after a reboot.
            let error = with_sources(&error);
            tracing::error!(%error, "the disruption lock is not given back");
        }
        self.publishers.ask_etcd.notify_one();
        gone
    }

    /// With the lock, if it could be taken. The plan is told as it was carried out.
    async fn go_down_with(
        &self,
        word: &PowerCommand,
        mut look: Look,
        next: Option<&NextImage>,
        taken: Option<&(Lock, Held)>,
    ) -> Result<PowerPlan, ApiError> {
        if taken.is_some() && !word.accept_outage {
            look = self
                .look_at(self.board.cluster_now().await, word, next)
                .await;
            refuse(&look.plan)?;
        }
        if next.is_some() {
            take_snapshot(&self.board, word.accept_outage).await?;
        }
        look.plan.takes_lock = taken.is_some();
        if let Some(to) = look.plan.hand_over_to.take() {
            match self.hand_over(&look.cluster, to.clone()).await {
                Ok(()) => look.plan.hand_over_to = Some(to),
                Err(error) if !word.accept_outage => return Err(error),
                Err(error) => tracing::warn!(%error, "etcd's leader goes down as it is"),
            }
        }
        if let Some((lock, held)) = taken
            && !word.accept_outage
        {
            still_held(lock, held).await?;
        }
        let Some(next) = next else {
            self.tell_pid1(word).await?;
            return Ok(look.plan);
        };
        // At the last moment: a power cut until here comes back with what runs.
        next.arm().await?;
        if let Err(error) = self.tell_pid1(word).await {
            next.disarm().await;
            return Err(error);
        }
        Ok(look.plan)
    }

    /// The lock and what it is held as; none when the node goes without.
    async fn take(
        &self,
        word: &PowerCommand,
        look: &Look,
    ) -> Result<Option<(Lock, Held)>, ApiError> {
        let Some(lock) = look.lock.clone().filter(|_| look.plan.takes_lock) else {
            return Ok(None);
        };
        let wanted = self.disruption(word)?;
        match lock.take(&wanted, look.held.as_ref()).await {
            Ok(Ok(held)) => Ok(Some((lock, held))),
            Ok(Err(other)) => {
                let (cause, remedy) = match other {
                    Some(other) => {
                        let reason = under_way(&other.disruption);
                        (reason.cause, reason.remedy)
                    }
                    None => (
                        "The disruption lock changed hands meanwhile.".to_owned(),
                        "Try again.".to_owned(),
                    ),
                };
                Err(conflict(&cause, remedy))
            }
            Err(error) if word.accept_outage => {
                let error = with_sources(&error);
                tracing::warn!(%error, "the node goes down without the disruption lock");
                Ok(None)
            }
            Err(error) => Err(conflict(
                &format!(
                    "The disruption lock cannot be taken: {}.",
                    with_sources(&error)
                ),
                "See `mastctl status` for how etcd is, and try again.",
            )),
        }
    }

    fn disruption(&self, word: &PowerCommand) -> Result<Disruption, ApiError> {
        let mut id = [0; 16];
        getrandom(&mut id, GetRandomFlags::NONBLOCK).map_err(|error| {
            ApiError::new(
                ErrorCode::Internal,
                format!("the kernel gives no random numbers: {error}"),
                "Try again.",
            )
        })?;
        let node = self.board.status().node;
        Ok(Disruption {
            format: FORMAT,
            id: hex::encode(&id),
            holder: node.name,
            machine_id: node.machine_id.unwrap_or_default(),
            purpose: purpose(&word.action),
            by: word.by.clone(),
            since: Timestamp::now(),
        })
    }

    async fn hand_over(&self, cluster: &ClusterStatus, to: String) -> Result<(), ApiError> {
        let request = LeaderRequest {
            format: FORMAT,
            to,
            plan: false,
        };
        match self.board.members() {
            Some(members) => members.move_leader(cluster, request).await.map(drop),
            None => Ok(()),
        }
    }

    /// Passes the word on to PID 1. Only PID 1 remembers it when this supervisor dies before the services are stopped.
    async fn tell_pid1(&self, word: &PowerCommand) -> Result<(), ApiError> {
        tracing::warn!(action = ?word.action, by = %word.by, "an operator ends the node");
        let asked = ending::of(&word.action);
        self.link.request(asked).await.map_err(|error| {
            ApiError::new(
                ErrorCode::Internal,
                format!("PID 1 does not hear the supervisor: {error}"),
                "Try again; if it stays so, cut the power.",
            )
        })
    }

    /// Waits until this master holds the lock although it serves, and `not_before` has come.
    async fn due(&self, not_before: Instant) {
        let mut etcd = self.publishers.etcd.subscribe();
        let mut services = self.publishers.services.subscribe();
        let mut trial = self.publishers.trial.subscribe();
        loop {
            trial.mark_unchanged();
            etcd.mark_unchanged();
            services.mark_unchanged();
            if self.holds_and_serves() {
                return sleep_until(not_before).await;
            }
            // The senders are here.
            tokio::select! {
                _ = etcd.changed() => {}
                _ = services.changed() => {}
                _ = trial.changed() => {}
            }
        }
    }

    fn holds_and_serves(&self) -> bool {
        let status = self.board.status();
        // Until the image is good the master may go down again by itself.
        let trial = self.publishers.trial.borrow();
        let is_good = trial.is_known && trial.on_trial.is_none();
        status.holds_disruption_lock() && status.serves() && is_good
    }

    async fn give_back_own(&self) {
        let node = self.board.status().node;
        let (Some(members), Some(machine_id)) = (self.board.members(), node.machine_id) else {
            return;
        };
        let lock = Lock { members };
        match lock.give_back_own(&machine_id).await {
            Ok(true) => tracing::info!("this master serves: the disruption lock is given back"),
            // Somebody else was faster, and the status does not say so yet.
            Ok(false) => {}
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(%error, "the disruption lock is not given back yet");
            }
        }
        self.publishers.ask_etcd.notify_one();
    }
}

/// An operator may have taken the lock away meanwhile, and another master gone down with it.
async fn still_held(lock: &Lock, taken: &Held) -> Result<(), ApiError> {
    match lock.read().await {
        Ok(Some(now)) if now.disruption.id == taken.disruption.id => Ok(()),
        Ok(_) => Err(conflict(
            "The disruption lock was taken away before the node went down.",
            "See `mastctl status` for who goes down; then try again.",
        )),
        Err(error) => Err(conflict(
            &format!(
                "The disruption lock cannot be asked for any more: {}.",
                with_sources(&error)
            ),
            "See `mastctl status` for how etcd is, and try again.",
        )),
    }
}

fn purpose(action: &PowerAction) -> Purpose {
    match action {
        PowerAction::Reboot => Purpose::Reboot,
        PowerAction::PowerOff => Purpose::PowerOff,
        PowerAction::Upgrade { .. } => Purpose::Upgrade,
        PowerAction::Rollback => Purpose::Rollback,
    }
}

/// A node that goes down does so once.
fn already() -> ApiError {
    conflict(
        "The node is going down already.",
        "Wait until it is down, or back.",
    )
}

/// The first reason, with all others' causes.
fn refuse(plan: &PowerPlan) -> Result<(), ApiError> {
    let Some(first) = plan.refusals.first() else {
        return Ok(());
    };
    let causes: Vec<_> = plan.refusals.iter().map(|reason| &*reason.cause).collect();
    Err(conflict(&causes.join(" "), first.remedy.clone()))
}

fn conflict(why: &str, remedy: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Conflict, why.trim_end_matches('.'), remedy)
}
