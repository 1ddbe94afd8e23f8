//! `mastctl token` and `mastctl operators`. Any node passes the words on.

use masthead_api::operators::{
    EnrolledOperator, MAX_TOKEN_TTL, OpenToken, Operators, RemoveAnswer, RemoveRequest,
    TokenAnswer, TokenRequest,
};
use masthead_api::{FORMAT, Timestamp, routes};
use serde_json::json;

use super::say;
use super::session::Session;
use crate::Failure;
use crate::cli::Token;
use crate::client::unreadable;
use crate::duration;
use crate::table::Table;
use crate::text::{cell, harmless};

/// Makes a token, and says how it is used.
pub(super) async fn token(session: &Session, arguments: Token) -> Result<(), Failure> {
    let what = "make a token";
    let ttl = arguments.ttl.as_secs();
    if ttl == 0 || ttl > MAX_TOKEN_TTL {
        return Err(Failure::refused(
            what,
            format!("a token of {ttl} s was asked for"),
            "Ask for --ttl 1s to --ttl 24h.",
        ));
    }
    let request = TokenRequest {
        format: FORMAT,
        ttl,
    };
    let answer = session.ask_any(what, routes::OPERATORS_TOKEN, Some(&request));
    let answer: TokenAnswer =
        serde_json::from_value(answer.await.map_err(Failure::as_the_node_says)?)
            .map_err(|error| unreadable(what, &error).stopped())?;
    let (token, fingerprint) = (&answer.token, answer.fingerprint);
    let OpenToken { id, expires_at, .. } = &answer.open;
    let text = format!(
        "{token}\n\nWhoever uses it first is an operator of the cluster from then on. It is good once, until {expires_at}:\n\
         \x20 mastctl keygen\n\
         \x20 mastctl login NODE --fingerprint {fingerprint} --token -     # asks for the token\n\
         Take it back with `mastctl operators remove {id}`.\n"
    );
    say(
        session.output(),
        &harmless(&text),
        || json!({ "token": token, "id": id, "expires_at": expires_at, "fingerprint": fingerprint }),
    )
}

/// Lists who may log in.
pub(super) async fn list(session: &Session) -> Result<(), Failure> {
    let what = "list the operators";
    let answer = session.ask_any::<()>(what, routes::OPERATORS, None).await?;
    let operators: Operators =
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error))?;
    say(
        session.output(),
        &render(&operators, Timestamp::now()),
        || json!({ "seed": operators.seed, "enrolled": operators.enrolled, "tokens": operators.tokens }),
    )
}

/// Takes out an operator, or a token.
pub(super) async fn remove(session: &Session, whom: String) -> Result<(), Failure> {
    let what = "take out an operator";
    let request = RemoveRequest {
        format: FORMAT,
        whom,
    };
    let answer = session.ask_any(what, routes::OPERATORS_REMOVE, Some(&request));
    let answer = answer.await.map_err(Failure::as_the_node_says)?;
    let RemoveAnswer { whom, tokens, .. } =
        serde_json::from_value(answer).map_err(|error| unreadable(what, &error).stopped())?;
    let along = match tokens.iter().filter(|id| **id != whom).count() {
        0 => String::new(),
        _ => format!(", and the tokens {}", tokens.join(", ")),
    };
    let text = format!("{whom} is taken out{along}. A kubeconfig is good until it expires.\n");
    say(
        session.output(),
        &harmless(&text),
        || json!({ "removed": whom, "tokens": tokens }),
    )
}

fn render(operators: &Operators, now: Timestamp) -> String {
    let mut table = Table::new(&["OPERATOR", "SINCE", "BY", "TOKEN"]);
    for key in &operators.seed {
        table.row(vec![cell(key), "-".to_owned(), "the seed".to_owned()]);
    }
    for EnrolledOperator {
        key,
        by,
        token,
        since,
        ..
    } in &operators.enrolled
    {
        table.row(vec![cell(key), since.to_string(), cell(by), cell(token)]);
    }
    let mut text = table.to_string();
    if !operators.tokens.is_empty() {
        let mut table = Table::new(&["OPEN TOKEN", "EXPIRES IN", "BY"]);
        for OpenToken { id, by, expires_at } in &operators.tokens {
            let left = duration::format(now.seconds_until(*expires_at));
            table.row(vec![cell(id), left, cell(by)]);
        }
        text.push('\n');
        text.push_str(&table.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_with_where_they_came_from() {
        let operators = Operators {
            format: FORMAT,
            seed: vec!["mk1-a".to_owned()],
            enrolled: vec![EnrolledOperator {
                format: FORMAT,
                key: "mk1-b".to_owned(),
                by: "mk1-a".to_owned(),
                token: "0a0b0c0d".to_owned(),
                since: Timestamp::from_unix_millis(0),
            }],
            tokens: vec![OpenToken {
                id: "1a1b1c1d".to_owned(),
                by: "mk1-b".to_owned(),
                expires_at: Timestamp::from_unix_millis(90_000),
            }],
        };
        let now = Timestamp::from_unix_millis(0);
        let expected = "\
OPERATOR  SINCE                 BY        TOKEN
mk1-a     -                     the seed
mk1-b     1970-01-01T00:00:00Z  mk1-a     0a0b0c0d

OPEN TOKEN  EXPIRES IN  BY
1a1b1c1d    1m30s       mk1-b
";
        assert_eq!(render(&operators, now), expected);
        let alone = Operators {
            tokens: Vec::new(),
            ..operators
        };
        assert!(!render(&alone, now).contains("OPEN"));
    }
}
