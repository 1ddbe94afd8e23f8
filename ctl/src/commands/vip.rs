//! `mastctl vip`.

use std::fmt::Write as _;

use masthead_api::vip::{Move, MoveAnswer, MoveRequest};
use masthead_api::{FORMAT, routes};
use serde_json::json;

use super::say;
use super::session::Session;
use crate::Failure;
use crate::cli::VipMove;
use crate::client::unreadable;
use crate::text::harmless;

/// Has the owner of a virtual address hand it over to another master. Any node passes the word on.
pub(super) async fn move_to(session: &Session, arguments: VipMove) -> Result<(), Failure> {
    let what = "move the virtual address";
    let request = MoveRequest {
        format: FORMAT,
        to: arguments.node,
        address: arguments.address,
        plan: arguments.plan,
    };
    let answer = session
        .ask_any(what, routes::VIP_MOVE, Some(&request))
        .await;
    let answer = answer.map_err(Failure::as_the_node_says)?;
    let MoveAnswer { moves, .. } =
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error).stopped())?;
    let mut text = String::new();
    for one in &moves {
        let _ = writeln!(text, "{}", sentence(one, request.plan));
    }
    say(
        session.output(),
        &harmless(&text),
        || json!({ "moves": moves, "done": !request.plan }),
    )
}

fn sentence(one: &Move, plan: bool) -> String {
    let Move {
        address,
        from,
        to,
        took,
    } = one;
    match (from == to, plan, took) {
        (true, ..) => format!("{to} owns {address} already."),
        (false, true, _) => format!(
            "{from} owns {address}, and would hand it over to {to}. Connections to it are reset, and made anew by clients."
        ),
        (false, false, Some(took)) => {
            format!("{from} has handed over: {to} owns {address}, which nobody did for {took} ms.")
        }
        (false, false, None) => format!("{from} has handed over: {to} owns {address}."),
    }
}
