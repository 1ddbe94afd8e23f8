//! Whole transports on loopback, each at an address of its own, with real TLS between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use masthead_api::ReasonCode;
use masthead_machine::Scale;
use masthead_peer_protocol::{
    GREETING, Greeting, JOIN_SERVER_NAME, MAX_MESSAGE, MEMBER_SERVER_NAME, Refusal, RefusalCode,
    Standing, Versions,
};
use masthead_pki::{Authority, AuthorityKind, PeerAuthority, PeerKey};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;

const CLUSTER_ID: &str = "0123456789abcdef0123456789abcdef";

/// For anything that should happen: only a failing test waits that long.
const LONG: Duration = Duration::from_secs(60);

fn secret(number: u8) -> masthead_seed::Secret {
    let mut bytes = [0; 32];
    for (index, byte) in (0u8..).zip(&mut bytes) {
        let spread = index.wrapping_mul(index).wrapping_mul(113);
        *byte = spread.wrapping_add(index.wrapping_mul(41)) ^ number;
    }
    masthead_seed::Secret::generate(bytes).unwrap()
}

/// One of the addresses of loopback.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 77, number).into()
}

/// A port that is free at all the addresses used here.
async fn listeners(numbers: &[u8]) -> (u16, Vec<TcpListener>) {
    'ports: loop {
        let first = TcpListener::bind((address(numbers[0]), 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for number in &numbers[1..] {
            match TcpListener::bind((address(*number), port)).await {
                Ok(listener) => listeners.push(listener),
                Err(_) => continue 'ports,
            }
        }
        return (port, listeners);
    }
}

/// What is different about a node from one with the right seed.
struct Plan {
    number: u8,
    secret: u8,
    cluster: &'static str,
    versions: Versions,
    lists: Vec<u8>,
    access: Access,
    key: Arc<PeerKey>,
    scale: f64,
}

impl Plan {
    fn new(number: u8, lists: &[u8]) -> Self {
        Self {
            number,
            secret: 0,
            cluster: "lab",
            versions: Versions::of_release(2),
            lists: lists.to_vec(),
            access: Access::fresh(),
            key: Arc::new(PeerKey::generate().unwrap()),
            scale: 1.0,
        }
    }

    fn settings(&self, port: u16) -> Settings {
        Settings {
            cluster: self.cluster.to_owned(),
            subject: PeerSubject {
                machine_id: machine_id(self.number),
                name: format!("m{}", self.number),
            },
            key: Arc::clone(&self.key),
            address: address(self.number),
            join: PeerAuthority::join(&secret(self.secret), self.cluster).unwrap(),
            listed: self
                .lists
                .iter()
                .map(|number| Listed {
                    name: format!("m{number}"),
                    address: address(*number),
                })
                .collect(),
            port,
            versions: self.versions,
            scale: Scale::new(self.scale).unwrap(),
        }
    }
}

struct Node {
    handle: Handle,
    inbox: Inbox,
}

/// Starts them, all on one port.
async fn start<const COUNT: usize>(plans: [Plan; COUNT]) -> [Node; COUNT] {
    let numbers = plans.each_ref().map(|plan| plan.number);
    let (port, listeners) = listeners(&numbers).await;
    let mut listeners = listeners.into_iter();
    plans.map(|plan| {
        let settings = plan.settings(port);
        let listener = listeners.next().unwrap();
        let (handle, inbox) = spawn(listener, settings, plan.access).unwrap();
        Node { handle, inbox }
    })
}

fn machine_id(number: u8) -> String {
    format!("{number:032x}")
}

fn peers_authority() -> Authority {
    let now = time::OffsetDateTime::UNIX_EPOCH;
    Authority::generate(AuthorityKind::Peers, CLUSTER_ID, now).unwrap()
}

fn membership<'a>(
    authority: &Authority,
    members: impl IntoIterator<Item = (u8, &'a PeerKey)>,
) -> Membership {
    Membership {
        cluster_id: CLUSTER_ID.to_owned(),
        authority: PeerAuthority::member(authority),
        members: members
            .into_iter()
            .map(|(number, key)| (machine_id(number), Some(key.fingerprint())))
            .collect(),
    }
}

impl Node {
    /// Waits until the report is so.
    async fn sees(&self, what: &str, so: impl Fn(&Report) -> bool) -> Report {
        let mut reports = self.handle.watch();
        let seen = tokio::time::timeout(LONG, reports.wait_for(|report| so(report))).await;
        if let Ok(report) = seen {
            return report.unwrap().clone();
        }
        panic!("not seen: {what}; {:#?}", self.handle.watch().borrow())
    }

    async fn sees_peer(&self, code: &ReasonCode) -> String {
        let is = |reason: &masthead_api::Reason| reason.code == *code;
        let report = self
            .sees(code.as_str(), |report| {
                report.peers[0].reason.as_ref().is_some_and(is)
            })
            .await;
        report.peers[0].reason.as_ref().unwrap().cause.clone()
    }

    async fn sees_caller(&self, code: &ReasonCode) -> String {
        let is = |caller: &report::CallerReport| caller.reason.code == *code;
        let report = self
            .sees(code.as_str(), |report| report.callers.iter().any(is))
            .await;
        let caller = report.callers.into_iter().find(is).unwrap();
        caller.reason.cause
    }

    async fn connected(&self) -> Connected {
        let report = self
            .sees("a connection", |report| {
                report.peers[0].connected.is_some() && report.peers[0].reason.is_none()
            })
            .await;
        report.peers[0].connected.clone().unwrap()
    }

    /// The next message that comes in.
    async fn receives(&mut self) -> Received {
        let received = tokio::time::timeout(LONG, self.inbox.formation.recv()).await;
        received.expect("a message in time").unwrap()
    }

    /// Sends until it has arrived, as a formation machine does.
    async fn tells(&self, to: &mut Self, text: &'static str) -> Received {
        let receiver = to.handle.shared.settings.address;
        loop {
            self.handle.send(receiver, None, text);
            let received = to.inbox.formation.recv();
            match tokio::time::timeout(Duration::from_millis(500), received).await {
                Ok(Some(received)) if received.bytes == text => return received,
                _ => {}
            }
        }
    }

    fn place(&self) -> SocketAddr {
        let settings = &self.handle.shared.settings;
        SocketAddr::new(settings.address, settings.port)
    }
}

/// A client of TLS that says whatever the test wants, as the node of that plan would.
struct Raw(http1::SendRequest<Full<Bytes>>);

impl Raw {
    async fn open(plan: &Plan, to: SocketAddr, server_name: &'static str) -> Self {
        let identities = Identities::new(&plan.settings(to.port()), plan.access.clone()).unwrap();
        let identity = identities.named(Some(server_name));
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(address(plan.number), 0))
            .unwrap();
        let stream = TlsConnector::from(Arc::clone(&identity.client))
            .connect(
                ServerName::try_from(server_name).unwrap(),
                socket.connect(to).await.unwrap(),
            )
            .await
            .unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> hyper::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "peer")
            .body(Full::new(body.into()))
            .unwrap();
        self.0.ready().await?;
        let answer = self.0.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    async fn greet(&mut self, versions: Versions) -> Greeting {
        let greeting = serde_json::to_vec(&Greeting::new(versions, Standing::Founding)).unwrap();
        let (status, answer) = self.ask(Method::POST, GREETING, greeting).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&answer).unwrap()
    }

    async fn refused(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> RefusalCode {
        let (status, answer) = self.ask(method, path, body).await.unwrap();
        let refusal: Refusal = serde_json::from_slice(&answer).unwrap();
        assert_eq!(status.as_u16(), refusal.code.http_status());
        refusal.code
    }
}

