//! `mastctl etcd`.

use masthead_api::etcd::{LeaderAnswer, LeaderRequest};
use masthead_api::{ErrorCode, FORMAT, routes};
use serde::Serialize;
use serde_json::{Value, json};

use super::say;
use super::session::Session;
use crate::cli::EtcdLeader;
use crate::client::unreadable;
use crate::{Exit, Failure};

/// Codes of failures after which another node is asked. One that did not answer in time may have passed the word on:
/// what is asked here may be done twice.
const UNANSWERED: [&str; 3] = ["timeout", "unreachable", "connection-refused"];

/// Has the leader of etcd hand over to another master's member. Any node passes the word on.
pub(super) async fn leader(session: &Session, arguments: EtcdLeader) -> Result<(), Failure> {
    let what = "move etcd's leader";
    let request = LeaderRequest {
        format: FORMAT,
        to: arguments.node,
        plan: arguments.plan,
    };
    let answer = ask_any(session, what, routes::ETCD_LEADER, &request).await;
    let answer = answer.map_err(refusal)?;
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

/// The answer of the first node that hears the word.
pub(super) async fn ask_any<M: Serialize + Sync>(
    session: &Session,
    what: &str,
    route: &str,
    request: &M,
) -> Result<Value, Failure> {
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let mut targets = session.targets(context)?.into_iter();
    loop {
        let Some(target) = targets.next() else {
            unreachable!("there is at least one target, and the last one ends the loop")
        };
        let client = session.client(context, &target.node)?;
        match client.ask(what, route, Some(request)).await {
            Err(failure) if UNANSWERED.contains(&&*failure.code) && targets.len() > 0 => {}
            answer => return answer,
        }
    }
}

/// A failure as a refusal where the node says so: it looked at everything first, and did nothing.
pub(super) fn refusal(failure: Failure) -> Failure {
    let refused = failure.code == ErrorCode::Conflict.as_str();
    Failure {
        exit: if refused { Exit::Refused } else { failure.exit },
        ..failure
    }
}
