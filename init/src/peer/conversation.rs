//! What a caller may say, and what it is answered.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use masthead_peer_protocol::{
    GREETING, Greeting, MAX_GREETING, MAX_MESSAGE, NoCommonVersion, Refusal, RefusalCode, Route,
    Version,
};
use tokio::sync::oneshot;

use super::trust::Certified;
use super::{PATIENCE, Peer, Question, Received, Shared, Sinks};

/// A connection that somebody else opened.
pub(super) struct Conversation<'a> {
    pub(super) shared: &'a Shared,
    pub(super) sinks: &'a Sinks,
    pub(super) certified: Certified,
    pub(super) address: SocketAddr,
    /// The version agreed on, once the caller has greeted.
    pub(super) version: OnceLock<Version>,
    /// Why the caller is not understood, if it is not.
    pub(super) misunderstood: OnceLock<NoCommonVersion>,
}

impl Conversation<'_> {
    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.take(request).await {
            Ok(bytes) => Response::new(Full::new(bytes)),
            Err(code) => {
                tracing::debug!(address = %self.address, peer = %self.certified.subject.name, %code, "a peer's request is refused");
                self.refusal(code)
            }
        }
    }

    async fn take(&self, request: Request<Incoming>) -> Result<Bytes, RefusalCode> {
        if request.uri().path() == GREETING && request.method() == Method::POST {
            return self.greet(request).await;
        }
        let Certified {
            trust,
            subject,
            key,
        } = &self.certified;
        let access = || self.shared.identities.borrow().clone();
        // First whether the caller may ask at all: a stranger does not even learn which paths there are.
        access().access.knows(*trust, subject, *key)?;
        let (version, route) = Route::parse(request.uri().path()).ok_or(RefusalCode::NoSuchPath)?;
        if self.version.get() != Some(&version) || request.method() != Method::POST {
            return Err(RefusalCode::OutOfOrder);
        }
        access().access.permits(*trust, subject, *key, route)?;
        let bytes = self.read(request, MAX_MESSAGE).await?;
        // Again: what the node is may have changed while the body came.
        access().access.permits(*trust, subject, *key, route)?;
        let from = Peer {
            subject: subject.clone(),
            key: *key,
            trust: *trust,
            address: self.address,
            version,
        };
        match route {
            Route::Formation => self.deliver(Received { from, bytes }).await,
            Route::Status | Route::Address | Route::Move => self.ask(from, route, bytes).await,
        }
    }

    async fn greet(&self, request: Request<Incoming>) -> Result<Bytes, RefusalCode> {
        let bytes = self.read(request, MAX_GREETING).await?;
        let theirs: Greeting =
            serde_json::from_slice(&bytes).map_err(|_| RefusalCode::Malformed)?;
        let ours = self.shared.settings.versions;
        let version = ours.common(theirs.versions).map_err(|reason| {
            let _ = self.misunderstood.set(reason);
            RefusalCode::NoCommonVersion
        })?;
        if self.version.set(version).is_ok()
            && let Some(call) = self.shared.calls.get(&self.address.ip().to_canonical())
        {
            call.notify_one();
        }
        let standing = self.shared.identities.borrow().access.standing();
        serde_json::to_vec(&Greeting::new(ours, standing))
            .map(Bytes::from)
            .map_err(|_| RefusalCode::Malformed)
    }

    /// Hands a message over. While the receiver is behind, the callers wait in turn.
    async fn deliver(&self, received: Received) -> Result<Bytes, RefusalCode> {
        let sent = self.sinks.formation.send(received);
        match tokio::time::timeout(self.patience(), sent).await {
            Ok(Ok(())) => Ok(Bytes::new()),
            Ok(Err(_)) | Err(_) => Err(RefusalCode::Busy),
        }
    }

    async fn ask(&self, from: Peer, route: Route, bytes: Bytes) -> Result<Bytes, RefusalCode> {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            from,
            route,
            bytes,
            answer,
        };
        let asked = async {
            self.sinks
                .questions
                .send(question)
                .await
                .map_err(|_| RefusalCode::Busy)?;
            answered.await.map_err(|_| RefusalCode::Busy)
        };
        tokio::time::timeout(self.patience(), asked)
            .await
            .unwrap_or(Err(RefusalCode::Busy))
    }

    async fn read(&self, request: Request<Incoming>, limit: usize) -> Result<Bytes, RefusalCode> {
        let body = Limited::new(request.into_body(), limit).collect();
        let collected = tokio::time::timeout(self.patience(), body)
            .await
            .map_err(|_| RefusalCode::TooSlow)?;
        match collected {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(RefusalCode::TooLong),
            Err(_) => Err(RefusalCode::Malformed),
        }
    }

    fn patience(&self) -> Duration {
        self.shared.settings.scale * PATIENCE
    }

    fn refusal(&self, code: RefusalCode) -> Response<Full<Bytes>> {
        let refusal = Refusal {
            code,
            versions: self.shared.settings.versions,
        };
        let body = serde_json::to_vec(&refusal).unwrap_or_default();
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() =
            StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
    }
}
