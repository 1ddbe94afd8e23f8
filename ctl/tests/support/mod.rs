//! A management server on loopback, with real TLS and real authorities, and `mastctl` as a process.

pub(crate) mod images;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc as threads};

use bytes::Bytes;
use masthead_api::cluster::{ClusterStatus, NodeAnswer};
use masthead_api::disruption::{self, Disruption, UnlockAnswer, UnlockRequest};
use masthead_api::etcd::{Etcd, EtcdRole, LeaderAnswer, LeaderRequest};
use masthead_api::operators::{EnrolledOperator, OpenToken};
use masthead_api::power::{PowerAnswer, PowerPlan};
use masthead_api::status::{
    Network, Node as StatusNode, NodeKind, Seed, Service, ServiceState, Supervisor,
};
use masthead_api::upgrade::StageAnswer;
use masthead_api::vip::{Move, MoveAnswer, MoveRequest};
use masthead_api::{
    ApiError, ErrorCode, FORMAT, Fingerprint, Reason, ReasonCode, Status, Timestamp,
};
use masthead_ctl::client::{Client, Credentials, Trust};
use masthead_ctl::config::Node as Endpoint;
use masthead_init::management::{
    Answering, Bundle, Commands, FoundCommand, Identity, Issuers, LogRequest, Node, PowerAction,
    PowerCommand, Server, metrics,
};
use masthead_init::operators::token::{self, Token};
use masthead_init::operators::{Enrolled, Registered};
use masthead_machine::Scale;
use masthead_pki::{
    Authority, AuthorityKind, OperatorPrivateKey, Purpose, SubjectNames, issue, issue_operator,
};
use masthead_seed::OperatorKey;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing_subscriber::util::SubscriberInitExt as _;

/// What the tests look at afterwards.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Commands that the supervisor got.
    pub(crate) power: Vec<(PowerAction, String)>,
    /// Log requests.
    pub(crate) logs: Vec<LogRequest>,
    /// UUIDs of the roots of images that were sent whole.
    pub(crate) images: Vec<String>,
    /// Operators who came in by a token.
    pub(crate) enrolled: Vec<OperatorKey>,
}

/// A node that answers.
pub(crate) struct TestNode {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// Says when a client of the log that never ends is gone.
    pub(crate) quiet_ended: threads::Receiver<()>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) seen: Arc<Mutex<Seen>>,
    log: Log,
    authorities: Authorities,
    identity: watch::Sender<Arc<Identity>>,
    /// Dropped at the end: the server's thread waits for it.
    _running: threads::Sender<()>,
}

/// The PEM of both authorities, which have no `Clone`.
#[derive(Clone)]
struct Authorities(BTreeMap<AuthorityKind, (String, masthead_pki::Secret)>);

impl Authorities {
    fn new() -> Self {
        let pair = |kind| {
            let authority =
                Authority::generate(kind, "c1", OffsetDateTime::now_utc()).expect("an authority");
            (
                kind,
                (authority.certificate_pem().to_owned(), authority.key_pem()),
            )
        };
        Self(
            [AuthorityKind::Operators, AuthorityKind::Kubernetes]
                .map(pair)
                .into(),
        )
    }

    fn get(&self, kind: AuthorityKind) -> Authority {
        let (certificate, key) = &self.0[&kind];
        Authority::parse(kind, certificate, key).expect("an authority")
    }

    fn identity(&self, admins: &[OperatorKey]) -> Identity {
        let kubernetes = self.get(AuthorityKind::Kubernetes);
        identity(self.get(AuthorityKind::Operators), Some(kubernetes), admins)
    }
}

fn identity(
    operators: Authority,
    kubernetes: Option<Authority>,
    admins: &[OperatorKey],
) -> Identity {
    let names = SubjectNames::loopback().with("m1.example.net");
    let now = OffsetDateTime::now_utc();
    let leaf = issue(Purpose::ManagementServer, &names, &operators, now).expect("a leaf");
    let issuers = Issuers {
        operators,
        kubernetes,
        admins: admins.to_vec(),
        image_keys: Vec::new(),
        cluster: "test".to_owned(),
        node: "m1".to_owned(),
        kubernetes_server: "https://10.20.0.11:6443".to_owned(),
    };
    Identity::new(&leaf, issuers).expect("an identity")
}

/// What the server has logged.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Answers {
    quiet_ended: threads::Sender<()>,
    status: Arc<Mutex<Status>>,
    seen: Arc<Mutex<Seen>>,
}

impl Node for Answers {
    fn status(&self) -> Status {
        self.status.lock().expect("no panic").clone()
    }

