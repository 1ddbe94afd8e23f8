//! Reboot and power-off.

use std::time::Duration;

use masthead_api::power::PowerAnswer;
use masthead_api::{ApiError, ErrorCode, FORMAT};
use tokio::sync::mpsc;

use super::caller::Operator;
use super::node::{Node, PowerAction, PowerCommand};
use super::words::pass_on;

/// Tells the supervisor, and answers when it begins.
pub(super) async fn answer(
    commands: &mpsc::Sender<PowerCommand>,
    node: &dyn Node,
    operator: Operator,
    action: PowerAction,
    patience: Duration,
) -> Result<PowerAnswer, ApiError> {
    let boot_id = node.status().node.boot_id;
    let silent = ApiError::new(
        ErrorCode::Internal,
        "the supervisor does not take the command",
        "Look at `mastctl status` and at the console; try again.",
    );
    pass_on(commands, patience, silent, |reply| PowerCommand {
        action,
        by: operator.key.to_string(),
        reply,
    })
    .await?;
    Ok(PowerAnswer {
        format: FORMAT,
        boot_id,
    })
}
