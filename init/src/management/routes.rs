//! Requests to answers.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use masthead_api::disruption::UnlockRequest;
use masthead_api::etcd::LeaderRequest;
use masthead_api::found::FoundRequest;
use masthead_api::operators::RemoveRequest;
use masthead_api::power::PowerRequest;
use masthead_api::upgrade::{Image, UpgradeRequest};
use masthead_api::vip::{self, MoveRequest};
use masthead_api::{ApiError, ErrorCode, routes};
use time::OffsetDateTime;

use super::body::{AnswerBody, json, message, pieces, refusal, streamed};
use super::caller::{Caller, Operator};
use super::login::Login;
use super::node::{Bundle, Commands, LogRequest, Node, PowerAction};
use super::{found, kubeconfig, operators, power};
use crate::serving::Remarks;

/// Of a path, what is logged, in characters; the paths of this API are shorter.
const PATH_TOLD: usize = 128;

/// What the routes work with.
pub(super) struct Routes {
    pub(super) node: Arc<dyn Node>,
    pub(super) commands: Commands,
    pub(super) login: Login,
    /// For a request's body, and for the supervisor to take a command.
    pub(super) patience: Duration,
    /// What is logged of those who are no operators.
    pub(super) remarks: Remarks,
}

/// A path of this API.
#[derive(Clone, Copy)]
enum Route<'a> {
    Status,
    Cluster,
    Logs(&'a str),
    Kubeconfig,
    Reboot,
    PowerOff,
    Rollback,
    Upgrade,
    Image,
    Found,
    EtcdLeader,
    VipMove,
    Unlock,
    Operators,
    OperatorsToken,
    OperatorsRemove,
    Challenge,
    Login,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            routes::STATUS => Self::Status,
            routes::CLUSTER => Self::Cluster,
            routes::KUBECONFIG => Self::Kubeconfig,
            routes::REBOOT => Self::Reboot,
            routes::POWEROFF => Self::PowerOff,
            routes::ROLLBACK => Self::Rollback,
            routes::UPGRADE => Self::Upgrade,
            routes::IMAGE => Self::Image,
            routes::FOUND => Self::Found,
            routes::ETCD_LEADER => Self::EtcdLeader,
            routes::VIP_MOVE => Self::VipMove,
            routes::UNLOCK => Self::Unlock,
            routes::OPERATORS => Self::Operators,
            routes::OPERATORS_TOKEN => Self::OperatorsToken,
            routes::OPERATORS_REMOVE => Self::OperatorsRemove,
            routes::LOGIN_CHALLENGE => Self::Challenge,
            routes::LOGIN => Self::Login,
            path => Self::Logs(path.strip_prefix(routes::LOGS)?),
        })
    }

    fn method(self) -> Method {
        match self {
            Self::Status | Self::Cluster | Self::Operators | Self::Logs(_) => Method::GET,
            Self::Image => Method::PUT,
            _ => Method::POST,
        }
    }
}