    fn cluster(&self) -> Answering<'_, ClusterStatus> {
        let own = self.status();
        let status = NodeAnswer::Status(Box::new(own.clone()));
        let nodes = BTreeMap::from([(own.node.name, status)]);
        Box::pin(std::future::ready(ClusterStatus {
            format: FORMAT,
            nodes,
        }))
    }

    fn move_leader(&self, request: LeaderRequest) -> Answering<'_, Result<LeaderAnswer, ApiError>> {
        let answer = if request.to == "m2" {
            Ok(LeaderAnswer {
                format: FORMAT,
                from: "m1".to_owned(),
                to: request.to,
            })
        } else {
            let why = format!("{} has no vote", request.to);
            Err(ApiError::new(ErrorCode::Conflict, why, "Look."))
        };
        Box::pin(std::future::ready(answer))
    }

    fn move_address(&self, request: MoveRequest) -> Answering<'_, Result<MoveAnswer, ApiError>> {
        let answer = if request.to == "m9" {
            let why = "the kube-apiserver of m9 is not ready";
            Err(ApiError::new(ErrorCode::Conflict, why, "Look."))
        } else {
            let moved = |address: String| Move {
                took: (!request.plan && request.to != "m1").then_some(25),
                address,
                from: "m1".to_owned(),
                to: request.to.clone(),
            };
            Ok(MoveAnswer {
                format: FORMAT,
                moves: vec![moved(
                    request.address.clone().unwrap_or("10.20.0.10".to_owned()),
                )],
            })
        };
        Box::pin(std::future::ready(answer))
    }

    fn stage(&self, bundle: Bundle) -> Answering<'_, Result<StageAnswer, ApiError>> {
        Box::pin(images::take(bundle, Arc::clone(&self.seen)))
    }

    fn unlock(&self, request: UnlockRequest) -> Answering<'_, Result<UnlockAnswer, ApiError>> {
        let answer = if request.holder == "m2"
            && request.id.is_none_or(|id| held_by_m2().id.starts_with(&id))
        {
            Ok(UnlockAnswer {
                format: FORMAT,
                held: held_by_m2(),
            })
        } else {
            let why = format!("m2 holds the disruption lock, not {}", request.holder);
            Err(ApiError::new(ErrorCode::Conflict, why, "Look."))
        };
        Box::pin(std::future::ready(answer))
    }

    fn enrolled(&self) -> Enrolled {
        let seen = self.seen.lock().expect("no panic");
        Arc::new(seen.enrolled.iter().copied().collect())
    }

    fn operators(&self) -> Answering<'_, Result<Registered, ApiError>> {
        let enrolled = self.enrolled();
        let operators = enrolled.iter().map(|key| enrolled_by_m1(*key)).collect();
        Box::pin(std::future::ready(Ok(Registered {
            operators,
            tokens: Vec::new(),
        })))
    }

    fn confirmed(&self) -> Answering<'_, Enrolled> {
        Box::pin(async { self.enrolled() })
    }

    fn make_token<'a>(
        &'a self,
        by: OperatorKey,
        _: &'a [OperatorKey],
        ttl: std::time::Duration,
    ) -> Answering<'a, Result<(Token, OpenToken), ApiError>> {
        let token = Token::new([7; token::LENGTH]);
        let until = Timestamp::from_unix_millis(ttl.as_millis().try_into().expect("short"));
        let open = token.kept(by.to_string(), None, until).open;
        Box::pin(std::future::ready(Ok((token, open))))
    }

    fn enroll<'a>(
        &'a self,
        token: &'a Token,
        key: OperatorKey,
        _: &'a [OperatorKey],
    ) -> Answering<'a, Result<EnrolledOperator, ApiError>> {
        let mut seen = self.seen.lock().expect("no panic");
        // Each token is good once.
        let answer = if token.id() == "07070707" && seen.enrolled.is_empty() {
            seen.enrolled.push(key);
            Ok(enrolled_by_m1(key))
        } else {
            Err(ApiError::new(
                ErrorCode::LoginRefused,
                "there is no such token",
                "Ask.",
            ))
        };
        Box::pin(std::future::ready(answer))
    }

    fn remove_operator<'a>(
        &'a self,
        whom: &'a str,
    ) -> Answering<'a, Result<Vec<String>, ApiError>> {
        let mut seen = self.seen.lock().expect("no panic");
        let before = seen.enrolled.len();
        seen.enrolled.retain(|key| key.to_string() != whom);
        let answer = if seen.enrolled.len() < before {
            Ok(vec!["0a0b0c0d".to_owned()])
        } else {
            Err(ApiError::new(ErrorCode::NotFound, "nobody", "Look."))
        };
        Box::pin(std::future::ready(answer))
    }

    fn log(&self, service: &str, wanted: LogRequest) -> Option<mpsc::Receiver<Bytes>> {
        self.seen.lock().expect("no panic").logs.push(wanted);
        let (pieces, receiver) = mpsc::channel(2);
        match service {
            "etcd" => pieces.try_send("one\ntwo\n".into()).expect("room"),
            // Its log never ends.
            "quiet" => {
                pieces.try_send("waiting\n".into()).expect("room");
                let ended = self.quiet_ended.clone();
                tokio::spawn(async move {
                    pieces.closed().await;
                    let _ = ended.send(());
                });
            }
            _ => return None,
        }
        Some(receiver)
    }
}