#[tokio::test]
async fn who_has_the_seed_is_heard_and_known_by_its_key() {
    let [first, mut second] = start([Plan::new(1, &[2]), Plan::new(2, &[1])]).await;
    let received = first.tells(&mut second, "hello").await;
    assert_eq!(received.from.subject.machine_id, machine_id(1));
    assert_eq!(received.from.subject.name, "m1");
    assert_eq!(received.from.key, first.handle.fingerprint());
    assert_eq!(received.from.trust, Trust::Join);
    assert_eq!(received.from.address.ip(), address(1));
    let connected = first.connected().await;
    assert_eq!(connected.key, second.handle.fingerprint());
    assert_eq!(connected.standing, Standing::Founding);
}

#[tokio::test]
async fn another_secret_is_refused_and_both_sides_say_so() {
    let other = Plan {
        secret: 9,
        ..Plan::new(2, &[1])
    };
    let [first, second] = start([Plan::new(1, &[2]), other]).await;
    for node in [first, second] {
        let cause = node.sees_peer(&ReasonCode::PeerOtherSecret).await;
        assert!(cause.contains("another secret"), "{cause}");
    }
}

#[tokio::test]
async fn another_cluster_is_refused_and_both_sides_name_it() {
    let other = Plan {
        cluster: "kitchen",
        ..Plan::new(2, &[1])
    };
    let [first, second] = start([Plan::new(1, &[2]), other]).await;
    let cause = first.sees_peer(&ReasonCode::PeerOtherCluster).await;
    assert!(cause.contains("m2") && cause.contains("kitchen"), "{cause}");
    let cause = second.sees_peer(&ReasonCode::PeerOtherCluster).await;
    assert!(cause.contains("\"lab\""), "{cause}");
}

