//! `mastctl why`.

use std::fmt::Write as _;

use masthead_api::{Status, Timestamp, routes};
use serde_json::json;

use super::say;
use super::session::{Session, named};
use crate::Failure;
use crate::client::unreadable;
use crate::duration;
use crate::text::harmless;

/// Shows every reason of one node.
pub(super) async fn run(session: &Session, name: &str) -> Result<(), Failure> {
    let what = "read the status";
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let node = named(name, context)?;
    let client = session.client(context, &node)?;
    let answer = client.ask(what, routes::STATUS, None::<&()>).await?;
    let status: Status =
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error))?;
    say(
        session.output(),
        &render(name, &status, Timestamp::now()),
        || {
            let reasons: Vec<_> = status
                .reasons()
                .iter()
                .map(|why| json!({ "part": why.part, "waits": why.waits, "reason": why.reason }))
                .collect();
            json!({ "node": name, "reasons": reasons })
        },
    )
}

fn render(name: &str, status: &Status, now: Timestamp) -> String {
    let reasons = status.reasons();
    if reasons.is_empty() {
        return format!("{name} waits for nothing, and nothing is wrong.\n");
    }
    let mut text = String::new();
    for why in reasons {
        let reason = why.reason;
        let verb = if why.waits { "waits" } else { "is degraded" };
        let since = duration::format(reason.since.seconds_until(now));
        let part = match why.part {
            "node" => name.to_owned(),
            part => format!("{name} {part}"),
        };
        let head = format!(
            "{part} {verb}: {} since {} ({since})",
            reason.code, reason.since
        );
        let _ = writeln!(text, "{}", harmless(&head).replace('\n', " "));
        for line in harmless(&reason.cause).lines() {
            let _ = writeln!(text, "  {line}");
        }
        for line in harmless(&reason.remedy).lines() {
            let _ = writeln!(text, "  next: {line}");
        }
    }
    text
}