impl TestNode {
    /// Serves with these operators in the seed.
    pub(crate) fn start(admins: &[OperatorKey]) -> Self {
        let authorities = Authorities::new();
        let (identity, watched) = watch::channel(Arc::new(authorities.identity(admins)));
        let fingerprint = watched.borrow().fingerprint();
        let (status, seen) = (Arc::new(Mutex::new(status())), Arc::new(Mutex::default()));
        let (ended, quiet_ended) = threads::channel();
        let node: Arc<dyn Node> = Arc::new(Answers {
            quiet_ended: ended,
            status: Arc::clone(&status),
            seen: Arc::clone(&seen),
        });
        let (power, mut commands) = mpsc::channel::<PowerCommand>(1);
        let (founding, mut founders) = mpsc::channel::<FoundCommand>(1);
        let words = Commands { power, founding };
        let (tell, address) = threads::channel();
        let (running, stop) = threads::channel::<()>();
        let noted = Arc::clone(&seen);
        let rebooted = Arc::clone(&status);
        let log = Log::default();
        let written = Mutex::new(log.clone());
        std::thread::spawn(move || {
            let _logging = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(written)
                .finish()
                .set_default();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("it");
            let serving = async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let scraped = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let addresses = [&listener, &scraped].map(TcpListener::local_addr);
                tell.send(addresses.map(|address| address.expect("an address")))
                    .expect("a reader");
                tokio::spawn(metrics::serve(scraped, Arc::clone(&node), Scale::REAL));
                tokio::spawn(Server::new(watched, node, words, Scale::REAL).serve(listener));
                tokio::spawn(async move {
                    while let Some(command) = founders.recv().await {
                        let answer = if command.without == ["m3"] && command.cluster == "test" {
                            Ok(())
                        } else {
                            Err(ApiError::new(ErrorCode::Conflict, "no majority", "Look."))
                        };
                        let _ = command.reply.send(answer);
                    }
                });
                while let Some(command) = commands.recv().await {
                    let mut seen = noted.lock().expect("no panic");
                    let mut plan = power_plan();
                    let answer = if command.plan {
                        if !command.accept_outage {
                            let refusal = ReasonCode::QuorumWouldBeLost;
                            plan.refusals = vec![Reason::new(refusal, held_by_m2().since)];
                        }
                        Ok(plan)
                    } else if seen.power.is_empty() {
                        let mut status = rebooted.lock().expect("no panic");
                        "b2".clone_into(&mut status.node.boot_id);
                        status.etcd = Some(etcd());
                        if let PowerAction::Upgrade { image } = &command.action {
                            status.installation = Some(images::started(image));
                            // The second one is never good.
                            if *image != images::uuid("0.3.0") {
                                image.clone_into(&mut status.node.image);
                            }
                        }
                        seen.power.push((command.action, command.by));
                        Ok(plan)
                    } else {
                        seen.power.push((command.action, command.by));
                        let why = "it is stopping already";
                        Err(ApiError::new(ErrorCode::Conflict, why, "Wait."))
                    };
                    let answer = answer.map(|plan| PowerAnswer {
                        format: FORMAT,
                        boot_id: "b1".into(),
                        plan,
                    });
                    let _ = command.reply.send(answer);
                }
            };
            runtime.spawn(serving);
            runtime.block_on(async {
                let _ = tokio::task::spawn_blocking(move || stop.recv()).await;
            });
        });
        let [address, metrics] = address.recv().expect("the server's address");
        Self {
            address,
            metrics,
            quiet_ended,
            fingerprint,
            seen,
            log,
            authorities,
            identity,
            _running: running,
        }
    }

    /// Gives the node a new certificate of the same authority, and these operators.
    pub(crate) fn renew(&self, admins: &[OperatorKey]) {
        self.identity
            .send_replace(Arc::new(self.authorities.identity(admins)));
    }

    /// Makes the node one that belongs to no cluster; returns its provisional authority's fingerprint.
    pub(crate) fn be_provisional(&self, admins: &[OperatorKey]) -> Fingerprint {
        let now = OffsetDateTime::now_utc();
        let operators = Authority::generate(AuthorityKind::Operators, "provisional m1", now);
        let provisional = identity(operators.expect("an authority"), None, admins);
        let fingerprint = provisional.fingerprint();
        self.identity.send_replace(Arc::new(provisional));
        fingerprint
    }

    /// What the server has logged up to now.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.0.lock().expect("no panic")).into_owned()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            endpoint: self.address.to_string(),
            name: None,
            kubernetes_server: None,
        }
    }

    /// An operator's certificate as this node would have issued it so long ago.
    pub(crate) fn credentials(&self, key: &OperatorPrivateKey, ago: Duration) -> Credentials {
        let operators = self.authorities.get(AuthorityKind::Operators);
        let issued = OffsetDateTime::now_utc() - ago;
        Credentials {
            certificate: issue_operator(key.public(), &operators, issued).expect("a certificate"),
            key: key.pem().text().expect("PEM").to_owned(),
        }
    }

    /// A client that trusts this node.
    pub(crate) fn client(&self, credentials: Option<&Credentials>) -> Client {
        let trust = Trust::Fingerprint(self.fingerprint);
        Client::new(
            self.endpoint(),
            trust,
            credentials,
            std::time::Duration::from_secs(20),
        )
        .expect("a client")
    }

    /// The operators' authority, PEM.
    pub(crate) fn authority(&self) -> String {
        self.authorities.0[&AuthorityKind::Operators].0.clone()
    }
}

