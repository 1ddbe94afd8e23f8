//! Tokens and operators in etcd.
//!
//! Every change is one transaction that holds only if what it was decided on is still so: a token makes one operator, and
//! none once its maker is out.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use masthead_api::operators::{EnrolledOperator, OpenToken};
use masthead_api::{ApiError, ErrorCode, FORMAT, Timestamp};
use masthead_seed::OperatorKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::follow::Enrolled;
use super::token::{KeptToken, Token};
use crate::error_chain::with_sources;
use crate::etcd::{Members, Undecided};
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

    /// The keys of those who came in by a token.
    pub async fn enrolled(&self) -> Result<Enrolled, ApiError> {
        let Records { operators, .. } = self.read().await?;
        let keys = operators.iter().map(|operator| operator.record.key.parse());
        Ok(Arc::new(keys.filter_map(Result::ok).collect()))
    }

    /// A new token of that operator's. `admins` are those that the seed names.
    pub async fn make_token(
        &self,
        by: OperatorKey,
        admins: &[OperatorKey],
        ttl: Duration,
    ) -> Result<(Token, OpenToken), ApiError> {
        let ttl = ttl.as_secs().max(1);
        let lifetime = i64::try_from(ttl).unwrap_or(i64::MAX);
        let expires_at = lifetime.saturating_mul(1000);
        let expires_at = Timestamp::now().unix_millis().saturating_add(expires_at);
        let expires_at = Timestamp::from_unix_millis(expires_at);

        let records = self.read().await?;
        let maker = maker(&records, &by.to_string(), admins)?;
        if records.tokens.len() >= MAX_TOKENS {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("{MAX_TOKENS} tokens are open"),
                "Wait until some have expired, or remove them: see `mastctl operators list`.",
            ));
        }
        let mut undecided = Undecided::default();
        for member in self.members.in_order() {
            // Another one for each: what a silent member was asked may be done later, and then nobody bears it.
            let token = Token::new(random()?);
            let kept = token.kept(by.to_string(), maker, expires_at);
            match self.keep(member, &kept, lifetime).await? {
                Ok(()) => return Ok((token, kept.open)),
                Err(silent) => undecided.add(silent),
            }
        }
        Err(not_decided(undecided))
    }

    /// Has etcd keep a token for so many seconds, by that master's member. etcd counts them by the clock of its leader, which nobody sets.
    async fn keep(
        &self,
        member: &str,
        kept: &KeptToken,
        lifetime: i64,
    ) -> Result<Result<(), Undecided>, ApiError> {
        let place = token_at(&kept.open.id);
        let mut holds = vec![Compare::version(&*place, CompareOp::Equal, 0)];
        if let Some(revision) = kept.maker {
            holds.push(unchanged(&operator_at(&kept.open.by), revision));
        }
        let value = encoded(kept)?;
        let lease = match self.members.grant(member, lifetime).await {
            Ok(lease) => lease,
            Err(silent) => return Ok(Err(silent)),
        };
        let options = PutOptions::new().with_lease(lease);
        let question = Txn::new()
            .when(holds)
            .and_then([TxnOp::put(&*place, value, Some(options))]);
        match self.members.decide_by(member, question).await {
            Ok(answer) if answer.succeeded() => Ok(Ok(())),
            Ok(_) => Err(refused(
                "the operator who asks was taken out meanwhile, or another token has the same id",
                "Try again.",
            )),
            Err(silent) => Ok(Err(silent)),
        }
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
        if !is_makers(&kept.record, &records, admins) {
            return Err(login_refused(
                "the operator who made the token is none any more",
            ));
        }
        let mut holds = vec![unchanged(&place, kept.revision)];
        holds.extend(
            kept.record
                .maker
                .map(|revision| unchanged(&operator_at(by), revision)),
        );
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
        decided.map_err(not_decided)
    }
}

/// The revision of an operator's record; none for one that the seed names.
fn maker(records: &Records, key: &str, admins: &[OperatorKey]) -> Result<Option<i64>, ApiError> {
    if admins.iter().any(|admin| admin.to_string() == key) {
        return Ok(None);
    }
    let operator = records.operator(key);
    operator
        .map(|operator| Some(operator.revision))
        .ok_or_else(|| refused("this key is no operator's any more", "Use another one."))
}

/// Whether the token's maker is in. Whoever was taken out and came in again made it as somebody else.
fn is_makers(token: &KeptToken, records: &Records, admins: &[OperatorKey]) -> bool {
    maker(records, &token.open.by, admins).is_ok_and(|maker| maker == token.maker)
}

fn not_decided(error: Undecided) -> ApiError {
    ApiError::new(
        ErrorCode::NotReady,
        with_sources(&error),
        "See `mastctl status` for how etcd is; without a quorum, or with its space used up, nothing can be written.",
    )
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
    login_refused(
        "there is no such token: it has been used or removed, or has expired, or it is mistyped",
    )
}

fn login_refused(why: impl Into<String>) -> ApiError {
    let next = "Ask an operator for another one: `mastctl token`.";
    ApiError::new(ErrorCode::LoginRefused, why, next)
}

#[cfg(test)]
mod tests {
    use masthead_pki::OperatorPrivateKey;

    use super::*;

    #[test]
    fn a_token_is_its_makers_as_long_as_that_one_has_not_been_out() {
        let key = || OperatorPrivateKey::generate().expect("a key").public();
        let (seeds, maker) = (key(), key());
        let enrolled = EnrolledOperator {
            format: FORMAT,
            key: maker.to_string(),
            by: seeds.to_string(),
            token: "00000000".to_owned(),
            since: Timestamp::from_unix_millis(0),
        };
        let records = Records {
            operators: vec![Kept {
                record: enrolled,
                revision: 7,
            }],
            tokens: Vec::new(),
        };
        let is_makers = |by: OperatorKey, revision| {
            let token = Token::new([0; crate::operators::token::LENGTH]);
            let until = Timestamp::from_unix_millis(1);
            let kept = token.kept(by.to_string(), revision, until);
            is_makers(&kept, &records, &[seeds])
        };
        assert!(is_makers(seeds, None));
        assert!(is_makers(maker, Some(7)));
        assert!(!is_makers(maker, Some(6)), "it was out in between");
        assert!(!is_makers(maker, None), "the seed named it once");
        assert!(!is_makers(key(), Some(7)));
    }
}
