//! `mastctl status`.

mod render;

use masthead_api::Timestamp;
use serde_json::json;

use super::say;
use super::session::Session;
use super::statuses::{ask_all, outcome};
use crate::Failure;

/// Asks all nodes at once, and shows all answers.
pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let seen = ask_all(session).await?;
    let text = render::render(
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
        json!({ "nodes": nodes.collect::<Vec<_>>() })
    })?;
    outcome(seen)
}
