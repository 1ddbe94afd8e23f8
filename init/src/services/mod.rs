//! Runs the services of a node: the driver of the life-cycle machine, and its effects.
//!
//! One task owns the [`Group`](masthead_lifecycle::Group). It feeds it with what smaller tasks
//! report, and carries its actions out with the functions of [`process`](crate::process):
//!
//! | task | lives as long as | reports |
//! |---|---|---|
//! | driver | the supervisor | stories, on a `watch` channel |
//! | start | one start | the process, or why there is none |
//! | process watch | one process | its end; takes the order to send TERM |
//! | leaf watch | a leaf is populated | that it is empty |
//! | question | one probe | the answer |
//!
//! The driver decides nothing: what is done, when and in which order is in `masthead-lifecycle`.

mod clock;
mod driver;
mod probe;
mod record;
mod status;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use masthead_control_plane::Request;
use masthead_lifecycle::{Event, Group, GroupError, Policy, ServiceName, Story};
use masthead_machine::Scale;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::link::{Ending, Exit, SupervisorLink};
use crate::process::{Launch, Leaf};

pub use clock::{boot_time, wall_time};
pub(crate) use probe::Target;
pub use status::status;

/// One service to run.
#[derive(Debug)]
pub struct Managed {
    /// Its name.
    pub name: ServiceName,
    /// Its control group.
    pub leaf: Leaf,
    /// What is started in it.
    pub launch: Launch,
    /// Order, probes, back-off and graces of a real machine; the driver scales them.
    pub policy: Policy,
    /// What to ask for [`Policy::readiness`].
    pub readiness: Option<Request>,
    /// What to ask for [`Policy::liveness`].
    pub liveness: Option<Request>,
}

/// What PID 1 tells a supervisor that takes over from an earlier one.
#[derive(Debug)]
pub struct AdoptedExits {
    /// The exits of processes that the earlier one started.
    pub received: mpsc::UnboundedReceiver<Exit>,
    /// Where each is acknowledged once it is recorded.
    pub link: Arc<SupervisorLink>,
    /// How the node is to end, once it is to: what the earlier one has stopped for that is not started again.
    pub ending: tokio::sync::watch::Receiver<Option<Ending>>,
}

/// The services of a node, while they are run. Cheap to clone; the driver outlives its handles.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    stories: tokio::sync::watch::Receiver<Vec<Story>>,
}

/// No service has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no service `{0}` on this node; `mastctl status` lists them")]
pub struct UnknownService(String);

/// What the driver is asked for.
#[derive(Debug)]
enum Command {
    StopAll(oneshot::Sender<()>),
    One(ServiceName, Event),
    Launch(ServiceName, Launch),
    Respond(oneshot::Sender<()>),
}

/// Starts the driver on the current runtime: it adopts what runs, and starts what does not; or stops all, if the
/// node is to end by then.
///
/// `records` is a directory on a tmpfs, made if need be, in which the driver keeps what its
/// successor must know: `/run/masthead/services`. Fails when the services do not fit together.
pub fn spawn(
    services: Vec<Managed>,
    exits: AdoptedExits,
    records: PathBuf,
    scale: Scale,
) -> Result<Handle, GroupError> {
    let policies: Vec<(ServiceName, Policy)> = services
        .iter()
        .map(|service| (service.name.clone(), service.policy.clone().scaled(scale)))
        .collect();
    let group = Group::new(policies, clock::jitter_seed())?;
    let (commands, received) = mpsc::unbounded_channel();
    let (publisher, stories) = tokio::sync::watch::channel(group.stories());
    let driver = driver::Driver::new(group, services, records, scale, publisher);
    tokio::spawn(driver.run(received, exits));
    Ok(Handle { commands, stories })
}

impl Handle {
    /// What there is to tell about each service, in the order in which they were given.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Vec<Story>> {
        self.stories.clone()
    }

    /// Returns when the driver has done what it had to do when this was called: at once, unless it is stuck.
    pub async fn responds(&self) {
        let (reply, responded) = oneshot::channel();
        if self.commands.send(Command::Respond(reply)).is_ok() {
            // A driver that is gone keeps nobody waiting.
            let _ = responded.await;
        }
    }

    /// Of a driver that takes no command any more, for tests.
    #[cfg(test)]
    pub(crate) fn of_one_that_is_stuck() -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let (_, stories) = tokio::sync::watch::channel(Vec::new());
        // It is still there.
        std::mem::forget(received);
        Self { commands, stories }
    }

    /// Stops all services, each before those that it needs, and returns when they are stopped or
    /// given up. The policies' graces bound the time that it takes. Nothing is started afterwards.
    pub async fn stop_all(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.commands.send(Command::StopAll(reply)).is_ok() {
            // Without a driver there is nobody left who could stop more.
            let _ = stopped.await;
        }
    }

    /// Stops a service and starts it again at once; the others are left alone.
    pub fn restart(&self, name: &str) -> Result<(), UnknownService> {
        let name = self.known(name)?;
        self.send(Command::One(name, Event::RestartRequested));
        Ok(())
    }

    /// Says what the next starts of a service execute. What runs is left alone.
    pub fn relaunch_as(&self, name: &str, launch: Launch) -> Result<(), UnknownService> {
        let name = self.known(name)?;
        self.send(Command::Launch(name, launch));
        Ok(())
    }

    fn known(&self, name: &str) -> Result<ServiceName, UnknownService> {
        let stories = self.stories.borrow();
        let mut names = stories.iter().map(|story| &story.name);
        let known = names.find(|known| known.as_str() == name).cloned();
        known.ok_or_else(|| UnknownService(name.to_owned()))
    }

    fn send(&self, command: Command) {
        // Without a driver the node is about to end.
        let _ = self.commands.send(command);
    }
}
