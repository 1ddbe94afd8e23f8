//! The one disruption lock: a key in etcd, taken and given back by compare-and-swap.
//!
//! It has no lease. A master that reboots is silent for as long as its firmware likes, so a lease would run out while it
//! is down, which is just when the lock is needed, or outlive it for long. So it stays until its holder serves again, or
//! until an operator takes it away.

use std::sync::Arc;

use etcd_client::{
    Client, Compare, CompareOp, Error, GetOptions, GetResponse, ResponseHeader, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};
use masthead_api::disruption::{Disruption, UnlockRequest};
use masthead_api::{ApiError, ErrorCode};
use thiserror::Error;

use crate::error_chain::with_sources;
use crate::etcd::{Members, Undecided, in_time};

/// Where etcd keeps it.
pub const KEY: &str = "/masthead/disruption";

/// The lock as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// By whom, and what for.
    pub disruption: Disruption,
    /// The revision that it was taken with: nobody gives back what another has taken since.
    pub revision: i64,
}

/// Why the lock cannot be read or changed.
#[derive(Debug, Error)]
pub enum LockError {
    /// etcd does not do it.
    #[error(transparent)]
    Undecided(#[from] Undecided),
    /// This master's own member does not do it.
    #[error("this master's member of etcd does not answer as it should")]
    Own(#[from] Error),
    /// What etcd keeps is none of ours.
    #[error("what etcd keeps under {KEY} cannot be read; use a release that can")]
    Unreadable(#[from] serde_json::Error),
}

/// The lock, as one master reaches it.
#[derive(Clone)]
pub struct Lock {
    /// The way to etcd's members.
    pub members: Arc<Members>,
}

impl Lock {
    /// Who holds it, by the word of a majority.
    pub async fn read(&self) -> Result<Option<Held>, LockError> {
        let question = Txn::new().and_then([TxnOp::get(KEY, None)]);
        read_in(&self.members.decide(question).await?)
    }

    /// Takes the lock, from `over` if somebody holds it. Otherwise says who holds it now.
    pub async fn take(
        &self,
        wanted: &Disruption,
        over: Option<&Held>,
    ) -> Result<Result<Held, Option<Held>>, LockError> {
        // A key that is not there has revision 0.
        let revision = over.map_or(0, |over| over.revision);
        let question = Txn::new()
            .when([Compare::mod_revision(KEY, CompareOp::Equal, revision)])
            .and_then([TxnOp::put(KEY, serde_json::to_vec(wanted)?, None)])
            .or_else([TxnOp::get(KEY, None)]);
        let answer = self.members.decide(question).await?;
        if answer.succeeded() {
            let header = answer.header();
            return Ok(Ok(Held {
                disruption: wanted.clone(),
                revision: header.map_or(0, ResponseHeader::revision),
            }));
        }
        Ok(match read_in(&answer)? {
            // The first member asked has done it, and its answer was lost.
            Some(other) if other.disruption.id == wanted.id => Ok(other),
            other => Err(other),
        })
    }

    /// Gives back what was taken or read. Whether it was still held so.
    pub async fn give_back(&self, held: &Held) -> Result<bool, LockError> {
        Ok(self.members.decide(removal(held)).await?.succeeded())
    }

    /// Gives back what this machine holds, and whether it held it. Only its own member is asked, which knows the answer when it has
    /// caught up with the majority: that it has is what the lock waits for.
    pub async fn give_back_own(&self, machine_id: &str) -> Result<bool, LockError> {
        let patience = self.members.patience();
        let asked = async {
            let mut client = self.members.own_client().await?;
            let answer = client.get(KEY, None).await?;
            Ok((client, answer))
        };
        let (mut client, answer) = in_time(patience, asked).await?;
        match held(&answer)? {
            Some(held) if held.disruption.machine_id == machine_id => {
                let gone = in_time(patience, client.txn(removal(&held))).await?;
                Ok(gone.succeeded())
            }
            _ => Ok(false),
        }
    }

    /// Takes the lock away from the master that is meant, at an operator's word.
    pub async fn free(&self, request: &UnlockRequest) -> Result<Disruption, ApiError> {
        let UnlockRequest { holder, id, .. } = request;
        let refused = |why: String| {
            let next = "See `mastctl status`; nothing was changed.";
            ApiError::new(ErrorCode::Conflict, why, next)
        };
        let failed = |error: LockError| {
            ApiError::new(
                ErrorCode::Internal,
                with_sources(&error),
                "See `mastctl status` for how etcd is; without a quorum nothing can be written.",
            )
        };
        let Some(held) = self.read().await.map_err(failed)? else {
            return Err(refused("nobody holds the disruption lock".to_owned()));
        };
        if held.disruption.holder != *holder {
            let name = &held.disruption.holder;
            return Err(refused(format!(
                "{name} holds the disruption lock, not {holder}"
            )));
        }
        if id
            .as_ref()
            .is_some_and(|id| !held.disruption.id.starts_with(id.as_str()))
        {
            return Err(refused(format!(
                "{holder} holds the disruption lock {} by now, and another one was meant",
                held.disruption.short_id()
            )));
        }
        // Gone is gone: the first member asked may have done it, and its answer was lost.
        let is_gone = self.give_back(&held).await.map_err(failed)?
            || self.read().await.map_err(failed)?.is_none();
        if !is_gone {
            return Err(refused(format!(
                "{holder} has given it back, and somebody has taken it anew"
            )));
        }
        Ok(held.disruption)
    }
}

/// What a member knows of the lock, which may be old.
pub async fn seen_by(client: &mut Client) -> Result<Option<Disruption>, Error> {
    let options = GetOptions::new().with_serializable();
    let answer = client.get(KEY, Some(options)).await?;
    // What cannot be read is told to whoever wants the lock.
    Ok(held(&answer).ok().flatten().map(|held| held.disruption))
}

fn removal(held: &Held) -> Txn {
    let same = Compare::mod_revision(KEY, CompareOp::Equal, held.revision);
    Txn::new().when([same]).and_then([TxnOp::delete(KEY, None)])
}

fn read_in(answer: &TxnResponse) -> Result<Option<Held>, LockError> {
    match answer.op_responses().first() {
        Some(TxnOpResponse::Get(answer)) => held(answer),
        _ => Ok(None),
    }
}

fn held(answer: &GetResponse) -> Result<Option<Held>, LockError> {
    let Some(entry) = answer.kvs().first() else {
        return Ok(None);
    };
    Ok(Some(Held {
        disruption: serde_json::from_slice(entry.value())?,
        revision: entry.mod_revision(),
    }))
}
