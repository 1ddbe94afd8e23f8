//! `mastctl status`.

mod cluster;
mod render;

use std::collections::BTreeMap;

use masthead_api::cluster::{ClusterStatus, NodeAnswer};
use masthead_api::{Status, Timestamp, routes};
use serde_json::json;

use self::cluster::Cluster;
use super::say;
use super::session::{Session, named};
use super::statuses::{Seen, ask_all, outcome};
use crate::Failure;
use crate::client::unreadable;

/// Asks all nodes at once, and shows all answers. Masters of the cluster that were not among them are asked for through one
/// that answers.
pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let seen = ask_all(session).await?;
    let statuses = of_all_masters(session, &seen).await?;
    let cluster = Cluster::of(&statuses);
    let mut text = cluster
        .as_ref()
        .map_or_else(String::new, |cluster| cluster.render() + "\n");
    text += &render::render(
        seen.iter().map(|seen| {
            (
                &*seen.name,
                seen.answer.as_ref().map(|(_, status)| &**status),
            )
        }),
        Timestamp::now(),
    );
    say(session.output(), &text, || {
        // As the node sent it: with what this release does not know.
        let nodes = seen
            .iter()
            .map(|seen| seen.json("status", |answer, _| answer.clone()));
        let availability = cluster.as_ref().map(|cluster| &cluster.availability);
        json!({ "nodes": nodes.collect::<Vec<_>>(), "availability": availability })
    })?;
    outcome(seen)
}

/// The statuses of all masters, by the names that they have in their seed: those seen, and the others by the word of one
/// that was.
async fn of_all_masters(
    session: &Session,
    seen: &[Seen],
) -> Result<BTreeMap<String, Status>, Failure> {
    let answers = seen.iter().filter_map(|seen| {
        let (_, status) = seen.answer.as_ref().ok()?;
        Some((seen, status))
    });
    let mut statuses: BTreeMap<String, Status> = answers
        .clone()
        .map(|(_, status)| (status.node.name.clone(), (**status).clone()))
        .collect();
    let is_missing = |status: &Status| {
        let peers = status
            .formation
            .iter()
            .flat_map(|formation| &formation.peers);
        peers
            .into_iter()
            .any(|peer| !statuses.contains_key(&peer.name))
    };
    let Some((witness, _)) = answers.clone().find(|(_, status)| is_missing(status)) else {
        return Ok(statuses);
    };
    // What it does not say is shown as silent.
    if let Ok(cluster) = ask_cluster(session, &witness.name).await {
        for (name, answer) in cluster.nodes {
            if let NodeAnswer::Status(status) = answer {
                statuses.entry(name).or_insert(*status);
            }
        }
    }
    Ok(statuses)
}

async fn ask_cluster(session: &Session, name: &str) -> Result<ClusterStatus, Failure> {
    let what = "read the cluster's status";
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let client = session.client(context, &named(name, context)?)?;
    let answer = client.ask(what, routes::CLUSTER, None::<&()>).await?;
    serde_json::from_value(answer).map_err(|error| unreadable(what, &error))
}
