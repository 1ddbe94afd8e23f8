//! Founding without some of the listed masters.

use std::time::Duration;

use masthead_api::found::{FoundAnswer, FoundRequest};
use masthead_api::{ApiError, ErrorCode, FORMAT};
use tokio::sync::mpsc;

use super::node::FoundCommand;
use super::words::pass_on;

/// Hands the word on, and answers when the founding begins, or says why not.
pub(super) async fn answer(
    commands: &mpsc::Sender<FoundCommand>,
    request: FoundRequest,
    patience: Duration,
) -> Result<FoundAnswer, ApiError> {
    let silent = ApiError::new(
        ErrorCode::NotReady,
        "this node does not know yet what its disks hold",
        "See `mastctl status` for what it waits for; then try again.",
    );
    pass_on(commands, patience, silent, |reply| FoundCommand {
        without: request.without,
        cluster: request.cluster,
        reply,
    })
    .await?;
    Ok(FoundAnswer { format: FORMAT })
}