#[tokio::test]
async fn who_calls_in_vain_from_an_unknown_address_is_named_by_the_one_called() {
    let other_secret = Plan {
        secret: 9,
        ..Plan::new(2, &[1])
    };
    let other_version = Plan {
        versions: Versions::of_release(7),
        ..Plan::new(3, &[1])
    };
    let [first, second, third] = start([Plan::new(1, &[]), other_secret, other_version]).await;
    let cause = first.sees_caller(&ReasonCode::PeerOtherSecret).await;
    assert!(cause.contains("127.0.77.2"), "{cause}");
    second.sees_peer(&ReasonCode::PeerOtherSecret).await;
    let cause = first.sees_caller(&ReasonCode::PeerNoCommonVersion).await;
    assert!(cause.contains("127.0.77.3"), "{cause}");
    third.sees_peer(&ReasonCode::PeerNoCommonVersion).await;
}

#[tokio::test]
async fn neighbouring_releases_speak_the_version_of_the_older_one() {
    let newer = Plan {
        versions: Versions::of_release(3),
        ..Plan::new(2, &[1])
    };
    let [mut first, mut second] = start([Plan::new(1, &[2]), newer]).await;
    let received = first.tells(&mut second, "from the older one").await;
    assert_eq!(received.from.version, Version(2));
    let received = second.tells(&mut first, "from the newer one").await;
    assert_eq!(received.from.version, Version(2));
    assert_eq!(first.connected().await.version, Version(2));
}

#[tokio::test]
async fn releases_too_far_apart_say_which_versions_they_speak() {
    let newer = Plan {
        versions: Versions::of_release(4),
        ..Plan::new(2, &[1])
    };
    let [first, second] = start([Plan::new(1, &[2]), newer]).await;
    let cause = first.sees_peer(&ReasonCode::PeerNoCommonVersion).await;
    assert!(
        cause.contains("this node speaks versions 1 to 2")
            && cause.contains("the other one 3 to 4"),
        "{cause}"
    );
    let cause = second.sees_peer(&ReasonCode::PeerNoCommonVersion).await;
    assert!(
        cause.contains("this node speaks versions 3 to 4")
            && cause.contains("the other one 1 to 2"),
        "{cause}"
    );
}

#[tokio::test]
async fn a_silent_address_is_unreachable_until_it_speaks() {
    let (port, mut listeners) = listeners(&[1, 2]).await;
    drop(listeners.pop());
    let settings = |plan: Plan| plan.settings(port);
    let (handle, inbox) = spawn(
        listeners.pop().unwrap(),
        settings(Plan::new(1, &[2])),
        Access::fresh(),
    )
    .unwrap();
    let first = Node { handle, inbox };
    let cause = first.sees_peer(&ReasonCode::PeerUnreachable).await;
    assert!(cause.contains("m2"), "{cause}");
    let listener = TcpListener::bind((address(2), port)).await.unwrap();
    let _second = spawn(listener, settings(Plan::new(2, &[1])), Access::fresh()).unwrap();
    first.connected().await;
}