fn enrolled_by_m1(key: OperatorKey) -> EnrolledOperator {
    EnrolledOperator {
        format: FORMAT,
        key: key.to_string(),
        by: "mk1-x".into(),
        token: "07070707".into(),
        since: Timestamp::from_unix_millis(0),
    }
}

/// The lock as m2 holds it.
fn held_by_m2() -> Disruption {
    Disruption {
        format: FORMAT,
        id: "d".into(),
        holder: "m2".into(),
        machine_id: "machine-2".into(),
        purpose: disruption::Purpose::PowerOff,
        by: "mk1-x".into(),
        since: Timestamp::from_unix_millis(0),
    }
}

fn power_plan() -> PowerPlan {
    PowerPlan {
        node: "m1".into(),
        purpose: disruption::Purpose::Reboot,
        image: None,
        availability: None,
        spare_meanwhile: Some(-1),
        hand_over_to: None,
        services: vec!["etcd".into()],
        takes_lock: true,
        lock: None,
        refusals: Vec::new(),
        accepted: Vec::new(),
    }
}

fn etcd() -> Etcd {
    Etcd {
        member_id: "0000000000000001".into(),
        role: EtcdRole::Leader,
        leader: Some("0000000000000001".into()),
        raft_term: 2,
        raft_index: 9,
        raft_applied_index: 9,
        db_size: 1,
        db_in_use: 1,
        db_quota: 0,
        errors: Vec::new(),
        members: Vec::new(),
        disruption: None,
    }
}

/// What the node says about itself.
pub(crate) fn status() -> Status {
    let booted = Timestamp::from_unix_millis(1_790_000_000_000);
    Status {
        format: FORMAT,
        node: StatusNode {
            name: "m1".into(),
            machine_id: None,
            kind: NodeKind::Namespace,
            version: "0.1.0".into(),
            image: "root-of-0.1.0".to_owned(),
            kernel: "6.12".into(),
            kubernetes: "v1.36.0".into(),
            etcd: "3.6.5".into(),
            boot_time: booted,
            uptime: 61,
            boot_id: "b1".into(),
            timing_scale: 1.0,
            supervisor: Supervisor {
                pid: 2,
                restarts: 0,
                last_death: None,
                resident: None,
                processor: None,
            },
        },
        cluster: None,
        formation: None,
        seed: Seed::default(),
        disks: Vec::new(),
        installation: None,
        network: Network::default(),
        clock: None,
        services: vec![Service {
            name: "etcd".into(),
            state: ServiceState::Ready,
            since: booted,
            pid: Some(7),
            restarts: 3,
            last_exit: None,
            crash_looping: false,
            probes: Vec::new(),
            waiting: None,
            last_lines: Vec::new(),
        }],
        etcd: None,
        virtual_addresses: Vec::new(),
        api_fingerprint: None,
        api_provisional: false,
        certificates: Vec::new(),
        waiting: Vec::new(),
        degraded: Vec::new(),
    }
}

