//! Logging in: a nonce, and a certificate for a proof.

use crate::error_chain::with_sources;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use masthead_api::login::{Challenge, ChallengeRequest, LoginAnswer, LoginRequest};
use masthead_api::operators::EnrolledOperator;
use masthead_api::{ApiError, ErrorCode, FORMAT, hex};
use masthead_pki::{Description, LoginProof, NONCE_LENGTH, issue_operator};
use masthead_seed::OperatorKey;
use time::OffsetDateTime;

use super::caller::Caller;
use super::challenges::Challenges;
use super::node::Node;
use crate::operators::token::{NoToken, Token};
use crate::random::random;
use crate::serving::RateLimit;

/// Tries that an address has at once.
const BURST: u32 = 10;

/// How soon one try comes back.
const REFILL: Duration = Duration::from_secs(1);

/// What logging in remembers.
#[derive(Debug)]
pub(super) struct Login {
    challenges: Mutex<Challenges>,
    rate: Mutex<RateLimit>,
}

impl Login {
    /// Whose nonces are good for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            challenges: Mutex::new(Challenges::new(lifetime)),
            rate: Mutex::new(RateLimit::new(BURST, REFILL)),
        }
    }

    /// Refuses an address that tries too often; asked before a body is read.
    pub(super) fn admit(&self, address: IpAddr) -> Result<(), ApiError> {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.take(Instant::now(), address) {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorCode::TooManyRequests,
            "too many logins from this address",
            "Wait some seconds and try again.",
        ))
    }

    /// A nonce for whoever asks: the answer does not tell whether the seed names the key.
    pub(super) fn challenge(&self, request: &ChallengeRequest) -> Result<Challenge, ApiError> {
        let operator = operator_key(&request.public_key)?;
        let nonce: [u8; NONCE_LENGTH] = random()?;
        let mut challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenges.give(Instant::now(), operator, nonce);
        Ok(Challenge {
            format: FORMAT,
            nonce: hex::encode(&nonce),
            expires_in: challenges.lifetime().as_secs(),
        })
    }

    /// A certificate for a proof. A key that is no operator's becomes one by a token.
    pub(super) async fn answer(
        &self,
        caller: &Caller,
        node: &dyn Node,
        request: &LoginRequest,
    ) -> Result<LoginAnswer, ApiError> {
        let operator = operator_key(&request.public_key)?;
        let nonce: [u8; NONCE_LENGTH] = hex::decode(&request.nonce)
            .and_then(|nonce| nonce.try_into().ok())
            .ok_or_else(|| malformed("the nonce is not 32 bytes in hexadecimal"))?;
        let signature = hex::decode(&request.signature)
            .ok_or_else(|| malformed("the signature is not hexadecimal"))?;

        let open = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now(), operator, &nonce);
        if !open {
            return Err(ApiError::new(
                ErrorCode::LoginRefused,
                "the nonce is not one that this node gave to this key, or is used or expired",
                "Log in again; each try needs a nonce of its own.",
            ));
        }
        let proof = LoginProof {
            operator,
            server_key_hash: caller.identity.key_hash,
            nonce,
        };
        proof.verify(&signature).map_err(|error| {
            ApiError::new(
                ErrorCode::LoginRefused,
                error.to_string(),
                "Use the private key that belongs to the public one; if it is the right one, somebody may be between you and the node: compare fingerprints.",
            )
        })?;
        let issuers = &caller.identity.issuers;
        // Who is in already keeps the token for somebody else.
        let enrolled = if caller.is_operators(operator, node).await {
            false
        } else if let Some(token) = &request.token {
            enroll(caller, node, token, operator).await?;
            true
        } else {
            return Err(ApiError::new(
                ErrorCode::LoginRefused,
                "the seed does not name this key, and it did not come in by a token",
                format!(
                    "Log in with a token (`mastctl token`), add \"{operator}\" to `admins` in the seed, or use another key."
                ),
            ));
        };
        let failed = |error: masthead_pki::Error| {
            tracing::error!(%operator, error = %with_sources(&error), "no certificate could be issued");
            ApiError::new(
                ErrorCode::Internal,
                "the node could not issue the certificate",
                "Read the node's own log.",
            )
        };
        let certificate = issue_operator(operator, &issuers.operators, OffsetDateTime::now_utc())
            .map_err(failed)?;
        let expires = Description::of_pem(&certificate).map_err(failed)?.not_after;
        // Always, while not every line about strangers is logged.
        tracing::info!(address = %caller.address, %operator, %expires, "an operator has logged in");
        Ok(LoginAnswer {
            format: FORMAT,
            certificate,
            authority: issuers.operators.certificate_pem().to_owned(),
            expires_at: expires.into(),
            cluster: issuers.cluster.clone(),
            node: issuers.node.clone(),
            provisional: caller.identity.is_provisional(),
            enrolled,
        })
    }
}

/// Makes the key an operator's by a token.
async fn enroll(
    caller: &Caller,
    node: &dyn Node,
    token: &str,
    operator: OperatorKey,
) -> Result<(), ApiError> {
    let token: Token = token.parse().map_err(|error: NoToken| {
        let next = "Copy it whole, or ask an operator for another one: `mastctl token`.";
        ApiError::new(ErrorCode::LoginRefused, error.to_string(), next)
    })?;
    let admins = &caller.identity.issuers.admins;
    let EnrolledOperator { by, token, .. } = node.enroll(&token, operator, admins).await?;
    let address = caller.address;
    tracing::warn!(%address, %operator, by, token, "an operator has come in by a token");
    Ok(())
}

fn operator_key(text: &str) -> Result<OperatorKey, ApiError> {
    text.parse()
        .map_err(|error| malformed(&format!("the operator's public key is not one: {error}")))
}

fn malformed(message: &str) -> ApiError {
    ApiError::new(
        ErrorCode::BadRequest,
        message,
        "Use a mastctl of the node's version, or compare with docs/api.md.",
    )
}
