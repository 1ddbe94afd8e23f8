//! Calling a peer: connection, TLS, judgement, greeting.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use masthead_peer_protocol::{
    GREETING, Greeting, JOIN_SERVER_NAME, MAX_ANSWER, MAX_GREETING, MEMBER_SERVER_NAME,
    NoCommonVersion, Refusal, RefusalCode, Route, Version,
};
use masthead_pki::Trust;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::tls::Identities;
use super::trust::{Certified, Distrust};
use super::{PATIENCE, Shared};

/// Why a peer cannot be talked to.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("no TLS")]
    Tls(#[source] io::Error),
    #[error("the other side {0}")]
    Distrusted(Distrust),
    #[error("the exchange broke off")]
    Exchange(#[source] hyper::Error),
    #[error("no answer within {} s", .0.as_secs_f64())]
    Late(std::time::Duration),
    #[error(transparent)]
    Version(NoCommonVersion),
    #[error("the other side refuses: {0}")]
    Refused(RefusalCode),
    #[error("the answer is none of this protocol")]
    Malformed,
    #[error("this node is no member of a founded cluster")]
    NoMember,
}

/// Why a question has no answer.
#[derive(Debug, Error)]
#[error("ask the member at {to}")]
pub struct AskError {
    /// Whom.
    to: SocketAddr,
    /// Why.
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// A connection to a peer that showed what it shall.
#[derive(Debug)]
pub(super) struct Session {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection.
    driver: JoinHandle<()>,
    to: SocketAddr,
    pub(super) certified: Certified,
    /// The last one that the peer said.
    pub(super) greeting: Greeting,
    pub(super) version: Version,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Calls a peer as one with that trust. All of it takes no longer than [`PATIENCE`].
    pub(super) async fn open(
        shared: &Shared,
        identities: &Identities,
        to: SocketAddr,
        trust: Trust,
    ) -> Result<Self, DialError> {
        let patience = shared.settings.scale * PATIENCE;
        tokio::time::timeout(patience, Self::try_open(shared, identities, to, trust))
            .await
            .unwrap_or(Err(DialError::Late(patience)))
    }

    async fn try_open(
        shared: &Shared,
        identities: &Identities,
        to: SocketAddr,
        trust: Trust,
    ) -> Result<Self, DialError> {
        let identity = identities.of(trust).ok_or(DialError::NoMember)?;
        let name = match trust {
            Trust::Join => JOIN_SERVER_NAME,
            Trust::Member => MEMBER_SERVER_NAME,
        };
        let name = ServerName::try_from(name).expect("the names are DNS names");
        let socket = connect(shared.settings.address, to)
            .await
            .map_err(DialError::Connect)?;
        // Messages are small, and each is waited for.
        let _ = socket.set_nodelay(true);
        let stream = TlsConnector::from(Arc::clone(&identity.client))
            .connect(name, socket)
            .await
            .map_err(DialError::Tls)?;
        // Nothing has been sent yet, and nothing is when this fails.
        let certified = match stream.get_ref().1.peer_certificates() {
            Some([certificate, ..]) => identity.judge.judge(certificate),
            _ => Err(Distrust::NoPeer),
        }
        .map_err(DialError::Distrusted)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(DialError::Exchange)?;
        let driver = tokio::spawn(async {
            // Its end shows in the requests.
            let _ = connection.await;
        });
        let greeting = Greeting::new(shared.settings.versions, identities.access.standing());
        let mut session = Self {
            sender,
            driver,
            to,
            certified,
            version: greeting.versions.newest,
            greeting,
        };
        session.greet(shared, identities).await?;
        Ok(session)
    }

    /// Greets, for the first time or again: to see whether the peer is there and what it is now.
    pub(super) async fn greet(
        &mut self,
        shared: &Shared,
        identities: &Identities,
    ) -> Result<(), DialError> {
        let ours = shared.settings.versions;
        let greeting = Greeting::new(ours, identities.access.standing());
        let body = serde_json::to_vec(&greeting).map_err(|_| DialError::Malformed)?;
        let answer = self.exchange(shared, GREETING, body.into()).await?;
        let bytes = accepted(shared, answer, MAX_GREETING).await?;
        let theirs: Greeting = serde_json::from_slice(&bytes).map_err(|_| DialError::Malformed)?;
        self.version = ours.common(theirs.versions).map_err(DialError::Version)?;
        self.greeting = theirs;
        Ok(())
    }

    /// Sends a message or a question, and returns the answer.
    pub(super) async fn post(
        &mut self,
        shared: &Shared,
        route: Route,
        body: Bytes,
    ) -> Result<Bytes, DialError> {
        let path = route.path(self.version);
        let answer = self.exchange(shared, &path, body).await?;
        accepted(shared, answer, MAX_ANSWER).await
    }

    async fn exchange(
        &mut self,
        shared: &Shared,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, DialError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, self.to.to_string())
            .body(Full::new(body))
            .expect("the paths of the protocol are valid");
        let patience = shared.settings.scale * PATIENCE;
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        tokio::time::timeout(patience, exchange)
            .await
            .map_err(|_| DialError::Late(patience))?
            .map_err(DialError::Exchange)
    }
}

/// Connects from the node's own address, whatever others the interface has.
async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match from {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

/// The body of an answer that is no refusal.
async fn accepted(
    shared: &Shared,
    answer: Response<Incoming>,
    limit: usize,
) -> Result<Bytes, DialError> {
    let patience = shared.settings.scale * PATIENCE;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), limit).collect();
    let bytes = tokio::time::timeout(patience, body)
        .await
        .map_err(|_| DialError::Late(patience))?
        .map_err(|_| DialError::Malformed)?
        .to_bytes();
    if status == StatusCode::OK {
        return Ok(bytes);
    }
    let refusal: Refusal = serde_json::from_slice(&bytes).map_err(|_| DialError::Malformed)?;
    let ours = shared.settings.versions;
    Err(match ours.common(refusal.versions) {
        Err(reason) if refusal.code == RefusalCode::NoCommonVersion => DialError::Version(reason),
        _ => DialError::Refused(refusal.code),
    })
}

/// A way to one member, over a connection that is kept for the next question.
#[derive(Debug)]
pub struct Line {
    shared: Arc<Shared>,
    to: SocketAddr,
    /// Of a member that answered the last question.
    session: Option<Session>,
}

impl Line {
    pub(super) fn new(shared: Arc<Shared>, to: SocketAddr) -> Self {
        Self {
            shared,
            to,
            session: None,
        }
    }

    /// Asks the member. Whether it is one is judged anew each time.
    pub async fn ask(&mut self, route: Route, question: Bytes) -> Result<Bytes, AskError> {
        self.try_ask(route, question)
            .await
            .map_err(|error| AskError {
                to: self.to,
                source: error.into(),
            })
    }

    async fn try_ask(&mut self, route: Route, question: Bytes) -> Result<Bytes, DialError> {
        let shared = &self.shared;
        let identities = shared.identities.borrow().clone();
        // Taken: one that failed is not used again.
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::open(shared, &identities, self.to, Trust::Member).await?,
        };
        let Certified {
            trust,
            subject,
            key,
        } = &session.certified;
        identities
            .access
            .knows(*trust, subject, *key)
            .map_err(DialError::Refused)?;
        let answer = session.post(shared, route, question).await?;
        self.session = Some(session);
        Ok(answer)
    }
}
