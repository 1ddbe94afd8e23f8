//! `mastctl logs`.

use std::io::{self, IsTerminal as _};

use http_body_util::BodyExt as _;
use masthead_api::routes;

use super::session::Session;
use super::write;
use crate::Failure;
use crate::cli::Logs;
use crate::text::harmless;

/// Writes a service's output as it comes.
pub(super) async fn run(session: &Session, arguments: Logs) -> Result<(), Failure> {
    let Logs {
        service,
        follow,
        lines,
    } = arguments;
    let what = format!("read the log \"{service}\"");
    if !service
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    {
        return Err(Failure::refused(
            &what,
            "this is no service's name",
            "See `mastctl status`.",
        ));
    }
    if lines > routes::MAX_LOG_LINES {
        return Err(Failure::refused(
            &what,
            format!("{lines} lines were asked for"),
            format!("Ask for at most {}.", routes::MAX_LOG_LINES),
        ));
    }
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let target = session.target(context)?;
    let mut connection = session.client(context, &target.node)?.connect().await?;
    let path = format!("{}{service}?lines={lines}&follow={follow}", routes::LOGS);
    let mut body = connection
        .send(&what, &path, None::<&()>)
        .await?
        .into_body();
    let terminal = io::stdout().is_terminal();
    let mut begun = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let failure = connection.explain(&what, &error);
            if begun { failure.stopped() } else { failure }
        })?;
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        begun = true;
        if terminal {
            // A service's output must not steer the terminal; into a file it goes as it is.
            write(harmless(&String::from_utf8_lossy(bytes)).as_bytes())?;
        } else {
            write(bytes)?;
        }
    }
    if follow {
        return Err(Failure::refused(
            what,
            "the node has ended it, as it does when the certificate expires that asked for it",
            "Log in anew (`mastctl login NODE`), or look whether the node is stopping, and follow it again.",
        )
        .with_code("log-ended")
        .stopped());
    }
    Ok(())
}
