//! The supervisor's side of the conversation with PID 1.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use masthead_machine::Scale;
use tokio::sync::{mpsc, watch};

use crate::link::{Ending, FromPid1, SupervisorLink, Welcome};
use crate::services::{self, AdoptedExits};

/// How often the supervisor says that it lives; PID 1 kills one that is silent for 5 s.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How long PID 1 may take for its first word. It says it before the supervisor even runs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What PID 1 says.
pub(super) struct FromInit {
    /// Its first message.
    pub(super) welcome: Welcome,
    /// Exits of services that an earlier supervisor started; to be acknowledged once recorded.
    pub(super) exits: AdoptedExits,
    /// How the node is to end, once PID 1 wants all services stopped for that.
    pub(super) ending: watch::Receiver<Option<Ending>>,
}

/// Beats for as long as this supervisor lives, and what drives the services, once there are any, goes on: one that is stuck would leave a dead
/// etcd dead.
pub(super) async fn beat(
    link: Arc<SupervisorLink>,
    scale: Scale,
    groups: watch::Receiver<Option<services::Handle>>,
) {
    let mut every = tokio::time::interval(scale * BEAT_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let driver = groups.borrow().clone();
        if let Some(driver) = driver {
            driver.responds().await;
        }
        if let Err(error) = link.beat().await {
            tracing::error!(%error, "PID 1 does not take the beat");
        }
    }
}

/// Takes the welcome, and then listens for as long as this supervisor lives.
pub(super) async fn listen(link: Arc<SupervisorLink>, scale: Scale) -> anyhow::Result<FromInit> {
    let first = tokio::time::timeout(scale * PATIENCE, link.next_message())
        .await
        .context("PID 1 did not say a word")?
        .context("read PID 1's first message")?;
    let FromPid1::Welcome(welcome) = first else {
        bail!("PID 1 began with {first:?} instead of a welcome")
    };
    let (exits_sender, received) = mpsc::unbounded_channel();
    let (ending_sender, ending) = watch::channel(None);
    link.replay()
        .await
        .context("ask PID 1 for exits that nobody acknowledged")?;
    let listening = Arc::clone(&link);
    tokio::spawn(async move {
        loop {
            match listening.next_message().await {
                Ok(FromPid1::Exit(exit)) => {
                    let _ = exits_sender.send(exit);
                }
                Ok(FromPid1::Stop(ending)) => {
                    ending_sender.send_replace(Some(ending));
                }
                Ok(FromPid1::Welcome(_)) => {}
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    tracing::error!(%error, "PID 1 sent a message that means nothing");
                }
                Err(error) => {
                    tracing::error!(%error, "the link to PID 1 is broken");
                    // Deaf, it could neither record exits nor stop in order: PID 1 starts another.
                    std::process::exit(1);
                }
            }
        }
    });
    Ok(FromInit {
        welcome,
        exits: AdoptedExits {
            received,
            link,
            ending: ending.clone(),
        },
        ending,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Instant;

    use super::*;
    use crate::link::{FromSupervisor, Pid1Link, Received};

    fn beats(pid1: &Pid1Link) -> usize {
        std::iter::from_fn(|| match pid1.receive() {
            Ok(Received::Message(FromSupervisor::Beat)) => Some(()),
            _ => None,
        })
        .count()
    }

    #[tokio::test]
    async fn whoever_drives_the_services_must_go_on_for_a_beat() {
        let scale = Scale::new(0.01).unwrap();
        let (pid1, theirs) = crate::link::pair().unwrap();
        let link = Arc::new(SupervisorLink::new(theirs).unwrap());
        let (groups, group) = watch::channel(None);
        let beating = tokio::spawn(beat(Arc::clone(&link), scale, group));
        let wait_for_beats = async |wanted: usize| {
            let give_up = Instant::now() + Duration::from_secs(10);
            let mut seen = 0;
            while seen < wanted && Instant::now() < give_up {
                tokio::time::sleep(scale * BEAT_EVERY).await;
                seen += beats(&pid1);
            }
            assert!(seen >= wanted, "{seen} of {wanted}");
        };
        wait_for_beats(3).await;

        let (_exits, received) = mpsc::unbounded_channel();
        let (_not_yet, ending) = watch::channel(None);
        let exits = AdoptedExits {
            received,
            link,
            ending,
        };
        let records = PathBuf::from("/nowhere");
        let handle = services::spawn(Vec::new(), exits, records, scale).unwrap();
        groups.send_replace(Some(handle));
        wait_for_beats(3).await;

        groups.send_replace(Some(services::Handle::of_one_that_is_stuck()));
        // The last one may be under way.
        tokio::time::sleep(3 * (scale * BEAT_EVERY)).await;
        beats(&pid1);
        tokio::time::sleep(20 * (scale * BEAT_EVERY)).await;
        assert_eq!(beats(&pid1), 0);
        beating.abort();
    }
}
