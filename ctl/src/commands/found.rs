//! `mastctl found`.

use masthead_api::found::{FoundAnswer, FoundRequest};
use masthead_api::{FORMAT, routes};
use serde_json::json;

use super::say;
use super::session::Session;
use crate::Failure;
use crate::cli::Found;
use crate::client::unreadable;

/// Asks a node to found the cluster without some of the listed masters.
pub(super) async fn run(session: &Session, arguments: Found) -> Result<(), Failure> {
    let what = "found the cluster";
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let target = session.target(context)?;
    let client = session.client(context, &target.node)?;
    let request = FoundRequest {
        format: FORMAT,
        without: arguments.without,
        cluster: arguments.cluster,
    };
    let answer = client.ask(what, routes::FOUND, Some(&request)).await;
    let answer = answer.map_err(Failure::as_the_node_says)?;
    let _: FoundAnswer =
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error).stopped())?;
    let without = request.without.join(", ");
    let text = format!(
        "{}: founds {} without {without}\nIts console and `mastctl status` say how it goes on. Log in again when it is done.\n",
        target.name, request.cluster
    );
    say(
        session.output(),
        &text,
        || json!({ "node": target.name, "cluster": request.cluster, "without": request.without }),
    )
}
