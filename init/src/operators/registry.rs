//! Tokens and operators in etcd.
//!
//! Every change is one transaction that holds only if what it was decided on is still so: a token makes one operator, and
//! none once its maker is out.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, Error, GetOptions, GetResponse, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use masthead_api::operators::{EnrolledOperator, OpenToken};
use masthead_api::{ApiError, ErrorCode, FORMAT, Timestamp};
use masthead_seed::OperatorKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::token::{KeptToken, Token};
use crate::error_chain::with_sources;
use crate::etcd::Members;
use crate::random::random;

/// Under which etcd keeps an [`EnrolledOperator`] by its key.
pub(super) const OPERATORS: &str = "/masthead/operators/";

/// Under which etcd keeps a [`KeptToken`] by its id.
const TOKENS: &str = "/masthead/tokens/";

/// Tokens that may be open at a time: all of them, and what goes with them, fit into one transaction of etcd's.
const MAX_TOKENS: usize = 50;

/// Operators that may come in by tokens.
const MAX_OPERATORS: usize = 500;

/// The registry, as one master reaches it.
#[derive(Clone)]
pub struct Registry {
    /// The way to etcd's members.
    pub members: Arc<Members>,
}

/// What the registry tells.
#[derive(Clone, Debug, Default)]
pub struct Registered {
    /// Those who came in by a token.
    pub operators: Vec<EnrolledOperator>,
    /// The tokens that are good now.
    pub tokens: Vec<OpenToken>,
}

/// A record with the revision that it was last changed with.
struct Kept<T> {
    record: T,
    revision: i64,
}

/// Everything, by the word of a majority.
struct Records {
    operators: Vec<Kept<EnrolledOperator>>,
    tokens: Vec<Kept<KeptToken>>,
}

impl Records {
    fn operator(&self, key: &str) -> Option<&Kept<EnrolledOperator>> {
        let mut operators = self.operators.iter();
        operators.find(|operator| operator.record.key == key)
    }
}

impl Registry {
    /// Those who came in by a token, and the tokens that are good now.
    pub async fn list(&self) -> Result<Registered, ApiError> {
        let Records { operators, tokens } = self.read().await?;
        let now = Timestamp::now();
        let operators = operators.into_iter().map(|operator| operator.record);
        let tokens = tokens.into_iter().map(|token| token.record);
        let good = tokens.filter(|token| !token.has_expired(now));
        Ok(Registered {
            operators: operators.collect(),
            tokens: good.map(|token| token.open).collect(),
        })
    }

