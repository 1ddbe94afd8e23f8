//! What this node sees of itself: how its member of etcd stands, and whether its apiserver can serve.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error};
use masthead_control_plane::Request;
use masthead_machine::Scale;
use masthead_seed::Endpoint;
use masthead_vip::Raft;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::health::{ASK_EVERY, Health, PATH, PATIENCE, Sight};
use crate::etcd::{Members, in_time};
use crate::services::Target;

/// Between two questions to the own member, on a real machine: it is to be known soon that there was an election, and a contender waits for
/// no less than 400 ms.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the member may take, on a real machine.
const TO_ANSWER: Duration = Duration::from_millis(500);

/// Keeps the leader and the term true, for as long as anybody listens. While this node owns all addresses nobody needs them, and the member is left
/// alone.
pub(super) async fn watch_raft(
    members: Arc<Members>,
    mut contends: watch::Receiver<bool>,
    publisher: watch::Sender<Raft>,
) {
    let mut ticks = interval(members.scale * LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = publisher.closed() => return,
        }
        if !*contends.borrow() {
            // What is known by then is not believed any more.
            publisher.send_if_modified(|before| std::mem::take(before) != Raft::default());
            if contends.wait_for(|contends| *contends).await.is_err() {
                return;
            }
        }
        let asked = in_time(members.scale * TO_ANSWER, ask(&members, &mut kept)).await;
        let seen = asked.unwrap_or_default();
        publisher.send_if_modified(|before| std::mem::replace(before, seen) != seen);
    }
}

async fn ask(members: &Members, kept: &mut Option<Client>) -> Result<Raft, Error> {
    // Taken: a client that failed is not asked again.
    let mut client = match kept.take() {
        Some(client) => client,
        None => members.own_client().await?,
    };
    let status = client.status().await?;
    *kept = Some(client);
    Ok(Raft {
        leader: Some(status.leader()).filter(|leader| *leader != 0),
        term: status.raft_term(),
    })
}

/// The questions to the own apiserver.
pub(super) struct Apiserver {
    /// What is asked at the node's own address.
    pub(super) readiness: Request,
    /// The addresses that this node owns: there the same is asked, through the way that clients take.
    pub(super) owned: watch::Receiver<Vec<IpAddr>>,
    pub(super) scale: Scale,
}

impl Apiserver {
    /// Keeps it true whether the apiserver can serve, for as long as anybody listens.
    pub(super) async fn watch(self, publisher: watch::Sender<bool>) {
        let mut ticks = interval(self.scale * ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = Health::default();
        let mut targets: BTreeMap<Option<IpAddr>, Target> = BTreeMap::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = publisher.closed() => return,
            }
            let owned = self.owned.borrow().clone();
            let mut places: Vec<_> = owned.into_iter().map(Some).collect();
            if places.is_empty() {
                places.push(None);
            }
            targets.retain(|place, _| places.contains(place));
            let mut worst = Sight::Serves;
            for place in places {
                let target = targets
                    .entry(place)
                    .or_insert_with(|| Target::new(self.request(place)));
                let sight = match target.look(self.scale * PATIENCE).await {
                    Ok(()) => Sight::Serves,
                    Err(unwell) => {
                        let why = unwell.said;
                        tracing::debug!(?place, why, "the own apiserver cannot serve");
                        if unwell.nobody_listens {
                            Sight::Gone
                        } else {
                            Sight::Fails
                        }
                    }
                };
                worst = worst.max(sight);
            }
            if let Some(ready) = health.saw(worst) {
                publisher.send_replace(ready);
            }
        }
    }

    fn request(&self, place: Option<IpAddr>) -> Request {
        let mut request = self.readiness.clone();
        let (Request::Http { address, path } | Request::Https { address, path, .. }) = &mut request;
        PATH.clone_into(path);
        if let Some(place) = place {
            *address = SocketAddr::new(place, Endpoint::VIRTUAL_PORT);
        }
        request
    }
}
