//! Those who call: a bounded number of connections, TLS by the identity that the caller asks for, and a conversation.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_peer_protocol::RefusalCode;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::Admission;
use super::conversation::Conversation;
use super::tls::distrust;
use super::trust::{Certified, Distrust};
use super::{PATIENCE, Shared, Sinks};
use crate::error_chain::with_sources;
use crate::serving::accept;

/// How long a peer may stay silent between two requests, on a real machine; it greets every two seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// How long a caller may stay that this node does not deal with, on a real machine.
const STRANGERS_STAY: Duration = Duration::from_secs(30);

/// How often callers in vain are looked through.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// A request's head, in bytes; hyper's least is 8 KiB.
const MAX_HEAD: usize = 8 * 1024;

/// Header lines of a request.
const MAX_HEADERS: usize = 32;

/// Serves connections for ever.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, sinks: Sinks) {
    let listed = shared.settings.listed.iter().map(|listed| listed.address);
    let mut admission = Admission::new(listed);
    let mut forget = tokio::time::interval(FORGET_EVERY);
    loop {
        let (socket, address) = tokio::select! {
            accepted = accept(&listener, "the peer server") => accepted,
            _ = forget.tick() => {
                shared.reports.forget(Instant::now());
                continue;
            }
        };
        // Whoever comes too often is sent away at once: left in the kernel's queue, it would keep peers from their places.
        let Some(place) = admission.enter(Instant::now(), address.ip()) else {
            tracing::debug!(%address, "connections come too often from there");
            continue;
        };
        let (shared, sinks) = (Arc::clone(&shared), sinks.clone());
        tokio::spawn(async move {
            place
                .hold(connection(&shared, &sinks, socket, address))
                .await;
        });
    }
}

async fn connection(shared: &Shared, sinks: &Sinks, socket: TcpStream, address: SocketAddr) {
    let scale = shared.settings.scale;
    let handshake = tokio::time::timeout(scale * PATIENCE, handshake(shared, socket));
    let (stream, certified) = match handshake.await {
        Ok(Ok(whole)) => whole,
        Ok(Err(error)) => {
            tracing::debug!(%address, error = %with_sources(&error), "no TLS with a caller");
            if let Some(distrust) = distrust(&error)
                && !is_of_another_plan(shared, distrust)
            {
                report_distrust(shared, address.ip(), distrust);
            }
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "a caller did not finish its TLS handshake");
            return;
        }
    };
    let conversation = Conversation {
        shared,
        sinks,
        certified,
        address,
        version: OnceLock::new(),
        misunderstood: OnceLock::new(),
    };
    converse(&conversation, stream).await;
    report_conversation(&conversation);
}

/// TLS by the identity that the caller asks for, and who the caller is.
async fn handshake(
    shared: &Shared,
    socket: TcpStream,
) -> std::io::Result<(TlsStream<TcpStream>, Certified)> {
    let _ = socket.set_nodelay(true);
    let identities = shared.identities.borrow().clone();
    let begun = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let identity = identities.named(begun.client_hello().server_name());
    let stream = begun.into_stream(Arc::clone(&identity.server)).await?;
    let certified = match stream.get_ref().1.peer_certificates() {
        Some([certificate, ..]) => identity.judge.judge(certificate),
        _ => Err(Distrust::NoPeer),
    };
    let certified = certified.map_err(std::io::Error::other)?;
    Ok((stream, certified))
}

async fn converse(conversation: &Conversation<'_>, stream: TlsStream<TcpStream>) {
    let shared = conversation.shared;
    let scale = shared.settings.scale;
    let service =
        service_fn(
            |request| async move { Ok::<_, Infallible>(conversation.answer(request).await) },
        );
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also between two requests.
        .header_read_timeout(scale * SILENCE)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let Certified {
        trust,
        subject,
        key,
    } = &conversation.certified;
    loop {
        // Peers may stay. Whether a caller is one may change with what this node is.
        let mut changes = shared.identities.subscribe();
        let known = changes
            .borrow_and_update()
            .access
            .knows(*trust, subject, *key)
            .is_ok();
        let served = tokio::select! {
            served = &mut serving => served,
            () = tokio::time::sleep(scale * STRANGERS_STAY), if !known => return,
            _ = changes.changed() => continue,
        };
        if let Err(error) = served {
            let error = with_sources(&error);
            tracing::debug!(address = %conversation.address, error, "a peer's connection ended early");
        }
        return;
    }
}

/// Whether that is one with another plan than this node, before either founded: it calls again as one who has the seed.
fn is_of_another_plan(shared: &Shared, distrust: &Distrust) -> bool {
    matches!(distrust, Distrust::OtherMember { .. })
        && !shared.identities.borrow().access.is_member()
}

fn report_distrust(shared: &Shared, address: IpAddr, distrust: &Distrust) {
    let cause = format!("A machine at {address} calls and {distrust}.");
    let reason = Reason::new(distrust.code(), Timestamp::now()).with_cause(cause);
    shared.reports.caller(Instant::now(), address, reason);
}

/// Says who called in vain although its certificate is what it shall be.
fn report_conversation(conversation: &Conversation<'_>) {
    let shared = conversation.shared;
    let address = conversation.address.ip();
    let name = &conversation.certified.subject.name;
    let known = shared.identities.borrow().access.knows(
        conversation.certified.trust,
        &conversation.certified.subject,
        conversation.certified.key,
    );
    let (code, matter) = if let Some(reason) = conversation.misunderstood.get() {
        (ReasonCode::PeerNoCommonVersion, reason.to_string())
    } else if known == Err(RefusalCode::NotPinned) {
        (
            ReasonCode::PeerOtherKey,
            "its key is not the one that this node knows it by".to_owned(),
        )
    } else if known == Err(RefusalCode::MembersOnly) {
        (
            ReasonCode::PeerNotMember,
            "it has this cluster's seed, and is no member".to_owned(),
        )
    } else {
        return;
    };
    let cause = format!("A machine \"{name}\" at {address} calls: {matter}.");
    let reason = Reason::new(code, Timestamp::now()).with_cause(cause);
    shared.reports.caller(Instant::now(), address, reason);
}
