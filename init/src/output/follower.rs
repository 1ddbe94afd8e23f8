//! The task that follows one service's output. It touches only memory itself; whatever may wait for a
//! disk runs on a blocking thread, one call at a time.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::copier::{Copier, Progress};
use super::segments::Failure;
use super::source::{Changes, Source};
use super::{Cause, Config, State, Trouble};

/// How long writes are gathered after one was noticed: a chatty service costs 20 rounds a second.
const GATHER: Duration = Duration::from_millis(50);

type Round = (Copier, Result<Progress, Failure>);

/// Follows until the task is aborted.
pub(super) async fn follow(config: Arc<Config>, state: watch::Sender<State>) {
    loop {
        let Err(error) = attempt(&config, &state).await;
        let detail = format!("cannot follow `{}`: {error}", config.source.display());
        report(
            &config,
            &state,
            Failure {
                cause: Cause::SourceUnreadable,
                detail,
            },
        );
        tokio::time::sleep(config.bounds.retry).await;
    }
}

async fn attempt(config: &Arc<Config>, state: &watch::Sender<State>) -> io::Result<Infallible> {
    let source = Source::open(&config.source)?;
    let changes = Changes::of(&config.source)?;
    Follower::new(config, Arc::new(source), state)
        .run(changes)
        .await
}

/// Publishes a trouble; one of the same cause keeps its time, and is logged once.
fn report(config: &Config, state: &watch::Sender<State>, Failure { cause, detail }: Failure) {
    state.send_if_modified(|state| {
        let before = state.trouble.take();
        let same = before.as_ref().filter(|trouble| trouble.cause == cause);
        if same.is_none() {
            tracing::warn!(service = config.service, detail, "output is not stored");
        }
        let since = same.map_or_else(SystemTime::now, |trouble| trouble.since);
        state.trouble = Some(Trouble {
            cause,
            detail,
            since,
        });
        state.trouble != before
    });
}

struct Follower<'a> {
    config: &'a Config,
    source: Arc<Source>,
    state: &'a watch::Sender<State>,
    /// The copier, unless a round is under way.
    resting: Option<Copier>,
    /// Something may be there to copy.
    due: bool,
    /// After a failure, the disk is left alone until then.
    retry: Instant,
}

impl<'a> Follower<'a> {
    fn new(config: &'a Arc<Config>, source: Arc<Source>, state: &'a watch::Sender<State>) -> Self {
        let resting = Some(Copier::new(Arc::clone(config), Arc::clone(&source)));
        Self {
            config,
            source,
            state,
            resting,
            due: true,
            retry: Instant::now(),
        }
    }

    async fn run(mut self, changes: Changes) -> io::Result<Infallible> {
        let mut round: Option<JoinHandle<Round>> = None;
        // Changes are not looked at before this instant.
        let mut gathered = Instant::now();
        // When a round that does not come back is called stalled.
        let mut stalled = Instant::now();
        self.look()?;
        loop {
            if self.due
                && self.retry <= Instant::now()
                && let Some(mut copier) = self.resting.take()
            {
                self.due = false;
                stalled = Instant::now() + self.config.bounds.stall;
                round = Some(tokio::task::spawn_blocking(move || {
                    let result = copier.round();
                    (copier, result)
                }));
            }
            let patient = !self.is_stalled();
            tokio::select! {
                finished = async { round.as_mut().expect("checked").await }, if round.is_some() => {
                    round = None;
                    let (copier, result) = finished.map_err(io::Error::other)?;
                    self.resting = Some(copier);
                    self.finish(result);
                    // Meanwhile the service may have outrun what memory may hold.
                    self.look()?;
                }
                () = sleep_until(stalled), if round.is_some() && patient => {
                    let seconds = self.config.bounds.stall.as_secs_f32();
                    let path = self.config.segments.display();
                    let detail = format!("a write below `{path}` has not come back for {seconds} s");
                    report(self.config, self.state, Failure { cause: Cause::DiskStalled, detail });
                    self.look()?;
                }
                () = sleep_until(self.retry), if round.is_none() && self.due => {}
                changed = async { sleep_until(gathered).await; changes.next().await } => {
                    changed?;
                    gathered = Instant::now() + GATHER;
                    self.due = true;
                    self.look()?;
                }
            }
        }
    }

    fn is_stalled(&self) -> bool {
        let state = self.state.borrow();
        state
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.cause == Cause::DiskStalled)
    }

    fn finish(&mut self, result: Result<Progress, Failure>) {
        match result {
            Ok(Progress { stored, lost, more }) => {
                self.due |= more;
                self.state.send_if_modified(|state| {
                    let before = state.clone();
                    if before.trouble.is_some() {
                        tracing::info!(
                            service = self.config.service,
                            lost,
                            "output is stored again"
                        );
                    }
                    *state = State {
                        stored,
                        lost,
                        trouble: None,
                        ..*state
                    };
                    *state != before
                });
            }
            Err(failure) => {
                self.due = true;
                self.retry = Instant::now() + self.config.bounds.retry;
                report(self.config, self.state, failure);
            }
        }
    }

    /// Looks at how much was written, and drops the oldest if memory holds too much of it: more than its
    /// bound while the disk takes nothing, or more than twice of it while the disk is slow.
    fn look(&self) -> io::Result<()> {
        let written = self.source.end()?;
        let (stored, troubled) = {
            let state = self.state.borrow();
            (state.stored, state.trouble.is_some())
        };
        let bound = self.config.bounds.memory;
        let mut dropped = 0;
        if self.source.occupied()? > if troubled { bound } else { 2 * bound } {
            // A quarter more than needed, so that not every line costs a hole.
            let keep = written.saturating_sub(bound - bound / 4);
            let before = self.source.next_data(stored)?;
            self.source.punch(keep)?;
            dropped = self.source.next_data(stored)? - before;
        }
        self.state.send_if_modified(|state| {
            let modified = state.written != written || dropped > 0;
            state.written = written;
            state.lost += dropped;
            modified
        });
        Ok(())
    }
}
