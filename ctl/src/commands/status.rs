//! `mastctl status`.

mod render;

use masthead_api::{Status, Timestamp, routes};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::say;
use super::session::Session;
use crate::client::unreadable;
use crate::{Exit, Failure};

/// What a node answered, or why it did not.
struct Seen {
    name: String,
    answer: Result<(Value, Box<Status>), Failure>,
}

/// Asks all nodes at once, and shows all answers.
pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let what = "read the status";
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let mut asking = JoinSet::new();
    for target in session.targets(context)? {
        let client = session.client(context, &target.node)?;
        asking.spawn(async move {
            let answer = client
                .ask(what, routes::STATUS, None::<&()>)
                .await
                .and_then(|answer| {
                    let status = serde_json::from_value(answer.clone())
                        .map_err(|error| unreadable(what, &error))?;
                    Ok((answer, Box::new(status)))
                });
            Seen {
                name: target.name,
                answer,
            }
        });
    }
    let mut seen = asking.join_all().await;
    seen.sort_by(|one, other| one.name.cmp(&other.name));

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
        let nodes = seen.iter().map(|seen| match &seen.answer {
            Ok((answer, _)) => json!({ "node": seen.name, "status": answer }),
            Err(failure) => json!({ "node": seen.name, "error": failure.json() }),
        });
        json!({ "nodes": nodes.collect::<Vec<_>>() })
    })?;

    let mut failures: Vec<_> = seen
        .into_iter()
        .filter_map(|seen| seen.answer.err())
        .collect();
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        number => Err(Failure {
            exit: Exit::Failed,
            what: what.to_owned(),
            why: format!("{number} nodes did not answer as they should"),
            next: "See above for each.".to_owned(),
            code: "failed".to_owned(),
        }),
    }
}
