//! `mastctl unlock`.

use masthead_api::disruption::{UnlockAnswer, UnlockRequest};
use masthead_api::{FORMAT, routes};
use serde_json::json;

use super::say;
use super::session::Session;
use crate::Failure;
use crate::client::unreadable;
use crate::text::harmless;

/// Takes the disruption lock away from a master. Any node passes the word on.
pub(super) async fn run(
    session: &Session,
    holder: String,
    id: Option<String>,
) -> Result<(), Failure> {
    let what = "take the disruption lock away";
    let request = UnlockRequest {
        format: FORMAT,
        holder,
        id,
    };
    let answer = session.ask_any(what, routes::UNLOCK, Some(&request)).await;
    let answer = answer.map_err(Failure::as_the_node_says)?;
    let UnlockAnswer { held, .. } =
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error).stopped())?;
    let text = format!(
        "{} held the disruption lock since {}; it is free now.\n",
        held.holder, held.since
    );
    say(
        session.output(),
        &harmless(&text),
        || json!({ "held": held }),
    )
}
