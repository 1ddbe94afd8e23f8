//! Asks a service over HTTP whether it is well.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request as HttpRequest, StatusCode, header};
use hyper_util::rt::TokioIo;
use masthead_control_plane::{ClientCertificate, Request};
use masthead_lifecycle::Answer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::error_chain::with_sources;

/// How much of an answer is read, in bytes: the apiserver lists its checks when one fails.
const ANSWER_LIMIT: usize = 16 * 1024;
/// How much of an answer is told, in characters.
const TOLD_LIMIT: usize = 300;

type Connection = SendRequest<Empty<Bytes>>;

/// A service's answer to one question is found here. The connection is kept from one question to
/// the next: a handshake each time would cost more than the rest of an idle supervisor.
#[derive(Debug)]
pub(crate) struct Target {
    request: Request,
    connection: Mutex<Option<Connection>>,
}

/// A service that is not well, or did not say so.
#[derive(Debug)]
pub(crate) struct Unwell {
    /// What it said, or the error.
    pub(crate) said: String,
    /// It was refused to connect: nobody listens there, which needs no second look.
    pub(crate) nobody_listens: bool,
}

/// A service could not be asked.
#[derive(Debug, Error)]
enum ProbeError {
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot read `{path}`")]
    Pem { path: String, source: pem::Error },
    #[error("cannot use the certificates for probes")]
    Certificates(#[from] rustls::Error),
    #[error("no TLS with {address}")]
    Tls {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("no answer from {address}")]
    Http {
        address: SocketAddr,
        source: hyper::Error,
    },
    #[error("`{0}` is no path of a URL")]
    Path(String),
}

impl Target {
    pub(crate) fn new(request: Request) -> Self {
        Self {
            request,
            connection: Mutex::new(None),
        }
    }

    /// Asks once; never takes longer than `timeout`.
    pub(crate) async fn ask(&self, timeout: Duration) -> Answer {
        match self.look(timeout).await {
            Ok(()) => Answer::Healthy,
            Err(unwell) => Answer::Unhealthy(unwell.said),
        }
    }

    /// The same for who has to know whether anybody is there at all.
    pub(crate) async fn look(&self, timeout: Duration) -> Result<(), Unwell> {
        let mut connection = self.connection.lock().await;
        // Taken out, so that one whose answer did not come is not used again.
        let kept = connection.take();
        let (said, nobody_listens) = match tokio::time::timeout(timeout, self.exchange(kept)).await
        {
            Err(_) => (format!("no answer within {timeout:.1?}"), false),
            Ok(Err(error)) => (with_sources(&error), error.is_refusal()),
            Ok(Ok((status, said, reusable))) => {
                *connection = Some(reusable);
                if status.is_success() {
                    return Ok(());
                }
                (format!("{status}: {}", essence(&said)), false)
            }
        };
        Err(Unwell {
            said,
            nobody_listens,
        })
    }

    async fn exchange(
        &self,
        kept: Option<Connection>,
    ) -> Result<(StatusCode, String, Connection), ProbeError> {
        if let Some(kept) = kept
            && let Ok(answer) = self.send(kept).await
        {
            return Ok(answer);
        }
        // The service closed the old one, maybe because it was restarted.
        self.send(self.connect().await?).await
    }

    async fn send(
        &self,
        mut connection: Connection,
    ) -> Result<(StatusCode, String, Connection), ProbeError> {
        let (address, path) = match &self.request {
            Request::Http { address, path } | Request::Https { address, path, .. } => {
                (*address, path)
            }
        };
        let failed = |source| ProbeError::Http { address, source };
        let request = HttpRequest::get(path)
            .header(header::HOST, address.to_string())
            .header(header::USER_AGENT, "masthead-probe")
            .body(Empty::new())
            .map_err(|_| ProbeError::Path(path.clone()))?;
        connection.ready().await.map_err(failed)?;
        let response = connection.send_request(request).await.map_err(failed)?;
        let status = response.status();
        // An answer that is cut off or too long is still an answer; the connection is then closed.
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await;
        let said = body.map(Collected::to_bytes).unwrap_or_default();
        Ok((
            status,
            String::from_utf8_lossy(&said).into_owned(),
            connection,
        ))
    }

    async fn connect(&self) -> Result<Connection, ProbeError> {
        match &self.request {
            Request::Http { address, .. } => talk(*address, tcp(*address).await?).await,
            Request::Https {
                address,
                authority,
                client,
                ..
            } => {
                let address = *address;
                let connector = TlsConnector::from(Arc::new(tls(authority, client)?));
                let name = ServerName::IpAddress(address.ip().into());
                let stream = connector
                    .connect(name, tcp(address).await?)
                    .await
                    .map_err(|source| ProbeError::Tls { address, source })?;
                talk(address, stream).await
            }
        }
    }
}

impl ProbeError {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused)
    }
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, ProbeError> {
    TcpStream::connect(address)
        .await
        .map_err(|source| ProbeError::Connect { address, source })
}

/// Reads the files anew for each connection: they are renewed while services run.
fn tls(authority: &Path, client: &ClientCertificate) -> Result<ClientConfig, ProbeError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| ProbeError::Pem { path, source }
    };
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, ProbeError> {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(failed(path))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate)?;
    }
    let key = PrivateKeyDer::from_pem_file(&client.key).map_err(failed(&client.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&client.certificate)?, key)?)
}

async fn talk<S>(address: SocketAddr, stream: S) -> Result<Connection, ProbeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ProbeError::Http { address, source })?;
    // Ends when the sender is dropped or the service closes; what went wrong the sender tells.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// How the apiserver says no; of its fields the one for people (`metav1.Status`).
#[derive(Deserialize)]
struct KubernetesStatus {
    message: String,
}

/// What people need of an answer: the checks that failed, or the message of a Kubernetes `Status`, or else its first
/// line.
fn essence(said: &str) -> String {
    let status: Option<KubernetesStatus> = serde_json::from_str(said).ok();
    let said = status.as_ref().map_or(said, |status| &status.message);
    let failed: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("[-]"))
        .collect();
    let essence = if failed.is_empty() {
        said.lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("")
            .to_owned()
    } else {
        failed.join(", ")
    };
    essence
        .chars()
        .filter(|character| !character.is_control())
        .take(TOLD_LIMIT)
        .collect()
}

#[cfg(test)]
mod tests;
