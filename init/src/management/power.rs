//! Reboot and power-off.

use std::time::Duration;

use masthead_api::power::{PowerAnswer, PowerRequest};
use masthead_api::{ApiError, ErrorCode};
use tokio::sync::mpsc;

use super::caller::Operator;
use super::node::{PowerAction, PowerCommand};
use super::words::pass_on;

/// Hands the word on, and answers when the node begins, or says why not.
pub(super) async fn answer(
    commands: &mpsc::Sender<PowerCommand>,
    operator: Operator,
    action: PowerAction,
    request: PowerRequest,
    patience: Duration,
) -> Result<PowerAnswer, ApiError> {
    let silent = ApiError::new(
        ErrorCode::Internal,
        "the supervisor has not said what became of it",
        "Look at `mastctl status` and at the console before you try again.",
    );
    pass_on(commands, patience, silent, |reply| PowerCommand {
        action,
        plan: request.plan,
        accept_outage: request.accept_outage,
        by: operator.key.to_string(),
        reply,
    })
    .await
}
