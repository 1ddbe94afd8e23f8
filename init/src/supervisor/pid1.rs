//! The supervisor's side of the conversation with PID 1.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use masthead_machine::Scale;
use tokio::sync::{mpsc, watch};

use crate::link::{Ending, FromPid1, SupervisorLink, Welcome};
use crate::services::AdoptedExits;

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

/// Takes the welcome, then beats and listens for as long as this supervisor lives.
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
    let beating = Arc::clone(&link);
    tokio::spawn(async move {
        let mut every = tokio::time::interval(scale * BEAT_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if let Err(error) = beating.beat().await {
                tracing::error!(%error, "PID 1 does not take the beat");
            }
        }
    });
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
