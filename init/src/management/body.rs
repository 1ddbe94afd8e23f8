//! Bodies of requests and answers.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Request, Response, StatusCode};
use masthead_api::{ApiError, ErrorCode, routes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Sleep;

/// Pieces of a request's body that wait for whoever reads it.
const PIECES: usize = 16;

/// What every answer's body is.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// An answer with a body that is already whole.
pub(super) fn whole(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<AnswerBody> {
    answer(status, content_type, Full::new(body.into()).boxed_unsync())
}

/// An answer whose body comes piece by piece, until the sender is gone, and for `at_most` that long.
pub(super) fn streamed(pieces: mpsc::Receiver<Bytes>, at_most: Duration) -> Response<AnswerBody> {
    let pieces = Pieces {
        pieces,
        end: Box::pin(tokio::time::sleep(at_most)),
    };
    answer(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        pieces.boxed_unsync(),
    )
}

/// A message as an answer.
pub(super) fn json(
    status: StatusCode,
    message: &impl Serialize,
) -> Result<Response<AnswerBody>, ApiError> {
    let body = serde_json::to_vec(message).map_err(|error| {
        ApiError::new(
            ErrorCode::Internal,
            format!("the answer cannot be written as JSON: {error}"),
            "Report it.",
        )
    })?;
    Ok(whole(status, "application/json", body))
}

/// An error as an answer.
pub(super) fn refusal(error: &ApiError) -> Response<AnswerBody> {
    let status =
        StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, error).unwrap_or_else(|_| whole(status, "text/plain", error.message.clone()))
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: AnswerBody,
) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    headers.insert(
        CACHE_CONTROL,
        hyper::header::HeaderValue::from_static("no-store"),
    );
    response
}

/// The message in a request, which must be short and arrive in time.
pub(super) async fn message<T: DeserializeOwned>(
    request: Request<Incoming>,
    patience: Duration,
) -> Result<T, ApiError> {
    let body = Limited::new(request.into_body(), routes::MAX_BODY);
    let bytes = tokio::time::timeout(patience, body.collect())
        .await
        .map_err(|_| {
            ApiError::new(
                ErrorCode::RequestTimeout,
                format!(
                    "the request's body did not arrive within {} s",
                    patience.as_secs()
                ),
                "Check the network and try again.",
            )
        })?
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                ApiError::new(
                    ErrorCode::BodyTooLarge,
                    format!(
                        "the request's body is longer than {} bytes",
                        routes::MAX_BODY
                    ),
                    "Send only what the route takes.",
                )
            } else {
                ApiError::new(
                    ErrorCode::BadRequest,
                    format!("the request's body cannot be read: {error}"),
                    "Check the network and try again.",
                )
            }
        })?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| {
        // Only the place: the parser's own message may quote the body.
        ApiError::new(
            ErrorCode::BadRequest,
            format!(
                "the request's body is not the JSON that this route takes (line {}, column {})",
                error.line(),
                error.column()
            ),
            "Use a mastctl of the node's version, or compare with docs/api.md.",
        )
    })
}

/// A request's body in pieces, each of which must come within `patience`. What comes after the receiver was dropped is read and forgotten, up to
/// `most` bytes in all: a client that is still sending would not read the answer.
pub(super) fn pieces(
    request: Request<Incoming>,
    patience: Duration,
    most: u64,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let mut body = request.into_body();
        let mut left = most;
        loop {
            let piece = match tokio::time::timeout(patience, body.frame()).await {
                Ok(None) => return,
                Ok(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let piece = piece.and_then(|piece| {
                left = left
                    .checked_sub(piece.len() as u64)
                    .ok_or(io::ErrorKind::FileTooLarge)?;
                Ok(piece)
            });
            let is_over = piece.is_err();
            // Nobody may want it any more.
            let _ = sender.send(piece).await;
            if is_over {
                return;
            }
        }
    });
    receiver
}

/// Pieces of a channel as a body.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    end: Pin<Box<Sleep>>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        self.pieces
            .poll_recv(context)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
