//! `mastctl reboot` and `mastctl poweroff`.

pub(super) mod plan;

use std::time::Duration;

use masthead_api::power::{PowerAnswer, PowerRequest};
use masthead_api::{ErrorCode, FORMAT, Status, routes};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};

use super::say;
use super::session::{Session, Target, targets};
use crate::cli::Power;
use crate::client::{Client, unreadable};
use crate::{Exit, Failure};

/// How often a node is asked whether it is back.
const PERIOD: Duration = Duration::from_secs(1);

/// A node is gone when it has not answered so often in a row.
const SILENT_IN_A_ROW: u32 = 3;

/// What is asked of each node.
struct Wish<'a> {
    arguments: &'a Power,
    reboot: bool,
}

/// Tells nodes to go down, one after the other.
pub(super) async fn run(session: &Session, route: &str, arguments: Power) -> Result<(), Failure> {
    let wish = Wish {
        arguments: &arguments,
        reboot: route == routes::REBOOT,
    };
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let unclear = |why: &str, next: &str| Failure::refused(wish.verb(), why, next);
    let named = match (arguments.masters.is_empty(), session.names_no_node()) {
        (true, _) => session.targets(context)?,
        (false, true) => targets(&arguments.masters, context)?,
        (false, false) => {
            return Err(unclear(
                "nodes are named twice",
                "Name them as arguments or with --nodes (-n).",
            ));
        }
    };
    if named.len() > 1 && arguments.masters.is_empty() && session.names_no_node() {
        return Err(unclear(
            "the context has several nodes, and none was named",
            "Name those that you mean.",
        ));
    }
    let mut done = Vec::new();
    let mut answers = Vec::new();
    for (number, target) in named.iter().enumerate() {
        let result = match session.client(context, &target.node) {
            Ok(client) => wish.ask(&client).await,
            Err(failure) => Err(failure),
        };
        let result = match result {
            Ok(answer) if !arguments.plan => {
                // The next one is refused while this one is down.
                let last = number + 1 == named.len();
                let wait = arguments.wait || (wish.reboot && !last);
                let client = session.client(context, &target.node)?;
                let waited = if wait {
                    wish.wait(&client, target, &answer).await
                } else {
                    Ok(())
                };
                waited.map(|()| answer)
            }
            result => result,
        };
        // Some are down already: this is not as if nothing had happened.
        let answer = result.map_err(|failure| {
            if done.is_empty() || arguments.plan {
                failure
            } else {
                failure.stopped()
            }
        })?;
        done.push(&target.name);
        answers.push(answer);
    }
    if arguments.plan {
        return plan::show(session, &answers);
    }
    let names: Vec<_> = done.iter().map(|name| name.as_str()).collect();
    let names = names.join(", ");
    let text = match (wish.reboot, arguments.wait) {
        (true, false) => format!("{names}: rebooting\n"),
        (true, true) => format!("{names}: rebooted\n"),
        (false, false) => format!("{names}: powering off\n"),
        (false, true) => format!("{names}: powered off, no answer any more\n"),
    };
    say(session.output(), &text, || json!({ "nodes": done }))
}

impl Wish<'_> {
    fn verb(&self) -> &'static str {
        if self.reboot { "reboot" } else { "power off" }
    }

    async fn ask(&self, client: &Client) -> Result<PowerAnswer, Failure> {
        let (what, route) = if self.reboot {
            ("ask for a reboot", routes::REBOOT)
        } else {
            ("ask for a power-off", routes::POWEROFF)
        };
        let request = PowerRequest {
            format: FORMAT,
            plan: self.arguments.plan,
            accept_outage: self.arguments.accept_outage,
        };
        let mut connection = client.connect().await?;
        let answer = connection.ask(what, route, Some(&request)).await;
        let answer = answer.map_err(|failure| heard(failure, self.arguments.plan))?;
        serde_json::from_value(answer).map_err(|error| {
            let failure = unreadable(what, &error);
            if self.arguments.plan {
                failure
            } else {
                failure.stopped()
            }
        })
    }

    async fn wait(
        &self,
        client: &Client,
        target: &Target,
        answer: &PowerAnswer,
    ) -> Result<(), Failure> {
        let waiting = async {
            let mut silent = 0;
            loop {
                let next = Instant::now() + PERIOD;
                match client
                    .ask("read the status", routes::STATUS, None::<&()>)
                    .await
                {
                    Ok(status) if self.reboot => {
                        let status = serde_json::from_value::<Status>(status);
                        if status.is_ok_and(|status| is_back(&status, answer)) {
                            return;
                        }
                    }
                    // The port is closed or the machine silent: its network went last. This end's own network may fail, too, for a
                    // moment.
                    Err(failure) if !self.reboot && is_silence(&failure) => {
                        silent += 1;
                        if silent == SILENT_IN_A_ROW {
                            return;
                        }
                    }
                    _ => silent = 0,
                }
                sleep_until(next).await;
            }
        };
        let patience = self.arguments.wait_timeout;
        timeout(patience, waiting).await.map_err(|_| Failure {
            exit: Exit::Stopped,
            what: format!(
                "see {} {}",
                target.name,
                if self.reboot { "come back" } else { "go" }
            ),
            why: format!("it did not within {} s", patience.as_secs()),
            next: "Look at its console; it has begun, so do not ask again.".to_owned(),
            code: "timeout".to_owned(),
        })
    }
}

/// A failure of a node that has heard the word: a refusal, or it may have begun.
pub(super) fn heard(failure: Failure, plan: bool) -> Failure {
    let refused = [ErrorCode::Conflict, ErrorCode::BadRequest];
    let may_have_begun = ["timeout", "connection-lost", "failed"];
    if refused.iter().any(|code| failure.code == code.as_str()) {
        return Failure {
            exit: Exit::Refused,
            ..failure
        };
    }
    let internal = failure.code == ErrorCode::Internal.as_str();
    if !plan && (internal || may_have_begun.contains(&&*failure.code)) {
        return failure.stopped();
    }
    failure
}

/// Whether nobody answers there: not a node that refuses.
fn is_silence(failure: &Failure) -> bool {
    let codes = [
        "timeout",
        "connection-lost",
        "connection-refused",
        "unreachable",
        "failed",
    ];
    codes.contains(&&*failure.code)
}

/// Whether the node has booted since, serves, and has given the disruption lock back: the next master may go.
fn is_back(status: &Status, before: &PowerAnswer) -> bool {
    status.node.boot_id != before.boot_id && status.serves() && !status.holds_disruption_lock()
}
