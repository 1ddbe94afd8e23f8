//! Output of services as an answer.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use masthead_api::{ApiError, ErrorCode, routes};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::body::{AnswerBody, streamed, whole};
use super::caller::Operator;
use crate::output;

/// Pieces of output that wait for a slow client. What is behind stays where it is, on tmpfs or disk.
const PIECES: usize = 4;

/// What the query asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) lines: usize,
    pub(super) follow: bool,
}

impl Wanted {
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

/// The last lines, and then what follows until the client goes or its certificate expires.
pub(super) async fn answer(
    log: output::Handle,
    wanted: &Wanted,
    operator: Operator,
) -> Response<AnswerBody> {
    if !wanted.follow {
        let lines = log.tail(wanted.lines).await;
        let text = lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        });
        return whole(StatusCode::OK, "text/plain; charset=utf-8", text);
    }
    let left = operator.expires_at - OffsetDateTime::now_utc();
    let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
    let (pieces, body) = mpsc::channel(PIECES);
    let lines = wanted.lines;
    tokio::spawn(async move {
        tokio::select! {
            () = forward(log.follow(output::From::Last(lines)), &pieces) => {}
            // The client is gone: nothing would tell before the service writes again.
            () = pieces.closed() => {}
            () = tokio::time::sleep(left) => {}
        }
    });
    streamed(body)
}

async fn forward(mut follow: output::Follow, pieces: &mpsc::Sender<Bytes>) {
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
        let wanted = |query: &str| Wanted::parse(query).map_err(|error| error.code);
        assert_eq!(
            wanted(""),
            Ok(Wanted {
                lines: 100,
                follow: false
            })
        );
        assert_eq!(
            wanted("follow&lines=5"),
            Ok(Wanted {
                lines: 5,
                follow: true
            })
        );
        assert_eq!(
            wanted("follow=false&later=x"),
            Ok(Wanted {
                lines: 100,
                follow: false
            })
        );
        assert_eq!(
            wanted("lines=10000"),
            Ok(Wanted {
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