/// `mastctl` with a directory of its own.
pub(crate) struct Mastctl {
    pub(crate) directory: tempfile::TempDir,
}

/// What a run of it left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect(&self.stdout)
    }

    /// The failure on standard error, which must be JSON.
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str::<Value>(&self.stderr).expect(&self.stderr)["error"].clone()
    }
}

impl Mastctl {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("mastctl.toml")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs it to its end, with nobody at the terminal.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with_input(arguments, "")
    }

    /// The same, with this text to read.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Run {
        let mut mastctl = Command::new(env!("CARGO_BIN_EXE_mastctl"))
            .args(arguments)
            .env("MASTCTL_CONFIG", self.config())
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mastctl runs");
        // Closed when all is written; one that reads none of it has ended already.
        let mut stdin = mastctl.stdin.take().expect("a pipe");
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = mastctl.wait_with_output().expect("mastctl ends");
        Run {
            code: output.status.code().expect("no signal"),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Makes the operator's key pair.
    pub(crate) fn keygen(&self) -> OperatorPrivateKey {
        let run = self.run(&["keygen", "-o", "json"]);
        assert_eq!(run.code, 0, "{run:?}");
        read_key(&self.path("operator.key"))
    }

    /// Logs in at `node` by its true fingerprint.
    pub(crate) fn login(&self, node: &TestNode) -> Run {
        self.login_with(node, &[])
    }

    /// The same with more words.
    pub(crate) fn login_with(&self, node: &TestNode, words: &[&str]) -> Run {
        self.login_by(node, node.fingerprint, words)
    }

    /// With a token that is read and not shown.
    pub(crate) fn login_with_token(&self, node: &TestNode, token: &str) -> Run {
        let (address, by) = (node.address.to_string(), node.fingerprint.to_string());
        let words = [
            "login",
            &address,
            "--fingerprint",
            &by,
            "-o",
            "json",
            "--token",
            "-",
        ];
        self.run_with_input(&words, &format!("{token}\n"))
    }

    /// The same by the fingerprint that it has now.
    pub(crate) fn login_by(&self, node: &TestNode, by: Fingerprint, words: &[&str]) -> Run {
        let (address, by) = (node.address.to_string(), by.to_string());
        let login = ["login", &address, "--fingerprint", &by, "-o", "json"];
        self.run(&[&login, words].concat())
    }
}

/// Reads a private key's file.
pub(crate) fn read_key(path: &Path) -> OperatorPrivateKey {
    let pem = std::fs::read_to_string(path).expect("the key's file");
    OperatorPrivateKey::parse(&masthead_pki::Secret::new(pem)).expect("a key")
}

/// Asks for something over plain HTTP, and gives up when nothing comes for that long; the whole answer.
pub(crate) fn scrape(node: &TestNode, path: &str, patience: std::time::Duration) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(node.metrics).expect("a connection");
    socket.set_read_timeout(Some(patience)).expect("a socket");
    let request = format!("GET {path} HTTP/1.1\r\nhost: m1\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Bare TLS with a node, without the client's own look at the certificate.
pub(crate) async fn tls(
    node: &TestNode,
    credentials: Option<&Credentials>,
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

    let pem = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem(&node.authority())).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let config = match credentials {
        None => builder.with_no_client_auth(),
        Some(credentials) => {
            let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).expect("a key");
            builder
                .with_client_auth_cert(vec![pem(&credentials.certificate)], key)
                .expect("a pair")
        }
    };
    let socket = tokio::net::TcpStream::connect(node.address).await?;
    let name = ServerName::from(node.address.ip());
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
}

/// Asks for the status over bare TLS. The answer's head, or why there was none.
pub(crate) async fn raw_status(
    node: &TestNode,
    credentials: &Credentials,
) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut stream = tls(node, Some(credentials)).await?;
    // In TLS 1.3 the server's refusal of a client's certificate comes after the client is done; nothing is
    // sent before it was read, so that no reset overtakes it.
    let mut head = [0; 12];
    let probe = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        stream.read(&mut head),
    );
    if let Ok(early) = probe.await {
        return early.map(|_| "closed".to_owned());
    }
    stream
        .write_all(b"GET /v1/status HTTP/1.1\r\nhost: m1\r\n\r\n")
        .await?;
    stream.read_exact(&mut head).await?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}
