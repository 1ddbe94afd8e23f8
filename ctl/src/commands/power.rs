//! `mastctl reboot` and `mastctl poweroff`.

use std::time::Duration;

use masthead_api::power::{PowerAnswer, PowerRequest};
use masthead_api::status::ServiceState;
use masthead_api::{FORMAT, Status, routes};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};

use super::say;
use super::session::{Session, Target};
use crate::cli::Power;
use crate::client::{Client, unreadable};
use crate::{Exit, Failure};

/// How often a node is asked whether it is back.
const PERIOD: Duration = Duration::from_secs(1);

/// Tells nodes to go down, one after the other.
pub(super) async fn run(session: &Session, route: &str, arguments: Power) -> Result<(), Failure> {
    let reboot = route == routes::REBOOT;
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let targets = session.targets(context)?;
    if targets.len() > 1 && session.names_no_node() {
        return Err(Failure::refused(
            if reboot { "reboot" } else { "power off" },
            "the context has several nodes, and none was named",
            "Name those that you mean with --nodes (-n).",
        ));
    }
    let mut done = Vec::new();
    for target in &targets {
        let result = match session.client(context, &target.node) {
            Ok(client) => one(&client, target, route, &arguments).await,
            Err(failure) => Err(failure),
        };
        // Some are down already: this is not as if nothing had happened.
        result.map_err(|failure| {
            if done.is_empty() {
                failure
            } else {
                failure.stopped()
            }
        })?;
        done.push(&target.name);
    }
    let names: Vec<_> = done.iter().map(|name| name.as_str()).collect();
    let names = names.join(", ");
    let text = match (reboot, arguments.wait) {
        (true, false) => format!("{names}: rebooting\n"),
        (true, true) => format!("{names}: rebooted\n"),
        (false, false) => format!("{names}: powering off\n"),
        (false, true) => format!("{names}: powered off\n"),
    };
    say(session.output(), &text, || json!({ "nodes": done }))
}

async fn one(
    client: &Client,
    target: &Target,
    route: &str,
    arguments: &Power,
) -> Result<(), Failure> {
    let reboot = route == routes::REBOOT;
    let what = if reboot {
        "ask for a reboot"
    } else {
        "ask for a power-off"
    };
    let answer = client
        .ask(what, route, Some(&PowerRequest { format: FORMAT }))
        .await?;
    let answer: PowerAnswer =
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error).stopped())?;
    if !arguments.wait {
        return Ok(());
    }
    let waiting = async {
        loop {
            let next = Instant::now() + PERIOD;
            match client
                .ask("read the status", routes::STATUS, None::<&()>)
                .await
            {
                Ok(status) if reboot => {
                    let status = serde_json::from_value::<Status>(status);
                    if status.is_ok_and(|status| is_back(&status, &answer)) {
                        return;
                    }
                }
                // The port is closed or the machine silent: its network went last.
                Err(_) if !reboot => return,
                _ => {}
            }
            sleep_until(next).await;
        }
    };
    timeout(arguments.wait_timeout, waiting)
        .await
        .map_err(|_| Failure {
            exit: Exit::Stopped,
            what: format!(
                "see {} {}",
                target.name,
                if reboot { "come back" } else { "go" }
            ),
            why: format!("it did not within {} s", arguments.wait_timeout.as_secs()),
            next: "Look at its console; it has begun, so do not ask again.".to_owned(),
            code: "timeout".to_owned(),
        })
}

/// Whether the node has booted since, runs its services and waits for nothing: the next master may go.
fn is_back(status: &Status, before: &PowerAnswer) -> bool {
    let mut services = status.services.iter();
    status.node.boot_id != before.boot_id
        && status.waiting.is_empty()
        && !status.services.is_empty()
        && services.all(|service| service.state == ServiceState::Ready)
}
