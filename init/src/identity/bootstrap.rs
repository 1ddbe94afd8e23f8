//! Applying the objects that every cluster has, with server-side apply: as often as one likes, to the same end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use masthead_control_plane::{BootstrapObject, bootstrap_objects};
use masthead_machine::Scale;
use masthead_pki::{AuthorityKind, ClientKey, Roots, issue_kubernetes_admin};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, version};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error_chain::with_sources;

/// The name under which the apiserver remembers who owns the fields.
const FIELD_MANAGER: &str = "masthead";

/// How long one round may take, on a real machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest pause between rounds, on a real machine.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The most of an answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 << 10;

/// Why an object could not be applied.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// No certificate could be made for it.
    #[error("make a certificate to apply objects with")]
    Certificate(#[source] masthead_pki::Error),
    /// The certificate cannot be used for TLS.
    #[error("use the certificate for TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The apiserver does not answer.
    #[error("connect to the apiserver at {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("apply {path}")]
    Exchange {
        /// The object.
        path: String,
        /// Why.
        source: hyper::Error,
    },
    /// The apiserver refused the object.
    #[error("apply {path}: the apiserver answered {status}: {answer}")]
    Refused {
        /// The object.
        path: String,
        /// Its answer's status.
        status: StatusCode,
        /// Its answer.
        answer: String,
    },
    /// It took too long.
    #[error("apply objects: no end within {} s", .0.as_secs())]
    Late(Duration),
}

/// Applies the objects once, at the apiserver at that address. The certificate for it lives as long as this call.
pub async fn apply_bootstrap(
    roots: &Roots,
    address: SocketAddr,
    now: OffsetDateTime,
) -> Result<(), BootstrapError> {
    let connector = connector(roots, now)?;
    let failed = |source| BootstrapError::Connect { address, source };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    let name = ServerName::IpAddress(address.ip().into());
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    let exchange = |path: &str| {
        let path = path.to_owned();
        move |source| BootstrapError::Exchange { path, source }
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(exchange("objects"))?;
    let requests = async move {
        for BootstrapObject { path, object } in bootstrap_objects() {
            let request = Request::builder()
                .method(Method::PATCH)
                .uri(format!("{path}?fieldManager={FIELD_MANAGER}&force=true"))
                .header(HOST, address.to_string())
                // JSON is YAML; this media type is the one that all versions take.
                .header(CONTENT_TYPE, "application/apply-patch+yaml")
                .body(Full::new(Bytes::from(object.to_string())))
                .expect("the paths of our own objects are valid");
            let answer = sender
                .send_request(request)
                .await
                .map_err(exchange(&path))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_LIMIT)
                .collect()
                .await;
            if !status.is_success() {
                let body = body
                    .map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default();
                let answer = String::from_utf8_lossy(&body).into_owned();
                return Err(BootstrapError::Refused {
                    path,
                    status,
                    answer,
                });
            }
        }
        Ok(())
    };
    tokio::pin!(requests);
    tokio::select! {
        done = &mut requests => done,
        // Driven beside the requests; when it ends first, they say why.
        _ = connection => requests.await,
    }
}

/// Applies the objects, again after a pause until it succeeds. To be started when the apiserver is ready.
pub async fn keep_bootstrap_applied(roots: Arc<Roots>, address: SocketAddr, scale: Scale) {
    let (patience, mut pause) = (scale * PATIENCE, scale * Duration::from_millis(500));
    loop {
        let applied = apply_bootstrap(&roots, address, OffsetDateTime::now_utc());
        let error = match tokio::time::timeout(patience, applied).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => BootstrapError::Late(patience),
        };
        tracing::warn!(error = %with_sources(&error), "objects of the cluster are not applied yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(scale * LONGEST_PAUSE);
    }
}

/// A TLS client in `system:masters`: before the first object is applied, nobody else has any right.
fn connector(roots: &Roots, now: OffsetDateTime) -> Result<TlsConnector, BootstrapError> {
    let authority = roots.authority(AuthorityKind::Kubernetes);
    let key = ClientKey::generate().map_err(BootstrapError::Certificate)?;
    let certificate = issue_kubernetes_admin(
        "masthead:bootstrap",
        "system:masters",
        time::Duration::minutes(10),
        &key.public_pem(),
        authority,
        now,
    )
    .map_err(BootstrapError::Certificate)?;
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|error| BootstrapError::Tls(error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(key.private_pem().expose())
        .map_err(|error| BootstrapError::Tls(error.into()))?;
    let mut trusted = RootCertStore::empty();
    trusted
        .add(CertificateDer::from(authority.certificate_der().to_vec()))
        .map_err(|error| BootstrapError::Tls(error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let configuration = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| BootstrapError::Tls(error.into()))?
        .with_root_certificates(trusted)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(|error| BootstrapError::Tls(error.into()))?;
    Ok(TlsConnector::from(Arc::new(configuration)))
}