    /// A new token of that operator's. Those whose time is over are forgotten.
    pub async fn make_token(
        &self,
        by: OperatorKey,
        ttl: Duration,
    ) -> Result<(Token, OpenToken), ApiError> {
        let token = Token::new(random()?);
        let now = Timestamp::now();
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_unix_millis(now.unix_millis().saturating_add(ttl));
        let kept = token.kept(by.to_string(), expires_at);

        let Records { tokens, .. } = self.read().await?;
        let (over, open): (Vec<_>, Vec<_>) = tokens
            .iter()
            .partition(|token| token.record.has_expired(now));
        if open.len() >= MAX_TOKENS {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("{MAX_TOKENS} tokens are open"),
                "Wait until some have expired, or remove them: see `mastctl operators list`.",
            ));
        }
        let place = token_at(&kept.open.id);
        let mut operations = vec![TxnOp::put(&*place, encoded(&kept)?, None)];
        operations.extend(
            over.iter()
                .map(|token| removal(&token_at(&token.record.open.id))),
        );
        let answer = self
            .decide(
                Txn::new()
                    .when([Compare::version(&*place, CompareOp::Equal, 0)])
                    .and_then(operations)
                    .or_else([TxnOp::get(&*place, None)]),
            )
            .await?;
        // The first member asked has done it, and its answer was lost.
        let is_there = || -> Result<bool, ApiError> {
            let found: Vec<Kept<KeptToken>> = records(&answer, 0)?;
            Ok(found.iter().any(|found| found.record == kept))
        };
        if !answer.succeeded() && !is_there()? {
            return Err(refused("another token has the same id", "Try again."));
        }
        Ok((token, kept.open))
    }

    /// Uses up a token: from then on the key is an operator's. `admins` are those that the seed names.
    pub async fn enroll(
        &self,
        token: &Token,
        key: OperatorKey,
        admins: &[OperatorKey],
    ) -> Result<EnrolledOperator, ApiError> {
        let records = self.read().await?;
        let mut tokens = records.tokens.iter();
        let kept = tokens
            .find(|kept| kept.record.is(token))
            .ok_or_else(no_such_token)?;
        let now = Timestamp::now();
        let OpenToken { id, by, expires_at } = &kept.record.open;
        if kept.record.has_expired(now) {
            return Err(login_refused(format!(
                "the token has expired at {expires_at}"
            )));
        }
        let place = token_at(id);
        let mut holds = vec![unchanged(&place, kept.revision)];
        if !admins.iter().any(|admin| admin.to_string() == *by) {
            let maker = records
                .operator(by)
                .ok_or_else(|| login_refused("the operator who made the token is none any more"))?;
            holds.push(unchanged(&operator_at(by), maker.revision));
        }
        if records.operators.len() >= MAX_OPERATORS {
            return Err(refused(
                &format!("{MAX_OPERATORS} operators have come in by tokens"),
                "Remove some: see `mastctl operators list`.",
            ));
        }
        let operator = EnrolledOperator {
            format: FORMAT,
            key: key.to_string(),
            by: by.clone(),
            token: id.clone(),
            since: now,
        };
        let own = operator_at(&operator.key);
        let answer = self
            .decide(
                Txn::new()
                    .when(holds)
                    .and_then([
                        removal(&place),
                        TxnOp::put(&*own, encoded(&operator)?, None),
                    ])
                    .or_else([TxnOp::get(&*own, None)]),
            )
            .await?;
        if answer.succeeded() {
            return Ok(operator);
        }
        // The first member asked may have done it, and its answer was lost.
        let found: Vec<Kept<EnrolledOperator>> = self::records(&answer, 0)?;
        let mut found = found.into_iter().map(|found| found.record);
        found
            .find(|found| found.token == *id)
            .ok_or_else(no_such_token)
    }

    /// Takes out an operator who came in by a token, with the tokens that this one made, or a token that nobody has used.
    /// Says which tokens are gone.
    pub async fn remove(&self, whom: &str) -> Result<Vec<String>, ApiError> {
        let records = self.read().await?;
        let of_token = |token: &Kept<KeptToken>| token.record.open.id.clone();
        let Some(operator) = records.operator(whom) else {
            let mut tokens = records.tokens.iter();
            let Some(token) = tokens.find(|token| token.record.open.id == whom) else {
                return Err(ApiError::new(
                    ErrorCode::NotFound,
                    format!(
                        "nobody came in by a token with this key, and no token has this id: {whom}"
                    ),
                    "See `mastctl operators list`. Whom the seed names, only another seed takes out.",
                ));
            };
            self.take_out(&token_at(whom), token.revision, []).await?;
            return Ok(vec![whom.to_owned()]);
        };
        let made = records.tokens.iter();
        let made = made.filter(|token| token.record.open.by == whom);
        let made: Vec<String> = made.map(of_token).collect();
        let along = made.iter().map(|id| removal(&token_at(id)));
        self.take_out(&operator_at(whom), operator.revision, along)
            .await?;
        Ok(made)
    }

    async fn take_out(
        &self,
        place: &str,
        revision: i64,
        along: impl IntoIterator<Item = TxnOp>,
    ) -> Result<(), ApiError> {
        let operations: Vec<_> = std::iter::once(removal(place)).chain(along).collect();
        let question = Txn::new()
            .when([unchanged(place, revision)])
            .and_then(operations)
            .or_else([TxnOp::get(place, None)]);
        let answer = self.decide(question).await?;
        // Gone is gone, whoever did it.
        if answer.succeeded() || entries(&answer, 0).is_none_or(|found| found.kvs().is_empty()) {
            return Ok(());
        }
        Err(refused("it has changed meanwhile", "Try again."))
    }

    async fn read(&self) -> Result<Records, ApiError> {
        let all = |prefix: &str| TxnOp::get(prefix, Some(GetOptions::new().with_prefix()));
        let question = Txn::new().and_then([all(OPERATORS), all(TOKENS)]);
        let answer = self.decide(question).await?;
        Ok(Records {
            operators: records(&answer, 0)?,
            tokens: records(&answer, 1)?,
        })
    }

    async fn decide(&self, question: Txn) -> Result<TxnResponse, ApiError> {
        let decided = self.members.decide(question).await;
        decided.map_err(|error: Error| {
            ApiError::new(
                ErrorCode::NotReady,
                format!(
                    "no member of etcd answers as it should: {}",
                    with_sources(&error)
                ),
                "See `mastctl status` for how etcd is; without a quorum nothing can be written.",
            )
        })
    }
}

fn operator_at(key: &str) -> String {
    format!("{OPERATORS}{key}")
}

fn token_at(id: &str) -> String {
    format!("{TOKENS}{id}")
}

fn unchanged(place: &str, revision: i64) -> Compare {
    Compare::mod_revision(place, CompareOp::Equal, revision)
}

fn removal(place: &str) -> TxnOp {
    TxnOp::delete(place, None)
}

fn encoded(record: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(record)
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string(), "Report it."))
}

fn entries(answer: &TxnResponse, index: usize) -> Option<GetResponse> {
    match answer.op_responses().into_iter().nth(index) {
        Some(TxnOpResponse::Get(answer)) => Some(answer),
        _ => None,
    }
}

/// The records in one answer of a transaction.
fn records<T: DeserializeOwned>(
    answer: &TxnResponse,
    index: usize,
) -> Result<Vec<Kept<T>>, ApiError> {
    let entries = entries(answer, index);
    let entries = entries.iter().flat_map(GetResponse::kvs);
    let records = entries.map(|entry| {
        let record = serde_json::from_slice(entry.value()).map_err(|error| {
            let place = String::from_utf8_lossy(entry.key());
            ApiError::new(
                ErrorCode::Internal,
                format!("what etcd keeps under {place} cannot be read: {error}"),
                "Use a release that can.",
            )
        })?;
        Ok(Kept {
            record,
            revision: entry.mod_revision(),
        })
    });
    records.collect()
}

fn refused(why: &str, next: &str) -> ApiError {
    ApiError::new(ErrorCode::Conflict, why, next)
}

fn no_such_token() -> ApiError {
    login_refused("there is no such token: it has been used or removed, or it is mistyped")
}

fn login_refused(why: impl Into<String>) -> ApiError {
    let next = "Ask an operator for another one: `mastctl token`.";
    ApiError::new(ErrorCode::LoginRefused, why, next)
}
