//! Handing an operator's word on to the task that carries it out.

use std::time::Duration;

use masthead_api::ApiError;
use tokio::sync::{mpsc, oneshot};

/// Where the one who carries a word out says what becomes of it.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ApiError>>;

/// Hands on the word that `word` makes of the place for its reply, and awaits that: `silent` when there is none in time.
pub(super) async fn pass_on<W, T>(
    words: &mpsc::Sender<W>,
    patience: Duration,
    silent: ApiError,
    word: impl FnOnce(Reply<T>) -> W,
) -> Result<T, ApiError> {
    let (reply, told) = oneshot::channel();
    let told = async {
        words.send(word(reply)).await.ok()?;
        told.await.ok()
    };
    let told = tokio::time::timeout(patience, told).await;
    told.ok().flatten().unwrap_or(Err(silent))
}