#[tokio::test]
async fn members_know_each_other_by_the_cluster_s_own_authority() {
    let authority = peers_authority();
    let (mut first, mut second) = (Plan::new(1, &[2]), Plan::new(2, &[1]));
    let founded = membership(&authority, [(1, &*first.key), (2, &*second.key)]);
    // One has started, the other has persisted the plan and waits for the word to go.
    first.access = Access::Member(founded.clone());
    second.access = Access::Founding {
        pinned: Some(BTreeSet::new()),
        planned: Some(founded),
    };
    let [first, mut second] = start([first, second]).await;
    let received = first.tells(&mut second, "go").await;
    assert_eq!(received.from.trust, Trust::Member);
    assert_eq!(first.connected().await.trust, Trust::Member);

    let asked = first
        .handle
        .ask(second.place(), Route::Status, "how are you?");
    let answered = async {
        let question = second.inbox.questions.recv().await.unwrap();
        assert_eq!(question.route, Route::Status);
        assert_eq!(question.from.subject.name, "m1");
        assert_eq!(question.bytes, "how are you?");
        question.answer.send("well".into()).unwrap();
    };
    let (answer, ()) = tokio::join!(asked, answered);
    assert_eq!(answer.unwrap(), "well");
}

/// As after a planner was wiped that one had acknowledged a plan of: the newer plan has to reach the older one's holder.
#[tokio::test]
async fn holders_of_different_plans_go_on_by_the_seed() {
    let (mut first, mut second) = (Plan::new(1, &[2]), Plan::new(2, &[1]));
    for (number, plan) in [(1, &mut first), (2, &mut second)] {
        let planned = Membership {
            cluster_id: format!("{number:032x}"),
            ..membership(&peers_authority(), [(number, &*plan.key)])
        };
        plan.access = Access::Founding {
            pinned: None,
            planned: Some(planned),
        };
    }
    let [mut first, mut second] = start([first, second]).await;
    let received = first.tells(&mut second, "a newer plan").await;
    assert_eq!(received.from.trust, Trust::Join);
    second.tells(&mut first, "acknowledged").await;
    assert_eq!(first.connected().await.trust, Trust::Join);
}

#[tokio::test]
async fn a_member_is_let_in_by_machine_id_and_key() {
    let authority = peers_authority();
    let mut server = Plan::new(1, &[]);
    let (member, mut removed, mut copy) = (Plan::new(2, &[]), Plan::new(3, &[]), Plan::new(2, &[]));
    let founded = membership(&authority, [(1, &*server.key), (2, &*member.key)]);
    server.access = Access::Member(founded.clone());
    removed.access = Access::Member(founded.clone());
    copy.access = Access::Member(founded.clone());
    let member = Plan {
        access: Access::Member(founded),
        ..member
    };
    let [mut server] = start([server]).await;
    let path = Route::Formation.path(Version(2));
    for (plan, expected) in [
        (&removed, Some(RefusalCode::MembersOnly)),
        (&copy, Some(RefusalCode::NotPinned)),
        (&member, None),
    ] {
        let mut raw = Raw::open(plan, server.place(), MEMBER_SERVER_NAME).await;
        raw.greet(plan.versions).await;
        if let Some(code) = expected {
            assert_eq!(raw.refused(Method::POST, &path, "x").await, code);
            continue;
        }
        let (status, _) = raw.ask(Method::POST, &path, "x").await.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(server.receives().await.bytes, "x");
    }
}

