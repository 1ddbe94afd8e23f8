//! `mastctl etcd`.

use masthead_api::etcd::{LeaderAnswer, LeaderRequest};
use masthead_api::{ErrorCode, FORMAT, routes};
use serde_json::json;

use super::say;
use super::session::Session;
use crate::cli::EtcdLeader;
use crate::client::unreadable;
use crate::{Exit, Failure};

/// Codes of failures after which another node is asked. One that did not answer in time may have passed the word on:
/// to hand over twice to the same member is to do it once.
const UNANSWERED: [&str; 3] = ["timeout", "unreachable", "connection-refused"];

/// Has the leader of etcd hand over to another master's member. Any node passes the word on.
pub(super) async fn leader(session: &Session, arguments: EtcdLeader) -> Result<(), Failure> {
    let what = "move etcd's leader";
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let request = LeaderRequest {
        format: FORMAT,
        to: arguments.node,
        plan: arguments.plan,
    };
    let mut targets = session.targets(context)?.into_iter();
    let answer = loop {
        let Some(target) = targets.next() else {
            unreachable!("there is at least one target, and the last one ends the loop")
        };
        let client = session.client(context, &target.node)?;
        match client.ask(what, routes::ETCD_LEADER, Some(&request)).await {
            Err(failure) if UNANSWERED.contains(&&*failure.code) && targets.len() > 0 => {}
            answer => break answer,
        }
    };
    let answer = answer.map_err(|failure| {
        // The node looked at everything first, and did nothing.
        let refused = failure.code == ErrorCode::Conflict.as_str();
        Failure {
            exit: if refused { Exit::Refused } else { failure.exit },
            ..failure
        }
    })?;
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
        &text,
        || json!({ "from": from, "to": to, "done": !request.plan }),
    )
}
