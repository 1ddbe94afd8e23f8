//! The orderly end of a node, as far as the supervisor has a part in it.

use masthead_api::{ApiError, ErrorCode};
use tokio::sync::{mpsc, watch};

use crate::link::Ending;
use crate::management::{PowerAction, PowerCommand};
use crate::services;

/// What an operator's word asks PID 1 for.
pub(super) fn of(action: PowerAction) -> Ending {
    match action {
        PowerAction::Reboot => Ending::Reboot,
        PowerAction::PowerOff => Ending::PowerOff,
    }
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

/// Stops the services in order, if any were started. Each stop has a deadline of its own, and PID 1 has
/// one for all of it.
pub(super) async fn stop_services(groups: watch::Receiver<Option<services::Handle>>) {
    let handle = groups.borrow().clone();
    if let Some(handle) = handle {
        handle.stop_all().await;
    }
}
