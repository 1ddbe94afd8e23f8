//! What the management API asks of the node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use masthead_api::cluster::ClusterStatus;
use masthead_api::disruption::{UnlockAnswer, UnlockRequest};
use masthead_api::etcd::{LeaderAnswer, LeaderRequest};
use masthead_api::operators::{EnrolledOperator, OpenToken};
use masthead_api::upgrade::StageAnswer;
use masthead_api::vip::{MoveAnswer, MoveRequest};
use masthead_api::{ApiError, ErrorCode, Status};
use masthead_seed::OperatorKey;
use tokio::sync::mpsc;

use super::board::Board;
use super::{addresses, staging};
use crate::disruption::Lock;
use crate::etcd::Members;
use crate::management::{self, Answering, Bundle, LogRequest, Node};
use crate::operators::token::Token;
use crate::operators::{Enrolled, Registered, Registry};

/// How long a change of operators may take to come back from etcd, on a real machine.
const TO_HEAR: Duration = Duration::from_secs(2);

/// How long etcd may take to say who is an operator, on a real machine, before what this node knows counts: long enough for a second
/// member to be asked.
const TO_CONFIRM: Duration = Duration::from_secs(5);

impl Board {
    /// The way to etcd's members, for an operator who needs it.
    fn members_needed(&self) -> Result<Arc<Members>, ApiError> {
        self.members().ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotReady,
                "this node is no member of etcd yet",
                "See `mastctl status` for what it waits for.",
            )
        })
    }

    fn registry(&self) -> Result<Registry, ApiError> {
        let members = self.members_needed()?;
        Ok(Registry { members })
    }

    /// Waits until this node takes the key for an operator's, or long enough: it hears of it as all others do.
    async fn wait_for_operator(&self, key: OperatorKey, is_one: bool) {
        let mut enrolled = self.enrolled.clone();
        let heard = enrolled.wait_for(|keys| keys.contains(&key) == is_one);
        let _ = tokio::time::timeout(self.scale() * TO_HEAR, heard).await;
    }
}

impl Node for Board {
    fn status(&self) -> Status {
        Self::status(self)
    }

    fn cluster(&self) -> Answering<'_, ClusterStatus> {
        Box::pin(Self::cluster(self))
    }

    fn move_leader(&self, request: LeaderRequest) -> Answering<'_, Result<LeaderAnswer, ApiError>> {
        Box::pin(async {
            let members = self.members_needed()?;
            members
                .move_leader(&self.cluster_now().await, request)
                .await
        })
    }

    fn move_address(&self, request: MoveRequest) -> Answering<'_, Result<MoveAnswer, ApiError>> {
        Box::pin(addresses::move_to(self, request))
    }

    fn stage(&self, bundle: Bundle) -> Answering<'_, Result<StageAnswer, ApiError>> {
        Box::pin(staging::stage(self, bundle))
    }

    fn unlock(&self, request: UnlockRequest) -> Answering<'_, Result<UnlockAnswer, ApiError>> {
        Box::pin(async move {
            let members = self.members_needed()?;
            let held = Lock { members }.free(&request).await?;
            Ok(UnlockAnswer {
                format: masthead_api::FORMAT,
                held,
            })
        })
    }

    fn enrolled(&self) -> Enrolled {
        Arc::clone(&self.enrolled.borrow())
    }

    fn confirmed(&self) -> Answering<'_, Enrolled> {
        Box::pin(async {
            let asked = async { self.registry().ok()?.enrolled().await.ok() };
            let heard = tokio::time::timeout(self.scale() * TO_CONFIRM, asked).await;
            heard.ok().flatten().unwrap_or_else(|| self.enrolled())
        })
    }

    fn operators(&self) -> Answering<'_, Result<Registered, ApiError>> {
        Box::pin(async { self.registry()?.list().await })
    }

    fn make_token<'a>(
        &'a self,
        by: OperatorKey,
        admins: &'a [OperatorKey],
        ttl: Duration,
    ) -> Answering<'a, Result<(Token, OpenToken), ApiError>> {
        Box::pin(async move { self.registry()?.make_token(by, admins, ttl).await })
    }

    fn enroll<'a>(
        &'a self,
        token: &'a Token,
        key: OperatorKey,
        admins: &'a [OperatorKey],
    ) -> Answering<'a, Result<EnrolledOperator, ApiError>> {
        Box::pin(async move {
            let operator = self.registry()?.enroll(token, key, admins).await?;
            self.wait_for_operator(key, true).await;
            Ok(operator)
        })
    }

    fn remove_operator<'a>(
        &'a self,
        whom: &'a str,
    ) -> Answering<'a, Result<Vec<String>, ApiError>> {
        Box::pin(async move {
            let tokens = self.registry()?.remove(whom).await?;
            if let Ok(key) = whom.parse() {
                self.wait_for_operator(key, false).await;
            }
            Ok(tokens)
        })
    }

    fn log(&self, service: &str, wanted: LogRequest) -> Option<mpsc::Receiver<Bytes>> {
        Some(management::stream(self.output(service)?, wanted))
    }
}