#[tokio::test]
async fn a_stranger_with_the_seed_gets_nothing_from_a_founded_cluster() {
    let authority = peers_authority();
    let (mut server, stranger) = (Plan::new(1, &[]), Plan::new(2, &[]));
    server.access = Access::Member(membership(&authority, [(1, &*server.key)]));
    let [mut server] = start([server]).await;
    let mut paths: Vec<String> = ["/", "/v1/status", "/v2/peer/", "/metrics", "*"]
        .map(str::to_owned)
        .into();
    for route in Route::ALL {
        paths.extend((0..4).map(|version| route.path(Version(version))));
    }
    let mut raw = Raw::open(&stranger, server.place(), JOIN_SERVER_NAME).await;
    let greeting = raw.greet(stranger.versions).await;
    // All that it learns.
    assert_eq!(
        serde_json::to_value(&greeting).unwrap(),
        serde_json::json!({
            "versions": { "oldest": 1, "newest": 2 },
            "standing": { "state": "member", "cluster": "01234567" },
        })
    );
    for path in &paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            let code = raw.refused(method.clone(), path, "x").await;
            assert_eq!(code, RefusalCode::MembersOnly, "{method} {path}");
        }
    }
    let code = raw.refused(Method::GET, GREETING, "").await;
    assert_eq!(code, RefusalCode::MembersOnly);
    // As a member it does not even get through TLS.
    let mut raw = Raw::open(&stranger, server.place(), MEMBER_SERVER_NAME).await;
    assert!(raw.ask(Method::POST, GREETING, "{}").await.is_err());
    assert!(server.inbox.formation.try_recv().is_err());
    assert!(server.inbox.questions.try_recv().is_err());
}

#[tokio::test]
async fn who_has_the_seed_takes_part_in_founding_and_in_nothing_else() {
    let plan = Plan::new(2, &[]);
    let [mut server] = start([Plan::new(1, &[])]).await;
    let mut raw = Raw::open(&plan, server.place(), JOIN_SERVER_NAME).await;
    let [formation, status] = [Route::Formation, Route::Status].map(|route| route.path(Version(2)));
    assert_eq!(
        raw.refused(Method::POST, &formation, "early").await,
        RefusalCode::OutOfOrder
    );
    raw.greet(plan.versions).await;
    for (method, path, expected) in [
        (Method::POST, &*status, RefusalCode::MembersOnly),
        (Method::GET, &*formation, RefusalCode::OutOfOrder),
        (Method::POST, "/v1/peer/formation", RefusalCode::OutOfOrder),
        (Method::POST, "/v2/peer/unknown", RefusalCode::NoSuchPath),
    ] {
        assert_eq!(raw.refused(method, path, "x").await, expected, "{path}");
    }
    let (status, _) = raw.ask(Method::POST, &formation, "x").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.receives().await.bytes, "x");
}

#[tokio::test]
async fn founding_goes_on_with_pinned_keys_only() {
    let (pinned, other) = (Plan::new(2, &[]), Plan::new(3, &[]));
    let server = Plan {
        access: Access::Founding {
            pinned: Some(BTreeSet::from([pinned.key.fingerprint()])),
            planned: None,
        },
        ..Plan::new(1, &[])
    };
    let [server] = start([server]).await;
    let path = Route::Formation.path(Version(2));
    let mut raw = Raw::open(&other, server.place(), JOIN_SERVER_NAME).await;
    raw.greet(other.versions).await;
    assert_eq!(
        raw.refused(Method::POST, &path, "x").await,
        RefusalCode::NotPinned
    );
    let mut raw = Raw::open(&pinned, server.place(), JOIN_SERVER_NAME).await;
    raw.greet(pinned.versions).await;
    let (status, _) = raw.ask(Method::POST, &path, "x").await.unwrap();
    assert_eq!(status, StatusCode::OK);

    // From now on it is founded: also for a connection that there is.
    let authority = peers_authority();
    let founded = Access::Member(membership(&authority, []));
    server.handle.set_access(founded).unwrap();
    assert_eq!(
        raw.refused(Method::POST, &path, "x").await,
        RefusalCode::MembersOnly
    );
}

