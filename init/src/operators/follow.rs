//! Who is in, as this master's own member of etcd knows it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions, WatchOptions};
use masthead_seed::OperatorKey;
use tokio::sync::watch;

use super::registry::{OPERATORS, Registry};
use crate::etcd::{Members, in_time};

/// The keys of those who came in by a token.
pub type Enrolled = Arc<BTreeSet<OperatorKey>>;

/// How long the member is left alone after it has failed, on a real machine.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the set true, for ever. While this master's own member does not answer, the others are asked again and again; while
/// none answers, the last one stands.
pub async fn follow(members: Arc<Members>, publisher: watch::Sender<Enrolled>) {
    let registry = Registry {
        members: Arc::clone(&members),
    };
    loop {
        if let Err(error) = follow_member(&members, &publisher).await {
            tracing::debug!(%error, "the own member of etcd does not say who is an operator");
        }
        match registry.enrolled().await {
            Ok(now) => publish(&publisher, now),
            Err(error) => tracing::debug!(%error, "etcd does not say who is an operator"),
        }
        tokio::time::sleep(members.scale * PAUSE).await;
    }
}

fn publish(publisher: &watch::Sender<Enrolled>, now: Enrolled) {
    publisher.send_if_modified(|before| {
        let changed = *before != now;
        *before = now;
        changed
    });
}

/// Until the member says no more.
async fn follow_member(
    members: &Members,
    publisher: &watch::Sender<Enrolled>,
) -> Result<(), Error> {
    let patience = members.patience();
    let options = WatchOptions::new().with_prefix();
    // Before the first list, so that no change falls in between.
    let watching = async {
        let mut client = members.own_client().await?;
        let changes = client.watch(OPERATORS, Some(options)).await?;
        Ok((client, changes))
    };
    let (mut client, mut changes) = in_time(patience, watching).await?;
    loop {
        publish(
            publisher,
            Arc::new(in_time(patience, list(&mut client)).await?),
        );
        match changes.message().await? {
            Some(change) if !change.canceled() => {}
            _ => return Ok(()),
        }
    }
}

/// What the member has applied; it needs no majority for that.
async fn list(client: &mut Client) -> Result<BTreeSet<OperatorKey>, Error> {
    let options = GetOptions::new().with_prefix().with_keys_only();
    let answer = client
        .get(OPERATORS, Some(options.with_serializable()))
        .await?;
    let names = answer.kvs().iter().filter_map(|entry| entry.key_str().ok());
    let keys = names.filter_map(|name| name.strip_prefix(OPERATORS)?.parse().ok());
    Ok(keys.collect())
}
