//! Who may log in.

use std::time::Duration;

use masthead_api::operators::{
    MAX_TOKEN_TTL, Operators, RemoveAnswer, RemoveRequest, TokenAnswer, TokenRequest,
};
use masthead_api::{ApiError, ErrorCode, FORMAT};

use super::caller::{Caller, Operator};
use super::node::Node;
use crate::operators::Registered;

/// Everybody, and the tokens that are open.
pub(super) async fn list(caller: &Caller, node: &dyn Node) -> Result<Operators, ApiError> {
    let Registered { operators, tokens } = node.operators().await?;
    let admins = caller.identity.issuers.admins.iter();
    Ok(Operators {
        format: FORMAT,
        seed: admins.map(ToString::to_string).collect(),
        enrolled: operators,
        tokens,
    })
}

/// A token for the next one.
pub(super) async fn make_token(
    caller: &Caller,
    operator: Operator,
    node: &dyn Node,
    request: &TokenRequest,
) -> Result<TokenAnswer, ApiError> {
    if request.ttl == 0 || request.ttl > MAX_TOKEN_TTL {
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            format!("a time to live of {} s was asked for", request.ttl),
            format!("Ask for 1 s to {MAX_TOKEN_TTL} s (24 hours)."),
        ));
    }
    let ttl = Duration::from_secs(request.ttl);
    let admins = &caller.identity.issuers.admins;
    let (token, open) = node.make_token(operator.key, admins, ttl).await?;
    let (id, until) = (&open.id, open.expires_at);
    tracing::warn!(%caller, id, %until, "an operator has made a token");
    Ok(TokenAnswer {
        format: FORMAT,
        token: token.to_text(),
        open,
        fingerprint: caller.identity.fingerprint(),
    })
}

/// Takes somebody out, or a token.
pub(super) async fn remove(
    caller: &Caller,
    operator: Operator,
    node: &dyn Node,
    request: RemoveRequest,
) -> Result<RemoveAnswer, ApiError> {
    let whom = request.whom;
    let tokens = node.remove_operator(&whom).await?;
    tracing::warn!(%caller, operator = %operator.key, whom, ?tokens, "taken out at an operator's word");
    Ok(RemoveAnswer {
        format: FORMAT,
        whom,
        tokens,
    })
}
