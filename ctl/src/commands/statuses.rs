//! The statuses of all nodes that were asked for.

use masthead_api::{Status, routes};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::session::Session;
use crate::client::unreadable;
use crate::{Exit, Failure};

/// What is done, in messages.
const WHAT: &str = "read the status";

/// What a node answered, or why it did not.
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) answer: Result<(Value, Box<Status>), Failure>,
}

impl Seen {
    /// What a program is told of the node: `{"node", WHAT: ...}`, or `{"node", "error"}`.
    pub(super) fn json(&self, what: &str, show: impl FnOnce(&Value, &Status) -> Value) -> Value {
        match &self.answer {
            Ok((answer, status)) => json!({ "node": self.name, what: show(answer, status) }),
            Err(failure) => json!({ "node": self.name, "error": failure.json() }),
        }
    }
}

/// Asks all nodes at once. Sorted by name.
pub(super) async fn ask_all(session: &Session) -> Result<Vec<Seen>, Failure> {
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let mut asking = JoinSet::new();
    for target in session.targets(context)? {
        let client = session.client(context, &target.node)?;
        asking.spawn(async move {
            let answer = client
                .ask(WHAT, routes::STATUS, None::<&()>)
                .await
                .and_then(|answer| {
                    let status = serde_json::from_value(answer.clone())
                        .map_err(|error| unreadable(WHAT, &error))?;
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
    Ok(seen)
}

/// The failure of the command, after the answers there are were shown: that of the node, or that there are several.
pub(super) fn outcome(seen: Vec<Seen>) -> Result<(), Failure> {
    let mut failures: Vec<_> = seen
        .into_iter()
        .filter_map(|seen| seen.answer.err())
        .collect();
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        number => Err(Failure {
            exit: Exit::Failed,
            what: WHAT.to_owned(),
            why: format!("{number} nodes did not answer as they should"),
            next: "See above for each.".to_owned(),
            code: "failed".to_owned(),
        }),
    }
}
