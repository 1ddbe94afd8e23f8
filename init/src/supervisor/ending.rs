//! The orderly end of a node, as far as the supervisor has a part in it.

use std::time::Duration;

use masthead_api::{ApiError, ErrorCode, Reason, ReasonCode, Timestamp};
use masthead_machine::Scale;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::link::{Ending, SupervisorLink};
use crate::management::{PowerAction, PowerCommand};
use crate::{output, services};

/// How long the last output of the services may take to the disk. Only a disk that does not answer needs
/// more, and the node must end without it.
const TO_STORE: Duration = Duration::from_secs(5);

/// How long a supervisor that replaces a dead one may take to adopt its services, before it ends the node without.
const TO_ADOPT: Duration = Duration::from_secs(15);

/// Waits until PID 1 wants the node to end, and says how. Nothing when it never can: the link is broken.
pub(super) async fn wanted(ending: &mut watch::Receiver<Option<Ending>>) -> Option<Ending> {
    *ending.wait_for(Option::is_some).await.ok()?
}

/// Passes an operator's word on to PID 1, and only then tells the operator that it is done.
pub(super) async fn request(link: &SupervisorLink, command: PowerCommand) {
    tracing::warn!(action = ?command.action, by = %command.by, "an operator ends the node");
    let reply = link.request(of(command.action)).await.map_err(|error| {
        ApiError::new(
            ErrorCode::Internal,
            format!("PID 1 does not hear the supervisor: {error}"),
            "try again; if it stays so, cut the power",
        )
    });
    // An operator who has gone wanted it all the same.
    let _ = command.reply.send(reply);
}

/// Waits until the services are under the driver, for as long as that may take.
pub(super) async fn await_services(
    mut groups: watch::Receiver<Option<services::Handle>>,
    scale: Scale,
) {
    let adopted = groups.wait_for(Option::is_some);
    if tokio::time::timeout(scale * TO_ADOPT, adopted)
        .await
        .is_err()
    {
        tracing::error!("the services could not be adopted; PID 1 ends them all at once");
    }
}

/// What an operator's word asks PID 1 for.
fn of(action: PowerAction) -> Ending {
    match action {
        PowerAction::Reboot => Ending::Reboot,
        PowerAction::PowerOff => Ending::PowerOff,
    }
}

/// What the status says from now on.
pub(super) fn reason(asked: Ending) -> Reason {
    Reason::new(ReasonCode::ShuttingDown, Timestamp::now()).with_cause(match asked {
        Ending::Reboot => "The node stops its services and reboots.",
        Ending::PowerOff => "The node stops its services and powers off.",
    })
}

/// Refuses every further word: a node that goes down does so once.
pub(super) async fn refuse(mut power: mpsc::Receiver<PowerCommand>) {
    while let Some(command) = power.recv().await {
        let error = ApiError::new(
            ErrorCode::Conflict,
            "the node is going down already",
            "wait until it is down, or back",
        );
        let _ = command.reply.send(Err(error));
    }
}

/// Ends the boot sequence wherever it is, so that it starts nothing from now on. What it has started
/// goes on. When this returns, no step of it is under way but blocking work, which starts no service.
pub(super) async fn end_boot(booting: JoinHandle<()>) {
    booting.abort();
    // Cancelled, as was asked, or over.
    let _ = booting.await;
}

/// Stops the services in order, if any were started. Each stop has a deadline of its own, and PID 1 has
/// one for all of it.
pub(super) async fn stop_services(groups: watch::Receiver<Option<services::Handle>>) {
    let handle = groups.borrow().clone();
    if let Some(handle) = handle {
        handle.stop_all().await;
    }
}

/// Waits for the last words of the services to be on the disk: they tell whether each ended in order.
pub(super) async fn store_output(outputs: Vec<output::Handle>, scale: Scale) {
    let all_stored = async {
        for output in &outputs {
            output.stored().await;
        }
    };
    if tokio::time::timeout(scale * TO_STORE, all_stored)
        .await
        .is_err()
    {
        tracing::warn!("the disk has not taken all output in time");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A stop that comes while the node still waits for its seed or disks must not be followed by a start.
    #[tokio::test]
    async fn a_boot_that_is_ended_starts_nothing_any_more() {
        let (arrive, mut arrived) = watch::channel(false);
        let (started, was_started) = watch::channel(false);
        let booting = tokio::spawn(async move {
            let _ = arrived.wait_for(|arrived| *arrived).await;
            started.send_replace(true);
        });
        tokio::task::yield_now().await;
        end_boot(booting).await;
        assert!(
            arrive.send(true).is_err(),
            "nobody waits for the disk any more"
        );
        assert!(!*was_started.borrow());
    }

    #[tokio::test]
    async fn services_are_stopped_once_they_are_adopted_or_the_time_for_that_is_up() {
        let scale = Scale::new(0.01).unwrap();
        let (sender, groups) = watch::channel(None);
        let began = Instant::now();
        await_services(groups.clone(), scale).await;
        assert!((scale * TO_ADOPT..TO_ADOPT).contains(&began.elapsed()));

        let (_pid1, theirs) = crate::link::pair().unwrap();
        let (_exits, received) = mpsc::unbounded_channel();
        let link = SupervisorLink::new(theirs).unwrap().into();
        let (_not_yet, ending) = watch::channel(None);
        let exits = services::AdoptedExits {
            received,
            link,
            ending,
        };
        let records = tempfile::tempdir().unwrap();
        let handle = services::spawn(Vec::new(), exits, records.path().into(), scale).unwrap();
        let waiting = tokio::spawn(await_services(groups, Scale::REAL));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "nothing is adopted yet");
        let began = Instant::now();
        sender.send_replace(Some(handle));
        waiting.await.unwrap();
        assert!(began.elapsed() < TO_ADOPT);
    }

    #[tokio::test]
    async fn without_services_there_is_nothing_to_stop() {
        let (_sender, groups) = watch::channel(None);
        stop_services(groups).await;
    }
}
