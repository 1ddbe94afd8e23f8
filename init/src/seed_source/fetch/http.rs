//! Fetching a seed over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use masthead_machine::Scale;
use masthead_seed::{Hash, SEED_LIMIT};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error_chain::with_sources;

use super::names::addresses;
use super::template::Place;

/// All of it: names, connections, redirects and the last byte. A server that sends a byte a minute is one that fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until one address has taken the connection.
const TO_CONNECT: Duration = Duration::from_secs(10);
/// So many redirects are followed.
const REDIRECTS: u32 = 5;

/// By what a seed that is fetched is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    /// Of the file, in 64 small hexadecimal digits.
    pub(super) sha256: Option<String>,
    /// Who certifies the server; without any, the authorities that browsers trust.
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

/// What is used to get there.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// Name servers.
    pub(super) dns: Vec<SocketAddr>,
    /// Whether the machine's address is of IPv6.
    pub(super) is_ipv6: bool,
    pub(super) scale: Scale,
}

/// Whether a place may be asked at all: what comes without TLS and without a digest, anybody on the way may have written.
pub(super) fn must_be_believable(place: &Place, trust: &Trust) -> Result<(), String> {
    if place.is_tls || trust.sha256.is_some() {
        return Ok(());
    }
    Err(
        "over http anybody on the way can read the seed, and write another one: use https, or say what it is by \
         masthead.seed-sha256="
            .to_owned(),
    )
}

/// Fetches the file.
pub(super) async fn fetch(place: Place, trust: &Trust, way: &Way) -> Result<Bytes, String> {
    let patience = way.scale * PATIENCE;
    let bytes = timeout(patience, follow(place, trust, way))
        .await
        .unwrap_or_else(|_| Err(format!("it took longer than {} s", patience.as_secs())))?;
    if let Some(expected) = &trust.sha256 {
        let hash = Hash::of(&bytes).to_string();
        if hash != *expected {
            return Err(format!(
                "its SHA-256 is {hash}, and masthead.seed-sha256= says {expected}"
            ));
        }
    }
    Ok(bytes)
}

async fn follow(mut place: Place, trust: &Trust, way: &Way) -> Result<Bytes, String> {
    for _ in 0..=REDIRECTS {
        must_be_believable(&place, trust)?;
        let answer = ask(&place, trust, way).await?;
        match answer.status() {
            StatusCode::OK => return body(answer).await,
            status if status.is_redirection() => {
                let location = answer.headers().get(LOCATION);
                let location = location.and_then(|location| location.to_str().ok());
                let location =
                    location.ok_or_else(|| format!("it answers {status}, and not where to"))?;
                place = place.redirected(location)?;
            }
            status => return Err(format!("the server answers {status}")),
        }
    }
    Err(format!("it redirects more than {REDIRECTS} times"))
}

async fn body(answer: Response<Incoming>) -> Result<Bytes, String> {
    let collected = Limited::new(answer.into_body(), SEED_LIMIT).collect().await;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(format!("it is larger than {} KiB", SEED_LIMIT / 1024))
        }
        Err(error) => Err(format!("it broke off: {}", with_sources(error.as_ref()))),
    }
}

async fn ask(place: &Place, trust: &Trust, way: &Way) -> Result<Response<Incoming>, String> {
    let found = addresses(&place.host, &way.dns, way.is_ipv6, way.scale).await?;
    let stream = connect(&found, place.port, way.scale).await?;
    if !place.is_tls {
        return exchange(stream, place).await;
    }
    let name = ServerName::try_from(place.host.clone())
        .map_err(|_| format!("{} can be in no certificate", place.host))?;
    let stream = TlsConnector::from(Arc::new(tls(trust)?))
        .connect(name, stream)
        .await
        .map_err(|error| format!("no TLS: {}", with_sources(&error)))?;
    exchange(stream, place).await
}

fn tls(trust: &Trust) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if trust.authorities.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for authority in &trust.authorities {
        let added = roots.add(authority.clone());
        added.map_err(|error| format!("masthead.seed-ca= is no authority: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn connect(addresses: &[IpAddr], port: u16, scale: Scale) -> Result<TcpStream, String> {
    let mut failures = Vec::new();
    for address in addresses {
        let to = SocketAddr::new(*address, port);
        match timeout(scale * TO_CONNECT, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failures.push(format!("{to}: {error}")),
            Err(_) => failures.push(format!("{to} does not answer")),
        }
    }
    Err(format!("no connection to {}", failures.join(", ")))
}

async fn exchange<S>(stream: S, place: &Place) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("no answer: {}", with_sources(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Its end shows in the answer; the runtime that it is on ends with the fetch.
    tokio::spawn(async {
        let _ = connection.await;
    });
    let request = Request::get(&place.path)
        .header(HOST, place.authority())
        .header(USER_AGENT, concat!("Masthead/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("it cannot be asked for: {error}"))?;
    sender.send_request(request).await.map_err(failed)
}
