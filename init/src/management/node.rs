//! What the server asks of the rest of the supervisor.

use masthead_api::{ApiError, Status};
use tokio::sync::oneshot;

use crate::output;

/// The node as the management API sees it.
pub trait Node: Send + Sync + 'static {
    /// What the node is and does now.
    fn status(&self) -> Status;

    /// The output of a service, if there is one of that name.
    fn log(&self, service: &str) -> Option<output::Handle>;
}

/// How a node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerAction {
    /// And comes back.
    Reboot,
    /// And stays down.
    PowerOff,
}

/// An operator's word to go down.
#[derive(Debug)]
pub struct PowerCommand {
    /// How.
    pub action: PowerAction,
    /// Who said so, for the log.
    pub by: String,
    /// Takes whether the node begins, or why not (`conflict` when it is stopping already).
    pub reply: oneshot::Sender<Result<(), ApiError>>,
}