#[tokio::test]
async fn a_message_for_one_key_goes_to_nobody_else() {
    let [first, mut second] = start([Plan::new(1, &[2]), Plan::new(2, &[1])]).await;
    first.connected().await;
    let own = first.handle.fingerprint();
    let theirs = second.handle.fingerprint();
    first.handle.send(address(2), Some(own), "for another key");
    first.handle.send(address(2), Some(theirs), "for this key");
    assert_eq!(second.receives().await.bytes, "for this key");
}

#[tokio::test]
async fn a_fresh_node_that_meets_a_member_says_so_and_so_does_the_member() {
    let authority = peers_authority();
    let mut member = Plan::new(1, &[2]);
    member.access = Access::Member(membership(&authority, [(1, &*member.key)]));
    let [member, mut fresh] = start([member, Plan::new(2, &[1])]).await;
    let cause = fresh.sees_peer(&ReasonCode::PeerIsMember).await;
    assert!(cause.contains("01234567"), "{cause}");
    member.sees_peer(&ReasonCode::PeerNotMember).await;
    member.handle.send(address(2), None, "not for it");
    // It is never sent: the next thing that the fresh node hears is from somebody else.
    let other = Plan::new(3, &[]);
    let mut raw = Raw::open(&other, fresh.place(), JOIN_SERVER_NAME).await;
    raw.greet(other.versions).await;
    raw.ask(Method::POST, &Route::Formation.path(Version(2)), "other")
        .await
        .unwrap();
    assert_eq!(fresh.receives().await.bytes, "other");
}

#[tokio::test]
async fn who_does_not_know_yet_what_it_is_hears_nothing_and_is_reproached_nothing() {
    let undecided = Plan {
        access: Access::Undecided,
        ..Plan::new(2, &[1])
    };
    let [first, mut second] = start([Plan::new(1, &[2]), undecided]).await;
    assert_eq!(first.connected().await.standing, Standing::Unknown);
    assert_eq!(second.connected().await.standing, Standing::Founding);
    first.handle.send(address(2), None, "too early");
    second.handle.set_access(Access::fresh()).unwrap();
    first.tells(&mut second, "now").await;
}

#[tokio::test]
async fn size_and_patience_are_bounded() {
    let plan = Plan::new(2, &[]);
    let server = Plan {
        scale: 0.1,
        ..Plan::new(1, &[])
    };
    let [mut server] = start([server]).await;
    let path = Route::Formation.path(Version(2));

    let mut raw = Raw::open(&plan, server.place(), JOIN_SERVER_NAME).await;
    raw.greet(plan.versions).await;
    let largest = vec![b'x'; MAX_MESSAGE];
    let (status, _) = raw.ask(Method::POST, &path, largest.clone()).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.receives().await.bytes.len(), MAX_MESSAGE);
    let too_large = [largest, vec![b'x']].concat();
    assert_eq!(
        raw.refused(Method::POST, &path, too_large).await,
        RefusalCode::TooLong
    );

    // A body that never comes, and then a head that never comes.
    let mut stream = tls(&plan, server.place()).await;
    let greeting =
        serde_json::to_string(&Greeting::new(plan.versions, Standing::Founding)).unwrap();
    let head = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nhost: peer\r\ncontent-length: {length}\r\n\r\n")
    };
    let whole = format!(
        "{}{greeting}{}half",
        head(GREETING, greeting.len()),
        head(&path, 8)
    );
    stream.write_all(whole.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut answers))
        .await
        .expect("the server ends the connection")
        .ok();
    let answers = String::from_utf8_lossy(&answers);
    assert!(answers.contains("HTTP/1.1 408"), "{answers}");

    let mut stream = tls(&plan, server.place()).await;
    stream.write_all(b"POST /peer").await.unwrap();
    let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "half a head keeps a connection");
}

async fn tls(plan: &Plan, to: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    let identities = Identities::new(&plan.settings(to.port()), plan.access.clone()).unwrap();
    TlsConnector::from(Arc::clone(&identities.join.client))
        .connect(
            ServerName::try_from(JOIN_SERVER_NAME).unwrap(),
            TcpStream::connect(to).await.unwrap(),
        )
        .await
        .unwrap()
}

