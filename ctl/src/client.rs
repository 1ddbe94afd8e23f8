//! Requests to one node.

mod explain;

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use masthead_api::{ApiError, Fingerprint};
use masthead_pki::Description;
use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::config::Node;
use crate::failure::{Failure, chain};
use crate::tls::{Verifier, configuration};

pub use crate::tls::{Credentials, Trust};

/// What every request's body is.
type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// For so long a node may take nothing of what is sent to it, nor answer once it has all: it may have to read an image back from a slow disk.
const STALL: Duration = Duration::from_secs(10 * 60);

/// The longest answer that is read whole, in bytes.
const MAX_ANSWER: usize = 8 << 20;

/// A node, whom to believe there, and who to be.
#[derive(Clone, Debug)]
pub struct Client {
    node: Node,
    tls: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    timeout: Duration,
}

/// A connection whose node has been verified.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    sender: SendRequest<RequestBody>,
    certificate: CertificateDer<'static>,
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(
        node: Node,
        trust: Trust,
        credentials: Option<&Credentials>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        if let Some(credentials) = credentials {
            check_expiry(&credentials.certificate)?;
        }
        let (tls, verifier) = configuration(trust, credentials)?;
        Ok(Self {
            node,
            tls,
            verifier,
            timeout,
        })
    }

    /// The fingerprint of the authority that the node presented last time.
    pub fn presented(&self) -> Option<Fingerprint> {
        self.verifier.presented()
    }

    /// Connects and verifies the node.
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let name = self.node.certificate_name();
        let server_name = ServerName::try_from(name).map_err(|error| {
            Failure::refused(
                self.connect_what(),
                error.to_string(),
                "The name must be a DNS name or an address.",
            )
        })?;
        let connecting = async {
            let (host, port) = self.node.address();
            let socket = TcpStream::connect((host, port)).await?;
            notice_silence(&socket)?;
            TlsConnector::from(self.tls.clone())
                .connect(server_name, socket)
                .await
        };
        let stream = tokio::time::timeout(self.timeout, connecting)
            .await
            .map_err(|_| self.silent(self.connect_what(), self.timeout))?
            .map_err(|error| self.explain(self.connect_what(), &error))?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = certificates.first().cloned().map_or_else(
            || CertificateDer::from(Vec::new()),
            CertificateDer::into_owned,
        );
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.explain(self.connect_what(), &error))?;
        // Its errors come out of the requests on it.
        tokio::spawn(connection);
        Ok(Connection {
            client: self.clone(),
            sender,
            certificate,
        })
    }

    /// One request on a connection of its own, and the whole answer as JSON.
    pub async fn ask<M: Serialize + Sync>(
        &self,
        what: &str,
        path: &str,
        message: Option<&M>,
    ) -> Result<serde_json::Value, Failure> {
        self.connect().await?.ask(what, path, message).await
    }

    fn connect_what(&self) -> String {
        format!("connect to {}", self.node.endpoint)
    }
}

impl Connection {
    /// The node's certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// A request, and its answer if it is a success: `POST` with a message, `GET` without.
    pub async fn send<M: Serialize + Sync>(
        &mut self,
        what: &str,
        path: &str,
        message: Option<&M>,
    ) -> Result<Response<Incoming>, Failure> {
        self.send_within(self.client.timeout, what, path, message)
            .await
    }