impl Routes {
    /// Answers a request, and logs who asked for what and what became of it: of operators everything.
    pub(super) async fn answer(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        let method = request.method().clone();
        let path: String = request.uri().path().chars().take(PATH_TOLD).collect();
        // Before it is answered, as that may take until the certificate has expired.
        let enrolled = caller.enrolled(&*self.node, &method).await;
        let operator = caller.administrator(&enrolled);
        let kept_back = match operator {
            Ok(_) => Some(0),
            Err(_) => self.remarks.about(caller.address.ip()),
        };
        match self.route(caller, operator, request).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                if let Some(kept_back) = kept_back {
                    tracing::info!(%caller, %method, path, status, kept_back, "request");
                }
                answer
            }
            Err(error) => {
                let status = error.code.http_status();
                if let Some(kept_back) = kept_back {
                    tracing::warn!(%caller, %method, path, status, why = error.message, kept_back, "request refused");
                }
                refusal(&error)
            }
        }
    }

    async fn route(
        &self,
        caller: &Caller,
        operator: Result<Operator, ApiError>,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, ApiError> {
        let path = request.uri().path().to_owned();
        let route = Route::of(&path).ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                "there is no such route",
                "Use a mastctl of the node's version, or compare with docs/api.md.",
            )
        })?;
        if *request.method() != route.method() {
            return Err(ApiError::new(
                ErrorCode::MethodNotAllowed,
                format!("this route takes {} only", route.method()),
                "Use a mastctl of the node's version, or compare with docs/api.md.",
            ));
        }
        match route {
            Route::Challenge => {
                self.login.admit(caller.address.ip())?;
                let request = message(request, self.patience).await?;
                json(StatusCode::OK, &self.login.challenge(&request)?)
            }
            Route::Login => {
                self.login.admit(caller.address.ip())?;
                let request = message(request, self.patience).await?;
                let answer = self.login.answer(caller, &*self.node, &request).await?;
                json(StatusCode::OK, &answer)
            }
            Route::Status => {
                operator?;
                json(StatusCode::OK, &self.node.status())
            }
            Route::Cluster => {
                operator?;
                json(StatusCode::OK, &self.node.cluster().await)
            }
            Route::Logs(service) => {
                let operator = operator?;
                let wanted = LogRequest::parse(request.uri().query().unwrap_or_default())?;
                let log = self
                    .node
                    .log(service, wanted)
                    .ok_or_else(|| self.no_service(service))?;
                // Not longer than the certificate that opened it.
                let left = operator.expires_at - OffsetDateTime::now_utc();
                Ok(streamed(log, Duration::try_from(left).unwrap_or_default()))
            }
            Route::Kubeconfig => {
                let operator = operator?;
                let request = message(request, self.patience).await?;
                json(
                    StatusCode::OK,
                    &kubeconfig::answer(caller, operator, &request)?,
                )
            }
            Route::Found => {
                let operator = operator?;
                let request: FoundRequest = message(request, self.patience).await?;
                let answer = found::answer(&self.commands.founding, request, self.patience).await?;
                tracing::warn!(%caller, operator = %operator.key, "the cluster is founded without some at an operator's word");
                json(StatusCode::ACCEPTED, &answer)
            }
            Route::EtcdLeader => {
                let operator = operator?;
                let request: LeaderRequest = message(request, self.patience).await?;
                let is_plan = request.plan;
                let answer = self.node.move_leader(request).await?;
                if !is_plan && answer.from != answer.to {
                    let (from, to) = (&answer.from, &answer.to);
                    tracing::warn!(%caller, operator = %operator.key, from, to, "etcd's leader hands over at an operator's word");
                }
                json(StatusCode::OK, &answer)
            }
            Route::VipMove => {
                let operator = operator?;
                let request: MoveRequest = message(request, self.patience).await?;
                let is_plan = request.plan;
                let answer = self.node.move_address(request).await?;
                for moved in answer.moves.iter().filter(|_| !is_plan) {
                    let vip::Move {
                        address, from, to, ..
                    } = moved;
                    tracing::warn!(%caller, operator = %operator.key, address, from, to, "a virtual address moves at an operator's word");
                }
                json(StatusCode::OK, &answer)
            }
            Route::Unlock => {
                let operator = operator?;
                let request: UnlockRequest = message(request, self.patience).await?;
                let answer = self.node.unlock(request).await?;
                let holder = &answer.held.holder;
                tracing::warn!(%caller, operator = %operator.key, holder, "the disruption lock is taken away at an operator's word");
                json(StatusCode::OK, &answer)
            }
            Route::Operators => {
                operator?;
                json(StatusCode::OK, &operators::list(caller, &*self.node).await?)
            }
            Route::OperatorsToken => {
                let operator = operator?;
                let request = message(request, self.patience).await?;
                let answer = operators::make_token(caller, operator, &*self.node, &request).await?;
                json(StatusCode::OK, &answer)
            }
            Route::OperatorsRemove => {
                let operator = operator?;
                let request: RemoveRequest = message(request, self.patience).await?;
                let answer = operators::remove(caller, operator, &*self.node, request).await?;
                json(StatusCode::OK, &answer)
            }
            Route::Image => {
                let operator = operator?;
                let plan = match request.uri().query() {
                    None => false,
                    Some("plan=true") => true,
                    Some(_) => {
                        return Err(ApiError::new(
                            ErrorCode::BadRequest,
                            "this route takes no other query than plan=true",
                            "Compare with docs/api.md.",
                        ));
                    }
                };
                let bundle = Bundle {
                    pieces: pieces(request, self.patience, routes::MAX_BUNDLE),
                    plan,
                    keys: caller.identity.issuers.image_keys.clone(),
                };
                let answer = self.node.stage(bundle).await?;
                let Image { version, image, .. } = &answer.image;
                if let Some(slot) = &answer.slot {
                    tracing::warn!(%caller, operator = %operator.key, version, image, slot, "an operator has sent an image");
                }
                json(StatusCode::OK, &answer)
            }
            Route::Reboot => {
                self.go_down(caller, operator?, PowerAction::Reboot, request)
                    .await
            }
            Route::PowerOff => {
                self.go_down(caller, operator?, PowerAction::PowerOff, request)
                    .await
            }
            Route::Rollback => {
                self.go_down(caller, operator?, PowerAction::Rollback, request)
                    .await
            }
            Route::Upgrade => {
                let operator = operator?;
                let request: UpgradeRequest = message(request, self.patience).await?;
                let action = PowerAction::Upgrade {
                    image: request.image,
                };
                let request = PowerRequest {
                    format: request.format,
                    plan: request.plan,
                    accept_outage: request.accept_outage,
                };
                self.end(caller, operator, action, request).await
            }
        }
    }

    async fn go_down(
        &self,
        caller: &Caller,
        operator: Operator,
        action: PowerAction,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, ApiError> {
        let request = message(request, self.patience).await?;
        self.end(caller, operator, action, request).await
    }

    async fn end(
        &self,
        caller: &Caller,
        operator: Operator,
        action: PowerAction,
        request: PowerRequest,
    ) -> Result<Response<AnswerBody>, ApiError> {
        let is_plan = request.plan;
        // Other masters are asked first, and etcd's leader may have to hand over. An image is read from the disk, and a snapshot written to it.
        let patience = match &action {
            PowerAction::Reboot | PowerAction::PowerOff => 2 * self.patience,
            PowerAction::Upgrade { .. } | PowerAction::Rollback => 12 * self.patience,
        };
        let told = format!("{action:?}");
        let power = &self.commands.power;
        let answer = power::answer(power, operator, action, request, patience).await?;
        if is_plan {
            return json(StatusCode::OK, &answer);
        }
        tracing::warn!(%caller, action = told, "the node goes down at an operator's word");
        json(StatusCode::ACCEPTED, &answer)
    }

    fn no_service(&self, name: &str) -> ApiError {
        let names: Vec<_> = self
            .node
            .status()
            .services
            .into_iter()
            .map(|service| service.name)
            .collect();
        ApiError::new(
            ErrorCode::NotFound,
            format!("there is no service \"{name}\" on this node"),
            if names.is_empty() {
                "It runs none yet: see `mastctl status`.".to_owned()
            } else {
                format!("Its services are {}.", names.join(", "))
            },
        )
    }
}