#[tokio::test]
async fn who_says_nothing_or_nonsense_disturbs_nobody() {
    let [mut first, mut second] = start([Plan::new(1, &[2]), Plan::new(2, &[1])]).await;
    let stranger = async |bytes: &[u8]| {
        let mut socket = TcpStream::connect(first.place()).await.unwrap();
        let _ = socket.write_all(bytes).await;
        socket
    };
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(stranger(b"").await);
    }
    let record = [0x16, 3, 1, 0xff, 0xff];
    for nonsense in [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice(),
        &record,
        &[0; 4096],
    ] {
        open.push(stranger(nonsense).await);
    }
    second.tells(&mut first, "still here").await;
    first.tells(&mut second, "so am I").await;
}

#[tokio::test]
async fn a_peer_that_floods_delays_nobody_for_ever() {
    let [mut server, other] = start([Plan::new(1, &[2, 3]), Plan::new(3, &[1])]).await;
    let flooder = Plan::new(2, &[]);
    let path = Route::Formation.path(Version(2));
    let mut floods = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::open(&flooder, server.place(), JOIN_SERVER_NAME).await;
        raw.greet(flooder.versions).await;
        let path = path.clone();
        floods.push(tokio::spawn(async move {
            while raw.ask(Method::POST, &path, "flood").await.is_ok() {}
        }));
    }
    // Not even when the receiver takes one at a time.
    other.handle.send(address(1), None, "quiet word");
    let mut heard = 0;
    while server.receives().await.bytes != "quiet word" {
        heard += 1;
        // Eight connections and what had room in the inbox, a few times over while the other one connects.
        assert!(heard < 5000, "the quiet peer is never heard");
        tokio::task::yield_now().await;
    }
    floods.iter().for_each(tokio::task::JoinHandle::abort);
}

#[test]
fn access_is_by_trust_machine_and_key() {
    let (ours, theirs) = (PeerKey::generate().unwrap(), PeerKey::generate().unwrap());
    let (ours, theirs) = (ours.fingerprint(), theirs.fingerprint());
    let authority = PeerAuthority::member(&peers_authority());
    let subject = |number| PeerSubject {
        machine_id: machine_id(number),
        name: "m".to_owned(),
    };
    let founded = Membership {
        cluster_id: CLUSTER_ID.to_owned(),
        authority,
        members: BTreeMap::from([(machine_id(1), Some(ours)), (machine_id(2), None)]),
    };
    let member = Access::Member(founded.clone());
    let planned = Access::Founding {
        pinned: Some(BTreeSet::from([ours])),
        planned: Some(founded),
    };
    let (pinned, only) = (Err(RefusalCode::NotPinned), Err(RefusalCode::MembersOnly));
    for (access, trust, number, key, expected) in [
        (&member, Trust::Join, 1, ours, only),
        (&member, Trust::Member, 1, ours, Ok(())),
        (&member, Trust::Member, 1, theirs, pinned),
        (&member, Trust::Member, 2, theirs, Ok(())),
        (&member, Trust::Member, 3, ours, only),
        (&planned, Trust::Join, 9, ours, Ok(())),
        (&planned, Trust::Join, 9, theirs, pinned),
        (&planned, Trust::Member, 1, ours, Ok(())),
        (&planned, Trust::Member, 9, ours, only),
        (
            &Access::Undecided,
            Trust::Join,
            9,
            ours,
            Err(RefusalCode::Busy),
        ),
        (
            &Access::Undecided,
            Trust::Member,
            1,
            ours,
            Err(RefusalCode::Busy),
        ),
        (&Access::fresh(), Trust::Join, 9, theirs, Ok(())),
        (&Access::fresh(), Trust::Member, 1, ours, only),
    ] {
        assert_eq!(
            access.knows(trust, &subject(number), key),
            expected,
            "{access:?} {trust:?} {number}"
        );
    }
    assert_eq!(
        planned.permits(Trust::Join, &subject(9), ours, Route::Status),
        only
    );
    assert_eq!(
        planned.permits(Trust::Join, &subject(9), ours, Route::Formation),
        Ok(())
    );
}
