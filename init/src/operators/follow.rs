//! Who is in, as this master's own member of etcd knows it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions, WatchOptions};
use masthead_seed::OperatorKey;
use tokio::sync::watch;

use super::registry::OPERATORS;
use crate::etcd::Members;

/// The keys of those who came in by a token.
pub type Enrolled = Arc<BTreeSet<OperatorKey>>;

/// How long the member is left alone after it has failed, on a real machine.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the set true, for ever. While the member does not answer, the last one stands.
pub async fn follow(members: Arc<Members>, publisher: watch::Sender<Enrolled>) {
    loop {
        if let Err(error) = follow_member(&members, &publisher).await {
            tracing::debug!(%error, "etcd does not say who is an operator");
        }
        tokio::time::sleep(members.scale * PAUSE).await;
    }
}

/// Until the member says no more.
async fn follow_member(
    members: &Members,
    publisher: &watch::Sender<Enrolled>,
) -> Result<(), Error> {
    let mut client = members.own_client().await?;
    let options = WatchOptions::new().with_prefix();
    // Before the first list, so that no change falls in between.
    let mut changes = client.watch(OPERATORS, Some(options)).await?;
    loop {
        let now = Arc::new(list(&mut client).await?);
        publisher.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
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
