//! Founding without some of the listed masters.

use std::time::Duration;

use masthead_api::found::{FoundAnswer, FoundRequest};
use masthead_api::{ApiError, ErrorCode, FORMAT};
use tokio::sync::{mpsc, oneshot};

use super::node::FoundCommand;

/// Hands the word on, and answers when the founding begins, or says why not.
pub(super) async fn answer(
    commands: &mpsc::Sender<FoundCommand>,
    request: FoundRequest,
    patience: Duration,
) -> Result<FoundAnswer, ApiError> {
    let (reply, begun) = oneshot::channel();
    let command = FoundCommand {
        without: request.without,
        cluster: request.cluster,
        reply,
    };
    let silent = || {
        ApiError::new(
            ErrorCode::NotReady,
            "this node does not know yet what its disks hold",
            "See `mastctl status` for what it waits for; then try again.",
        )
    };
    let told = async {
        commands.send(command).await.map_err(|_| silent())?;
        begun.await.map_err(|_| silent())?
    };
    tokio::time::timeout(patience, told)
        .await
        .map_err(|_| silent())??;
    Ok(FoundAnswer { format: FORMAT })
}
