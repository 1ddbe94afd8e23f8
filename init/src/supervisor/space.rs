//! Looks after the space of etcd's databases: tells people of it on every master, and does something about it on the leader's.

use std::collections::BTreeSet;
use std::time::Duration;

use masthead_api::FORMAT;
use masthead_api::Reason;
use masthead_api::etcd::{EtcdRole, LeaderRequest};
use masthead_api::vip::MoveRequest;
use tokio::sync::watch;

use super::addresses;
use super::board::Shared;
use crate::error_chain::with_sources;
use crate::etcd::{Members, space, space::Step};

/// Between two looks, on a real machine. What was written before the last look is old enough to be forgotten: whoever watches is further by then.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// As rarely the others are asked while this master's own database is small.
const ASK_ALL_EVERY: u32 = 6;

/// What is known from one look to the next.
#[derive(Debug, Default)]
struct Keeper {
    looks: u32,
    /// The store's revision at the last look, if there was something to look after.
    seen: Option<i64>,
    /// The last step was to forget what is old.
    just_compacted: bool,
    /// Up to which revision it is forgotten.
    compacted: i64,
    /// Whose databases were written anew since then.
    tried: BTreeSet<String>,
    /// Whose members have to be well before the next step.
    waits_for: Vec<String>,
}

/// Keeps space in etcd, for ever.
pub(super) async fn keep(board: Shared, publisher: watch::Sender<Option<Reason>>) {
    let mut keeper = Keeper::default();
    loop {
        tokio::time::sleep(board.scale() * LOOK_EVERY).await;
        let etcd = board.status().etcd;
        let leads = etcd
            .as_ref()
            .is_some_and(|etcd| etcd.role == EtcdRole::Leader);
        if !leads {
            // Another master looks after it now.
            keeper.waits_for.clear();
        }
        let reason = etcd.as_ref().and_then(space::reason);
        let small = reason.is_none();
        let reason = reason.map(|reason| keeper.explain(reason));
        publisher.send_modify(|before| {
            *before = reason.map(|reason| reason.continuing(before.as_ref()));
        });
        keeper.looks = keeper.looks.wrapping_add(1);
        if !leads || (small && !keeper.looks.is_multiple_of(ASK_ALL_EVERY)) {
            continue;
        }
        let Some(members) = board.members() else {
            continue;
        };
        if let Err(error) = keeper.look(&board, &members).await {
            tracing::warn!(error, "etcd's space is not looked after");
        }
    }
}

impl Keeper {
    /// Says also why nothing is done about it at present.
    fn explain(&self, reason: Reason) -> Reason {
        if self.waits_for.is_empty() {
            return reason;
        }
        let cause = format!(
            "{} It is not defragmented while {} is not a healthy member.",
            reason.cause,
            self.waits_for.join(" or ")
        );
        reason.with_cause(cause)
    }

    /// Does one step, if there is one to do.
    async fn look(&mut self, board: &Shared, members: &Members) -> Result<(), String> {
        let cluster = board.cluster_now().await;
        if !space::is_needed(&cluster) {
            *self = Self::default();
            return Ok(());
        }
        let now = members.revision().await.map_err(of_etcd)?;
        let seen = self.seen.replace(now);
        let old = seen.filter(|seen| !self.just_compacted && *seen > self.compacted);
        self.just_compacted = false;
        self.waits_for.clear();
        let Some(step) = space::next(&members.own, &cluster, old.is_some(), &self.tried) else {
            return Ok(());
        };
        tracing::info!(?step, "etcd needs space");
        match step {
            Step::Compact => {
                self.just_compacted = true;
                let revision = old.unwrap_or_default();
                members.compact(revision).await.map_err(of_etcd)?;
                self.compacted = revision;
                self.tried.clear();
                Ok(())
            }
            Step::MoveAddresses(to) => {
                let request = MoveRequest {
                    format: FORMAT,
                    to,
                    address: None,
                    plan: false,
                };
                let moved = addresses::move_to(board, request).await;
                moved.map(drop).map_err(|error| error.message)
            }
            Step::Defragment(master) => {
                members.defragment(&master).await.map_err(of_etcd)?;
                self.tried.insert(master);
                Ok(())
            }
            Step::HandOver(to) => {
                let request = LeaderRequest {
                    format: FORMAT,
                    to,
                    plan: false,
                };
                let moved = members.move_leader(&cluster, request).await;
                moved.map(drop).map_err(|error| error.message)
            }
            Step::WaitFor(names) => {
                self.waits_for = names;
                Ok(())
            }
            Step::Disarm => members.disarm().await.map_err(of_etcd),
        }
    }
}

fn of_etcd(error: etcd_client::Error) -> String {
    with_sources(&error)
}
