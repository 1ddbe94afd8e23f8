//! How the member is, every few seconds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error, StatusResponse};
use masthead_api::disruption::Disruption;
use masthead_api::etcd::{Etcd, EtcdMember, EtcdRole};
use masthead_machine::Scale;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Credentials, in_time};
use crate::disruption::lock;

/// How often the member is asked, and how long it may take to answer, on a real machine. Asked every 2 s, PID 1 and
/// supervisor used 0.21 % of a processor when nothing happened, where 0.2 % is the goal.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Asks the member on this node how it is.
pub struct Observer {
    /// Where it serves clients.
    pub address: SocketAddr,
    /// How to connect.
    pub credentials: Credentials,
    /// The masters' names, by machine id, which is what etcd knows members by.
    pub names: BTreeMap<String, String>,
    /// Multiplies the times.
    pub scale: Scale,
    /// Has it ask at once.
    pub ask: Arc<Notify>,
}

impl Observer {
    /// Publishes what the member says, and none while it does not answer. Runs until nobody listens.
    pub async fn run(self, publisher: watch::Sender<Option<Etcd>>) {
        let period = self.scale * ASK_EVERY;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaves = self.credentials.leaves.clone();
        let mut client: Option<Client> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.ask.notified() => {}
                () = publisher.closed() => return,
            }
            // A renewed certificate is shown with the next connection.
            if leaves.has_changed().unwrap_or(false) {
                client = None;
            }
            leaves.mark_unchanged();
            let asked = in_time(period, self.ask(&mut client, period)).await;
            let seen = asked
                .inspect_err(|error| tracing::debug!(%error, "etcd does not say how it is"))
                .ok();
            publisher.send_if_modified(|before| {
                let changed = *before != seen;
                *before = seen;
                changed
            });
        }
    }

    async fn ask(&self, kept: &mut Option<Client>, patience: Duration) -> Result<Etcd, Error> {
        // Taken: a client that failed is not asked again.
        let mut client = match kept.take() {
            Some(client) => client,
            None => self.credentials.connect(self.address, patience).await?,
        };
        let seen = ask(&mut client, &self.names).await?;
        *kept = Some(client);
        Ok(seen)
    }
}

/// What a member says of itself, of the others by the masters' `names`, and of the disruption lock.
pub(super) async fn ask(
    client: &mut Client,
    names: &BTreeMap<String, String>,
) -> Result<Etcd, Error> {
    let status = client.status().await?;
    // Its own list, which it knows without a majority too.
    let list = client.member_list().await?;
    let members = list.members().iter().map(|member| EtcdMember {
        id: hexadecimal(member.id()),
        name: names
            .get(member.name())
            .map_or_else(|| member.name().to_owned(), Clone::clone),
        learner: member.is_learner(),
    });
    let disruption = lock::seen_by(client).await?;
    Ok(told(&status, members.collect(), disruption))
}

fn told(status: &StatusResponse, members: Vec<EtcdMember>, disruption: Option<Disruption>) -> Etcd {
    let own = status
        .header()
        .map_or(0, etcd_client::ResponseHeader::member_id);
    let leader = Some(status.leader()).filter(|id| *id != 0);
    Etcd {
        member_id: hexadecimal(own),
        role: if status.is_learner() {
            EtcdRole::Learner
        } else if leader == Some(own) {
            EtcdRole::Leader
        } else {
            EtcdRole::Voter
        },
        leader: leader.map(hexadecimal),
        raft_term: status.raft_term(),
        raft_index: status.raft_index(),
        raft_applied_index: status.raft_applied_index(),
        db_size: u64::try_from(status.db_size()).unwrap_or_default(),
        db_in_use: u64::try_from(status.raft_used_db_size()).unwrap_or_default(),
        db_quota: u64::try_from(status.db_size_quota()).unwrap_or_default(),
        errors: status.errors().to_vec(),
        members,
        disruption,
    }
}

/// As etcdctl shows ids, with leading zeros.
fn hexadecimal(id: u64) -> String {
    format!("{id:016x}")
}
