//! Seeds that are fetched from a server on this machine's loopback: everything is real but the card, which has its address already.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::LOCATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::seed_source::fetch::{Facts, Uplink};

/// The loopback: nothing is switched on, and nothing set.
pub(super) struct Loopback;

impl Uplinks for Loopback {
    fn with(&self, _: &Wanted, _: Scale, errand: &mut Errand<'_>) -> Result<Vec<u8>, String> {
        let facts = Facts {
            mac: Some(MAC.parse().expect("a MAC address")),
            ..Facts::default()
        };
        errand(Uplink {
            facts,
            ..Uplink::default()
        })
    }
}

/// A web server, for as long as this is there.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _ends: oneshot::Sender<()>,
}

type Answer = Response<Full<Bytes>>;

impl Server {
    fn start(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (ends, ended) = oneshot::channel();
        let notes = Arc::clone(&asked);
        let answer = Arc::new(answer);
        let serving = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (notes, answer) = (Arc::clone(&notes), Arc::clone(&answer));
                let service = service_fn(move |request: Request<_>| {
                    let _: &hyper::body::Incoming = request.body();
                    let path = request.uri().to_string();
                    let answer = answer(&path);
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    notes.push(path);
                    std::future::ready(Ok::<_, std::convert::Infallible>(answer))
                });
                let tls = tls.clone();
                tokio::spawn(async move {
                    let http = http1::Builder::new();
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address,
            asked,
            _ends: ends,
        }
    }

    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

fn with_body(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()))
}

fn with_status(status: u16) -> Answer {
    let answer = Response::builder().status(status);
    answer.body(Full::default()).expect("an answer")
}

fn to(location: &str) -> Answer {
    let answer = Response::builder().status(302).header(LOCATION, location);
    answer.body(Full::default()).expect("an answer")
}

/// An authority, and a server on 127.0.0.1 that it certifies.
fn certified() -> (rcgen::Certificate, Arc<rustls::ServerConfig>) {
    let key = || KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
    let own = key();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let server = server.signed_by(&own, &authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::try_from(own.serialize_der()).expect("a key"),
        );
    let certificate: &rcgen::Certificate = authority.as_ref();
    (certificate.clone(), Arc::new(config.expect("a server")))
}

fn pin() -> String {
    format!("masthead.seed-sha256={}", Hash::of(SEED.as_bytes()))
}

/// A node that has an installed seed to fall back on, which it must not.
fn node(command_line: &str) -> Node {
    let node = Node::new();
    node.installed("vda", true, SEED);
    node.write("proc/cmdline", format!("quiet {command_line}\n"));
    node
}

/// What a node that fetches nothing says.
fn failure(node: &Node) -> String {
    unfetched(&node.look())
}

fn unfetched(outcome: &Outcome) -> String {
    assert!(outcome.found.is_none(), "{:?}", outcome.attempts);
    let reason = waiting_for(&outcome.attempts, Timestamp::now()).expect("it waits");
    assert_eq!(reason.code, ReasonCode::SeedUnreachable);
    reason.cause
}

#[test]
fn a_seed_comes_by_tls_from_a_server_that_the_given_authority_certifies() {
    let (authority, tls) = certified();
    let server = Server::start(Some(tls), |_| with_body(SEED));
    let address = format!("https://{}/${{mac}}.toml?token=7", server.address);
    let base64 = STANDARD.encode(authority.der());
    for ca in [base64.as_str(), "/ca.pem", "usb:/tls/ca.pem"] {
        let node = node(&format!("masthead.seed={address} masthead.seed-ca={ca}"));
        node.write("ca.pem", authority.pem());
        node.volume("vdd", "USB", "tls/ca.pem", &authority.pem());
        let source = format!(
            "kernel command line masthead.seed=https://{}/${{mac}}.toml?…",
            server.address
        );
        assert_eq!(node.found().0, Some(source), "{ca}: {}", node.found().1);
    }
    assert_eq!(server.asked()[0], format!("/{MAC}.toml?token=7"));

    let (other, _) = certified();
    let asked = server.asked().len();
    for (ca, why) in [
        (
            String::new(),
            "no TLS: invalid peer certificate: UnknownIssuer",
        ),
        (
            format!("masthead.seed-ca={}", STANDARD.encode(other.der())),
            "no TLS: invalid peer certificate: ",
        ),
        (
            "masthead.seed-ca=/none.pem".to_owned(),
            "masthead.seed-ca=/none.pem: not there",
        ),
        (
            "masthead.seed-ca=MII".to_owned(),
            "masthead.seed-ca=MII is neither /PATH nor LABEL:/PATH nor base64",
        ),
    ] {
        let failure = failure(&node(&format!("masthead.seed={address} {ca}")));
        assert!(failure.contains(why), "{failure}");
    }
    assert_eq!(server.asked().len(), asked, "it was asked without TLS");
}

#[test]
fn a_seed_comes_by_http_if_its_digest_is_given_and_is_not_asked_for_otherwise() {
    let server = Server::start(None, |_| with_body(SEED));
    let address = format!("masthead.seed=http://{}/seed.toml", server.address);
    let pinned = node(&format!(
        "{address} {}",
        pin()
            .to_ascii_uppercase()
            .replace("MASTHEAD.SEED-SHA", "masthead.seed-sha")
    ));
    assert!(pinned.found().0.is_some(), "{}", pinned.found().1);
    assert_eq!(server.asked(), ["/seed.toml"]);
    let failure_without = failure(&node(&address));
    assert!(
        failure_without.contains("over http anybody on the way can read the seed"),
        "{failure_without}"
    );
    let short = failure(&node(&format!("{address} masthead.seed-sha256=abc")));
    assert!(short.contains("has not 64 hexadecimal digits"), "{short}");
    assert_eq!(server.asked().len(), 1, "it was asked all the same");
}

