//! The small tasks that report to the driver.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use masthead_lifecycle::{Answer, Exit, Probe, Process, ServiceName};
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::error_chain::with_sources;
use crate::link::ProcessKey;
use crate::process::{End, Launch, Leaf, Running, start};

/// What the tasks report.
#[derive(Debug)]
pub(super) enum Report {
    /// A start ended; with a text for people when it failed.
    Started(ServiceName, Result<Running, String>),
    /// TERM was sent to a process.
    ToldToEnd(ServiceName, ProcessKey),
    /// A process ended; how, if it was a child of ours.
    Ended(ServiceName, ProcessKey, Option<Exit>),
    /// PID 1 had enough time to tell how this process ended.
    ExitOverdue(ProcessKey),
    /// A leaf was seen empty.
    Emptied(ServiceName),
    /// A probe was answered.
    Answered(ServiceName, Process, Probe, Answer),
}

/// Where the tasks report to.
pub(super) type Reports = mpsc::UnboundedSender<Report>;

/// Orders a process watch to send TERM.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) key: ProcessKey,
    terminate: mpsc::UnboundedSender<()>,
}

impl Watched {
    /// Sends TERM. Nothing happens if the process has ended.
    pub(super) fn terminate(&self) {
        let _ = self.terminate.send(());
    }
}

/// Starts a service; reports in any case, for the machine waits for it.
pub(super) fn start_service(name: ServiceName, leaf: Leaf, launch: Launch, reports: Reports) {
    let starting = tokio::spawn(async move { start(&leaf, &launch).await });
    tokio::spawn(async move {
        let result = match starting.await {
            Ok(Ok(running)) => Ok(running),
            Ok(Err(error)) => Err(with_sources(&error)),
            Err(error) => Err(with_sources(&error)),
        };
        let _ = reports.send(Report::Started(name, result));
    });
}

/// Watches a process until it has ended.
pub(super) fn watch_process(name: ServiceName, mut running: Running, reports: Reports) -> Watched {
    let key = running.key();
    let (terminate, mut orders) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let end = loop {
            tokio::select! {
                end = running.exited() => break end,
                Some(()) = orders.recv() => {
                    if let Err(error) = running.signal(Signal::TERM) {
                        tracing::error!(service = %name, pid = key.pid, %error, "cannot send TERM");
                    } else {
                        let _ = reports.send(Report::ToldToEnd(name.clone(), key));
                    }
                }
            }
        };
        let exit = match end {
            Ok(End::Status(status)) => Some(Exit::from_wait_status(status.into_raw())),
            Ok(End::KnownToPid1) => None,
            Err(error) => {
                tracing::error!(service = %name, pid = key.pid, %error, "cannot watch the process");
                Some(Exit::Unknown)
            }
        };
        let _ = reports.send(Report::Ended(name, key, exit));
    });
    Watched { key, terminate }
}

/// How long to wait before a leaf that cannot be watched is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Watches a leaf until it is empty.
pub(super) fn watch_leaf(leaf: Leaf, reports: Reports) {
    tokio::spawn(async move {
        if let Err(error) = leaf.emptied().await {
            // The machine looks again by itself.
            tracing::error!(
                service = leaf.name(),
                error = with_sources(&error),
                "cannot watch"
            );
            // It may be so for long, such as where no more files can be opened.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let _ = reports.send(Report::Emptied(leaf.name().into()));
    });
}
