//! `mastctl etcd`.

use masthead_api::etcd::{LeaderAnswer, LeaderRequest};
use masthead_api::{FORMAT, routes};
use serde_json::json;

use super::say;
use super::session::Session;
use crate::Failure;
use crate::cli::EtcdLeader;
use crate::client::unreadable;
use crate::text::harmless;

/// Has the leader of etcd hand over to another master's member. Any node passes the word on.
pub(super) async fn leader(session: &Session, arguments: EtcdLeader) -> Result<(), Failure> {
    let what = "move etcd's leader";
    let request = LeaderRequest {
        format: FORMAT,
        to: arguments.node,
        plan: arguments.plan,
    };
    let answer = session
        .ask_any(what, routes::ETCD_LEADER, Some(&request))
        .await;
    let answer = answer.map_err(Failure::as_the_node_says)?;
    let LeaderAnswer { from, to, .. } =
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error).stopped())?;
    let text = match (from == to, request.plan) {
        (true, _) => format!("{to} leads etcd already.\n"),
        (false, true) => format!(
            "{from} leads etcd, and would hand over to {to}. No write is lost; writes pause for a moment.\n"
        ),
        (false, false) => format!("{from} has handed over: {to} leads etcd.\n"),
    };
    say(
        session.output(),
        &harmless(&text),
        || json!({ "from": from, "to": to, "done": !request.plan }),
    )
}