    async fn send_within<M: Serialize + Sync>(
        &mut self,
        patience: Duration,
        what: &str,
        path: &str,
        message: Option<&M>,
    ) -> Result<Response<Incoming>, Failure> {
        let client = &self.client;
        let what = || format!("{what} of {}", client.node.endpoint);
        let wrong = |error: &dyn StdError| Failure::new(what(), error, "Report it.");
        let (method, body) = match message {
            Some(message) => (
                Method::POST,
                serde_json::to_vec(message).map_err(|error| wrong(&error))?,
            ),
            None => (Method::GET, Vec::new()),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, client.node.endpoint.as_str())
            .header(CONTENT_TYPE, "application/json")
            .body(
                Full::from(body)
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            )
            .map_err(|error| wrong(&error))?;
        let answer = tokio::time::timeout(patience, self.sender.send_request(request))
            .await
            .map_err(|_| client.silent(what(), patience))?
            .map_err(|error| client.explain(what(), &error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refused(client, what(), answer).await)
    }

    /// Sends the pieces of a file with `PUT`, and awaits the answer for as long as the node takes some of them now and then.
    pub async fn put(
        &mut self,
        what: &str,
        path: &str,
        length: u64,
        pieces: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<serde_json::Value, Failure> {
        let client = &self.client;
        let what = format!("{what} {}", client.node.endpoint);
        let taken = Arc::new(AtomicU64::new(0));
        let body = Pieces {
            pieces,
            taken: Arc::clone(&taken),
        };
        let request = Request::builder()
            .method(Method::PUT)
            .uri(path)
            .header(HOST, client.node.endpoint.as_str())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, length)
            .body(body.boxed_unsync())
            .map_err(|error| Failure::new(&*what, &error, "Report it."))?;
        let sending = self.sender.send_request(request);
        let stalled = async {
            loop {
                let before = taken.load(Ordering::Relaxed);
                tokio::time::sleep(STALL).await;
                if taken.load(Ordering::Relaxed) == before {
                    return;
                }
            }
        };
        let answer = tokio::select! {
            answer = sending => answer.map_err(|error| client.explain(what.clone(), &error))?,
            () = stalled => return Err(client.silent(what, STALL)),
        };
        if !answer.status().is_success() {
            return Err(refused(client, what, answer).await);
        }
        let body = whole(client, what.clone(), answer).await?;
        serde_json::from_slice(&body).map_err(|error| unreadable(&what, &error))
    }

    /// Like [`Connection::send`], with the whole answer as JSON.
    pub async fn ask<M: Serialize + Sync>(
        &mut self,
        what: &str,
        path: &str,
        message: Option<&M>,
    ) -> Result<serde_json::Value, Failure> {
        let answer = self.send(what, path, message).await?;
        self.read(what, answer).await
    }

    /// The same of a node that has much to do before it answers: it reads an image back from its disk.
    pub async fn ask_at_leisure<M: Serialize + Sync>(
        &mut self,
        what: &str,
        path: &str,
        message: &M,
    ) -> Result<serde_json::Value, Failure> {
        let patience = self.client.timeout.max(STALL);
        let answer = self
            .send_within(patience, what, path, Some(message))
            .await?;
        self.read(what, answer).await
    }

    async fn read(
        &self,
        what: &str,
        answer: Response<Incoming>,
    ) -> Result<serde_json::Value, Failure> {
        let what = format!("{what} of {}", self.client.node.endpoint);
        let body = whole(&self.client, what.clone(), answer).await?;
        serde_json::from_slice(&body).map_err(|error| unreadable(&what, &error))
    }

    /// The client's explanation of an error that came while an answer was read.
    pub fn explain(&self, what: &str, error: &hyper::Error) -> Failure {
        self.client
            .explain(format!("{what} of {}", self.client.node.endpoint), error)
    }
}

/// An answer of another shape than this release reads.
pub(crate) fn unreadable(what: &str, error: &serde_json::Error) -> Failure {
    Failure::new(what, error, "Use a mastctl of the node's version.").with_code("unreadable-answer")
}

/// What a node answered instead of doing it.
async fn refused(client: &Client, what: String, answer: Response<Incoming>) -> Failure {
    let status = answer.status();
    let body = match whole(client, what.clone(), answer).await {
        Ok(body) => body,
        Err(failure) => return failure,
    };
    match serde_json::from_slice::<ApiError>(&body) {
        Ok(error) => Failure::answered(what, &error),
        Err(_) => Failure {
            exit: crate::Exit::Failed,
            what,
            why: format!("it answered {status}, and no reason that this mastctl can read"),
            next: "Check that this is a node's management port, and use a mastctl of its version."
                .to_owned(),
            code: "failed".to_owned(),
        },
    }
}

/// Pieces of a channel as a body, and how many bytes of them were taken.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    taken: Arc<AtomicU64>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(context).map(|piece| {
            piece.map(|piece| {
                let piece = piece?;
                self.taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok(Frame::data(piece))
            })
        })
    }
}

async fn whole(
    client: &Client,
    what: String,
    answer: Response<Incoming>,
) -> Result<Bytes, Failure> {
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect();
    match tokio::time::timeout(client.timeout, body).await {
        Err(_) => Err(client.silent(what, client.timeout)),
        Ok(Err(error)) => Err(client.explain(what, &*error)),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// Ends a connection whose node answers nothing for half a minute (tcp(7)): a log that is followed would never end.
fn notice_silence(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    sockopt::set_tcp_user_timeout(socket, 30_000)?;
    sockopt::set_socket_keepalive(socket, true)?;
    Ok(())
}

/// Says at once that a certificate has expired: the node could only close the connection.
fn check_expiry(certificate: &str) -> Result<(), Failure> {
    let what = "use the operator's certificate";
    let description = Description::of_pem(certificate)
        .map_err(|error| Failure::new(what, &error, "Run `mastctl login NODE`."))?;
    if OffsetDateTime::now_utc() < description.not_after {
        return Ok(());
    }
    let at = description
        .not_after
        .format(&Rfc3339)
        .unwrap_or_else(|error| chain(&error));
    Err(Failure::refused(
        what,
        format!("it expired at {at}"),
        "Run `mastctl login NODE`; if that is in the future, this machine's clock is wrong.",
    )
    .with_code("certificate-expired"))
}
