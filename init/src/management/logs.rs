//! Output of services as an answer.

use bytes::Bytes;
use masthead_api::{ApiError, ErrorCode, routes};
use tokio::sync::mpsc;

use super::node::LogRequest;
use crate::output;

/// Pieces of output that wait for a slow client. What is behind stays where it is, on tmpfs or disk.
const PIECES: usize = 4;

impl LogRequest {
    /// Reads `lines=N&follow=BOOL`.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut wanted = Self {
            lines: routes::DEFAULT_LOG_LINES,
            follow: false,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            let known = match name {
                "lines" => value.parse().is_ok_and(|lines| {
                    wanted.lines = lines;
                    lines <= routes::MAX_LOG_LINES
                }),
                "follow" => value.parse().map(|follow| wanted.follow = follow).is_ok(),
                _ => true,
            };
            if !known {
                return Err(ApiError::new(
                    ErrorCode::BadRequest,
                    format!("the query's `{name}` is not what it can be"),
                    format!(
                        "`lines` is 0 to {}, `follow` is true or false.",
                        routes::MAX_LOG_LINES
                    ),
                ));
            }
        }
        Ok(wanted)
    }
}

/// The last lines of a service's output, and then what follows if that was asked for, until the receiver is dropped.
pub fn stream(log: output::Handle, wanted: LogRequest) -> mpsc::Receiver<Bytes> {
    let (pieces, receiver) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        tokio::select! {
            () = forward(log, wanted, &pieces) => {}
            // The client is gone: nothing else would tell before the service writes again.
            () = pieces.closed() => {}
        }
    });
    receiver
}

async fn forward(log: output::Handle, wanted: LogRequest, pieces: &mpsc::Sender<Bytes>) {
    if !wanted.follow {
        for line in log.tail(wanted.lines).await {
            if pieces.send((line + "\n").into()).await.is_err() {
                return;
            }
        }
        return;
    }
    let mut follow = log.follow(output::From::Last(wanted.lines));
    while let Some(piece) = follow.next().await {
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_its_bounds_are_kept() {
        let wanted = |query: &str| LogRequest::parse(query).map_err(|error| error.code);
        assert_eq!(
            wanted(""),
            Ok(LogRequest {
                lines: 100,
                follow: false
            })
        );
        assert_eq!(
            wanted("follow&lines=5"),
            Ok(LogRequest {
                lines: 5,
                follow: true
            })
        );
        assert_eq!(
            wanted("follow=false&later=x"),
            Ok(LogRequest {
                lines: 100,
                follow: false
            })
        );
        assert_eq!(
            wanted("lines=10000"),
            Ok(LogRequest {
                lines: 10_000,
                follow: false
            })
        );
        for query in [
            "lines=10001",
            "lines=-1",
            "lines=x",
            "lines",
            "follow=maybe",
        ] {
            assert_eq!(wanted(query), Err(ErrorCode::BadRequest), "{query}");
        }
    }
}
