//! The orderly end of a node, as far as the supervisor has a part in it.

use std::time::Duration;

use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_machine::Scale;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::link::Ending;
use crate::management::PowerAction;
use crate::{output, services, vip};

/// How long the last output of the services may take to the disk. Only a disk that does not answer needs
/// more, and the node must end without it.
const TO_STORE: Duration = Duration::from_secs(5);

/// How long it may take to let go of the virtual addresses, on a real machine: etcd answers within milliseconds, or has no leader.
const TO_RELEASE: Duration = Duration::from_secs(3);

/// How long a supervisor that replaces a dead one may take to adopt its services, before it ends the node without.
const TO_ADOPT: Duration = Duration::from_secs(15);

/// Waits until PID 1 wants the node to end, and says how. Nothing when it never can: the link is broken.
pub(super) async fn wanted(ending: &mut watch::Receiver<Option<Ending>>) -> Option<Ending> {
    *ending.wait_for(Option::is_some).await.ok()?
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
pub(super) fn of(action: &PowerAction) -> Ending {
    match action {
        PowerAction::Reboot | PowerAction::Upgrade { .. } | PowerAction::Rollback => Ending::Reboot,
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

/// Ends the boot sequence wherever it is, so that it starts nothing from now on. What it has started
/// goes on. When this returns, no step of it is under way but blocking work, which starts no service.
pub(super) async fn end_boot(booting: JoinHandle<()>) {
    booting.abort();
    // Cancelled, as was asked, or over.
    let _ = booting.await;
}

/// Lets go of the virtual addresses, in an order in which clients notice nothing, and takes none any more.
pub(super) async fn release_addresses(addresses: Option<&vip::Handle>, scale: Scale) {
    let Some(addresses) = addresses else { return };
    if tokio::time::timeout(scale * TO_RELEASE, addresses.drain())
        .await
        .is_err()
    {
        tracing::warn!(
            "etcd did not take in time that the virtual addresses are free; others wait until this node's time is over"
        );
    }
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

    use tokio::sync::mpsc;

    use super::*;
    use crate::link::SupervisorLink;

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
