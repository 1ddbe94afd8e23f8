//! Connections and their bounds.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use masthead_machine::Scale;
use masthead_seed::OperatorKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::caller::{Caller, Operator};
use super::identity::Identity;
use super::login::Login;
use super::node::{Commands, Node};
use super::routes::Routes;
use crate::error_chain::with_sources;
use crate::serving::{Place, Places, Remarks, Shares, accept};

/// Connections of operators at a time, and those of one operator. Nobody takes such a place away from one who has it.
const OPERATORS: (usize, usize) = (48, 16);

/// Unfinished TLS handshakes at a time, and those of one source.
const HANDSHAKES: (usize, usize) = (64, 32);

/// Connections at a time that have finished it without an operator's certificate: logins. And those of one source.
const STRANGERS: (usize, usize) = (32, 16);

/// For the TLS handshake, for a request's head, and for its body.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection without an operator's certificate may last: long enough to log in.
const STRANGERS_STAY: Duration = Duration::from_secs(30);

/// How long a nonce is good.
const NONCE_LIFETIME: Duration = Duration::from_secs(60);

/// A request's head, in bytes; hyper's least is 8 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// Header lines of a request.
const MAX_HEADERS: usize = 64;

/// The management API's server.
pub struct Server {
    identity: watch::Receiver<Arc<Identity>>,
    routes: Routes,
    scale: Scale,
    operators: Shares<OperatorKey>,
    handshakes: Places,
    strangers: Places,
}

impl Server {
    /// A server that is always the latest `identity`, and hands operators' words to `commands`. All its
    /// deadlines are multiplied by `scale`.
    pub fn new(
        identity: watch::Receiver<Arc<Identity>>,
        node: Arc<dyn Node>,
        commands: Commands,
        scale: Scale,
    ) -> Self {
        let login = Login::new(NONCE_LIFETIME.mul_f64(scale.factor()));
        let patience = PATIENCE.mul_f64(scale.factor());
        Self {
            identity,
            routes: Routes {
                node,
                commands,
                login,
                patience,
                remarks: Remarks::new(),
            },
            scale,
            operators: Shares::new(OPERATORS.0, OPERATORS.1),
            handshakes: Places::new(HANDSHAKES.0, HANDSHAKES.1),
            strangers: Places::new(STRANGERS.0, STRANGERS.1),
        }
    }

    /// Serves connections of `listener` until the future is dropped; connections under way go on.
    pub async fn serve(self, listener: TcpListener) {
        let server = Arc::new(self);
        loop {
            let (socket, address) = accept(&listener, "the management API").await;
            let place = server.handshakes.take(address.ip());
            tokio::spawn(server.clone().connection(socket, address, place));
        }
    }

    async fn connection(self: Arc<Self>, socket: TcpStream, address: SocketAddr, place: Place) {
        let identity = self.identity.borrow().clone();
        let handshake = TlsAcceptor::from(identity.tls.clone()).accept(socket);
        let handshake = tokio::time::timeout(self.routes.patience, handshake);
        let stream = match place.hold(handshake).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => {
                if let Some(kept_back) = self.routes.remarks.about(address.ip()) {
                    tracing::info!(%address, error = %with_sources(&error), kept_back, "no TLS with a client");
                }
                return;
            }
            Some(Err(_)) => {
                if let Some(kept_back) = self.routes.remarks.about(address.ip()) {
                    tracing::info!(%address, kept_back, "a client did not finish its TLS handshake");
                }
                return;
            }
            None => {
                tracing::debug!(%address, "an unfinished TLS handshake made room for a newer one");
                return;
            }
        };
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let operator = certificate.and_then(Operator::of);
        let caller = Caller {
            address,
            identity,
            operator,
        };
        if let Ok(operator) = caller.administrator(&self.routes.node.enrolled())
            && let Some(_place) = self.operators.take(operator.key)
        {
            return self.converse(stream, caller).await;
        }
        let place = self.strangers.take(address.ip());
        let stay = STRANGERS_STAY.mul_f64(self.scale.factor());
        // Whatever is under way then is cut: it had three times a request's patience.
        let conversation = tokio::time::timeout(stay, self.converse(stream, caller));
        if place.hold(conversation).await.is_none() {
            tracing::debug!(%address, "a connection without a login made room for a newer one");
        }
    }

    async fn converse(&self, stream: TlsStream<TcpStream>, caller: Caller) {
        let caller = &caller;
        let service = service_fn(|request| async move {
            Ok::<_, Infallible>(self.routes.answer(caller, request).await)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.routes.patience)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%caller, error = %with_sources(&error), "a connection ended early");
        }
    }
}