#[test]
fn what_a_server_does_wrong_is_said_and_no_older_seed_is_taken() {
    let server = Server::start(None, |path| match path {
        missing if missing.starts_with("/missing") => with_status(404),
        "/other" => with_body(format!("{SEED}\n# another one")),
        "/large" => with_body(vec![b'#'; 300 * 1024]),
        "/circle" => to("/circle"),
        "/nowhere" => with_status(302),
        "/elsewhere" => to("ftp://127.0.0.1/"),
        "/moved" => to("/seed.toml"),
        _ => with_body(SEED),
    });
    let at = |path: &str| {
        node(&format!(
            "masthead.seed=http://{}{path} {}",
            server.address,
            pin()
        ))
    };
    assert!(at("/moved").found().0.is_some());
    for (path, why) in [
        ("/missing", "the server answers 404 Not Found"),
        ("/other", "and masthead.seed-sha256= says"),
        ("/large", "it is larger than 256 KiB"),
        ("/circle", "it redirects more than 5 times"),
        ("/nowhere", "it answers 302 Found, and not where to"),
        (
            "/elsewhere",
            "it redirects to ftp://127.0.0.1/: write https:// or http:// and a host",
        ),
        ("/${name}", "`${name}` is not known"),
        ("/${hostname}", "this machine has no host name"),
    ] {
        let failure = failure(&at(path));
        let source = "kernel command line masthead.seed=http://127.0.0.1:";
        assert!(
            failure.starts_with(source) && failure.contains(why),
            "{path}: {failure}"
        );
    }
    let missing = failure(&at("/missing?${mac}"));
    let expected = format!(
        "http://{}/missing?…: the server answers 404",
        server.address
    );
    assert!(missing.contains(&expected), "{missing}");
    let address = server.address;
    drop(server);
    let gone = failure(&node(&format!("masthead.seed=http://{address}/ {}", pin())));
    assert!(gone.contains("cannot be fetched: no "), "{gone}");
}

/// From a server that is believed by TLS to one that would have to be believed by nothing.
#[test]
fn a_redirect_to_plain_http_is_not_followed() {
    let plain = Server::start(None, |_| with_body(SEED));
    let location = format!("http://{}/seed.toml", plain.address);
    let (authority, tls) = certified();
    let server = Server::start(Some(tls), move |_| to(&location));
    let ca = STANDARD.encode(authority.der());
    let line = format!(
        "masthead.seed=https://{}/ masthead.seed-ca={ca}",
        server.address
    );
    let failure = failure(&node(&line));
    assert!(
        failure.contains("over http anybody on the way"),
        "{failure}"
    );
    assert_eq!(plain.asked(), [""; 0]);
}

/// One that says nothing, one that sends a byte now and then, one that stops in the middle, and one that is none of the web.
#[test]
fn a_server_that_does_not_come_to_an_end_is_given_up() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nver";
    for (says, drips, why) in [
        (&[][..], false, "it took longer than"),
        (ANSWER, true, "it took longer than"),
        (ANSWER, false, "it broke off"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", false, "no answer: "),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(says);
            while drips && stream.write_all(b"s").is_ok() {
                thread::sleep(Duration::from_millis(500));
            }
            if says.is_empty() {
                // Until the other side goes.
                let _ = stream.read(&mut request);
            }
        });
        let node = node(&format!("masthead.seed=http://{address}/ {}", pin()));
        let begun = Instant::now();
        // A tenth of a minute, and of the ten seconds for a connection.
        let failure = unfetched(&node.look_for(0.1));
        assert!(failure.contains(why), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn a_fetched_seed_that_is_wrong_has_lines_and_columns() {
    let wrong = SEED.replace("version  = 1", "version  = 7");
    let digest = Hash::of(wrong.as_bytes());
    let server = Server::start(None, move |_| with_body(wrong.clone()));
    let line = format!(
        "masthead.seed=http://{}/seed.toml masthead.seed-sha256={digest}",
        server.address
    );
    let outcome = node(&line).look();
    assert!(outcome.found.is_none());
    let reason = waiting_for(&outcome.attempts, Timestamp::now()).expect("it waits");
    assert_eq!(reason.code, ReasonCode::SeedInvalid);
    assert!(
        reason.cause.contains("/seed.toml:2:12: error: version 7"),
        "{}",
        reason.cause
    );
}

#[test]
fn nocloud_has_the_seed_in_its_user_data() {
    let server = Server::start(None, |_| with_body(SEED));
    for words in [
        "ds=nocloud;s=http://SERVER/m1/",
        "\"ds=nocloud-net;i=7;seedfrom=http://SERVER/m1\"",
    ] {
        let words = words.replace("SERVER", &server.address.to_string());
        let node = node(&format!("{words} {}", pin()));
        let source = format!(
            "kernel command line ds=nocloud;s=http://{}/m1/user-data",
            server.address
        );
        assert_eq!(node.found().0, Some(source), "{}", node.found().1);
    }
    assert_eq!(server.asked(), ["/m1/user-data"; 2]);
    // Without an address it means a volume, which is looked for anyhow.
    let node = node("ds=nocloud;i=7");
    assert!(
        node.found()
            .0
            .is_some_and(|source| source.starts_with("installed seed ("))
    );
}

/// What `ip=` says wrong is said before anybody is asked.
#[test]
fn a_wrong_ip_parameter_is_refused() {
    let node = node(&format!(
        "masthead.seed=http://127.0.0.1:9/ {} ip=10.0.2.15",
        pin()
    ));
    assert!(failure(&node).contains("ip=10.0.2.15: `10.0.2.15` is not known here"));
}
