//! The management server and `mastctl` over real TLS: every refusal beside what is accepted.

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::os::unix::fs::PermissionsExt as _;

use masthead_api::login::{Challenge, ChallengeRequest, LoginAnswer, LoginRequest};
use masthead_api::{FORMAT, Fingerprint, hex, routes};
use masthead_ctl::client::{Client, Connection, Trust};
use masthead_ctl::failure::Failure;
use masthead_init::management::{LogRequest, PowerAction};
use masthead_pki::{Description, LoginProof, OperatorPrivateKey, server_key_hash};
use serde_json::json;
use support::{Mastctl, TestNode};
use time::Duration;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// RFC 5280, ub-common-name, in characters.
const LONGEST_COMMON_NAME: usize = 64;

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

async fn challenge(connection: &mut Connection, key: &OperatorPrivateKey) -> Challenge {
    let request = ChallengeRequest {
        format: FORMAT,
        public_key: key.public().to_string(),
    };
    let answer = connection
        .ask("ask", routes::LOGIN_CHALLENGE, Some(&request))
        .await;
    serde_json::from_value(answer.expect("a challenge")).expect("a challenge")
}

/// A proof by `key` for the server with that certificate.
fn proof(key: &OperatorPrivateKey, certificate: &[u8], challenge: &Challenge) -> LoginRequest {
    let nonce = hex::decode(&challenge.nonce).and_then(|nonce| nonce.try_into().ok());
    let hash = server_key_hash(certificate).expect("a certificate");
    let signature = LoginProof::sign(key, hash, nonce.expect("32 bytes")).expect("a signature");
    LoginRequest {
        format: FORMAT,
        public_key: key.public().to_string(),
        nonce: challenge.nonce.clone(),
        signature: hex::encode(&signature),
        token: None,
    }
}

async fn login(
    connection: &mut Connection,
    request: &LoginRequest,
) -> Result<LoginAnswer, Failure> {
    let answer = connection
        .ask("log in", routes::LOGIN, Some(request))
        .await?;
    Ok(serde_json::from_value(answer).expect("an answer"))
}

async fn status(client: &Client) -> Result<serde_json::Value, Failure> {
    client
        .ask("read the status", routes::STATUS, None::<&()>)
        .await
}

#[test]
fn the_right_key_gets_a_certificate_of_eight_hours_and_a_wrong_one_does_not() {
    let key = OperatorPrivateKey::generate().unwrap();
    let stranger = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    block(async {
        let mut connection = node.client(None).connect().await.unwrap();
        let certificate = connection.certificate().to_vec();

        let open = challenge(&mut connection, &key).await;
        let answer = login(&mut connection, &proof(&key, &certificate, &open))
            .await
            .unwrap();
        let description = Description::of_pem(&answer.certificate).unwrap();
        assert_eq!(description.common_name, key.public().to_string());
        assert!(description.common_name.len() <= LONGEST_COMMON_NAME);
        let left = description.not_after - time::OffsetDateTime::now_utc();
        assert!(
            (Duration::minutes(479)..=Duration::hours(8)).contains(&left),
            "{left}"
        );

        // A key that the seed does not name, with a good proof of its own.
        let open = challenge(&mut connection, &stranger).await;
        let refused = login(&mut connection, &proof(&stranger, &certificate, &open)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, "login-refused");
        assert!(refused.why.contains("does not name"), "{refused:?}");

        // The right public key with somebody else's signature.
        let open = challenge(&mut connection, &key).await;
        let mut forged = proof(&stranger, &certificate, &open);
        forged.public_key = key.public().to_string();
        let refused = login(&mut connection, &forged).await.unwrap_err();
        assert_eq!(refused.code, "login-refused");
        assert!(refused.why.contains("proof does not match"), "{refused:?}");
    });
}

#[test]
fn a_proof_for_another_server_is_worth_nothing() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    let between = TestNode::start(&[key.public()]);
    block(async {
        let mut connection = node.client(None).connect().await.unwrap();
        let own = connection.certificate().to_vec();
        let seen_by_the_victim = between
            .client(None)
            .connect()
            .await
            .unwrap()
            .certificate()
            .to_vec();

        let open = challenge(&mut connection, &key).await;
        let relayed = proof(&key, &seen_by_the_victim, &open);
        let refused = login(&mut connection, &relayed).await.unwrap_err();
        assert_eq!(refused.code, "login-refused");

        let open = challenge(&mut connection, &key).await;
        login(&mut connection, &proof(&key, &own, &open))
            .await
            .unwrap();
    });
}

#[test]
fn a_nonce_is_good_for_one_login() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    block(async {
        let mut connection = node.client(None).connect().await.unwrap();
        let certificate = connection.certificate().to_vec();
        let open = challenge(&mut connection, &key).await;
        let request = proof(&key, &certificate, &open);
        login(&mut connection, &request).await.unwrap();
        let refused = login(&mut connection, &request).await.unwrap_err();
        assert_eq!(refused.code, "login-refused");
        assert!(refused.why.contains("nonce"), "{refused:?}");

        // One that was never given out.
        let made_up = Challenge {
            nonce: "00".repeat(32),
            ..open
        };
        let refused = login(&mut connection, &proof(&key, &certificate, &made_up)).await;
        assert_eq!(refused.unwrap_err().code, "login-refused");
    });
}

#[test]
fn logins_are_limited() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    block(async {
        let mut connection = node.client(None).connect().await.unwrap();
        let request = ChallengeRequest {
            format: FORMAT,
            public_key: key.public().to_string(),
        };
        let mut codes = Vec::new();
        for _ in 0..40 {
            let answer = connection
                .ask("ask", routes::LOGIN_CHALLENGE, Some(&request))
                .await;
            codes.push(answer.map_or_else(|failure| failure.code, |_| "given".to_owned()));
        }
        assert!(codes[..10].iter().all(|code| code == "given"), "{codes:?}");
        assert!(
            codes[10..].iter().any(|code| code == "too-many-requests"),
            "{codes:?}"
        );
    });
}

#[test]
fn strangers_cannot_fill_the_log_and_operators_are_in_it_whatever_they_do() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    block(async {
        let mut connection = node.client(None).connect().await.unwrap();
        let path = format!("/{}", "x".repeat(8000));
        for _ in 0..500 {
            let refused = connection.ask("ask", &path, None::<&()>).await;
            assert_eq!(refused.unwrap_err().code, "not-found");
        }
        let flooded = node.log();
        assert!(flooded.lines().count() < 30, "{flooded}");
        assert!(flooded.len() < 30 * 500, "{}", flooded.len());

        let certificate = connection.certificate().to_vec();
        let challenge = challenge(&mut connection, &key).await;
        login(&mut connection, &proof(&key, &certificate, &challenge))
            .await
            .unwrap();
        status(&node.client(Some(&node.credentials(&key, Duration::ZERO))))
            .await
            .unwrap();
    });
    let log = node.log();
    let of_operator: Vec<_> = log
        .lines()
        .filter(|line| line.contains(&key.public().to_string()))
        .collect();
    let [login, request] = of_operator[..] else {
        panic!("{log}");
    };
    assert!(login.contains("has logged in"), "{login}");
    assert!(request.contains(routes::STATUS), "{request}");
}

#[test]
fn everything_but_the_login_needs_a_certificate_that_is_good_now() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    block(async {
        for path in [routes::STATUS, "/v1/logs/etcd"] {
            let refused = node
                .client(None)
                .ask("get", path, None::<&()>)
                .await
                .unwrap_err();
            assert_eq!(refused.code, "certificate-required", "{path}");
        }
        for path in [routes::KUBECONFIG, routes::REBOOT, routes::POWEROFF] {
            let refused = node
                .client(None)
                .ask("post", path, Some(&json!({})))
                .await
                .unwrap_err();
            assert_eq!(refused.code, "certificate-required", "{path}");
        }
        let fresh = node.credentials(&key, Duration::ZERO);
        let answer = status(&node.client(Some(&fresh))).await.unwrap();
        assert_eq!(answer["node"]["name"], "m1");

        // mastctl says by itself that a certificate has expired.
        let stale = node.credentials(&key, Duration::hours(9));
        let trust = Trust::Fingerprint(node.fingerprint);
        let refused = Client::new(node.endpoint(), trust, Some(&stale), PATIENCE).unwrap_err();
        assert_eq!(refused.code, "certificate-expired");
        assert!(refused.next.contains("mastctl login"), "{refused:?}");
    });
    assert!(node.seen.lock().unwrap().power.is_empty());
}

#[test]
fn the_server_itself_refuses_an_expired_certificate() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    for (ago, accepted) in [(Duration::hours(9), false), (Duration::hours(7), true)] {
        let credentials = node.credentials(&key, ago);
        let answer = block(support::raw_status(&node, &credentials));
        match answer {
            Ok(head) => assert!(
                accepted && head.starts_with("HTTP/1.1 200"),
                "{ago}: {head}"
            ),
            Err(error) => {
                assert!(!accepted, "{ago}: {error}");
                assert!(error.to_string().contains("CertificateExpired"), "{error}");
            }
        }
    }
}

#[test]
fn an_operator_who_left_the_seed_is_refused_at_once() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    let credentials = node.credentials(&key, Duration::ZERO);
    block(async {
        status(&node.client(Some(&credentials))).await.unwrap();
        node.renew(&[]);
        let refused = status(&node.client(Some(&credentials))).await.unwrap_err();
        assert_eq!(refused.code, "forbidden");
        node.renew(&[key.public()]);
        status(&node.client(Some(&credentials))).await.unwrap();
    });
}

#[test]
fn a_login_goes_by_the_certificate_that_its_connection_saw() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    block(async {
        let mut old = node.client(None).connect().await.unwrap();
        node.renew(&[key.public()]);
        let mut new = node.client(None).connect().await.unwrap();
        assert_ne!(old.certificate(), new.certificate());
        for connection in [&mut old, &mut new] {
            let certificate = connection.certificate().to_vec();
            let open = challenge(connection, &key).await;
            login(connection, &proof(&key, &certificate, &open))
                .await
                .unwrap();
        }
    });
}

#[test]
fn a_body_that_is_too_long_or_wrong_is_refused() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    let credentials = node.credentials(&key, Duration::ZERO);
    block(async {
        let client = node.client(Some(&credentials));
        let public_key = rcgen::KeyPair::generate().unwrap().public_key_pem();
        let body = |padding: usize, ttl: u64| json!({"public_key": public_key, "ttl": ttl, "padding": "x".repeat(padding)});
        let ask = async |body: serde_json::Value| {
            client.ask("post", routes::KUBECONFIG, Some(&body)).await
        };
        ask(body(8_000, 60)).await.unwrap();
        assert_eq!(
            ask(body(16_384, 60)).await.unwrap_err().code,
            "body-too-large"
        );
        assert_eq!(
            ask(body(0, 7 * 86_400 + 1)).await.unwrap_err().code,
            "bad-request"
        );
        assert_eq!(ask(body(0, 0)).await.unwrap_err().code, "bad-request");
        assert_eq!(
            ask(json!({"public_key": "x"})).await.unwrap_err().code,
            "bad-request"
        );
        assert_eq!(ask(json!("x")).await.unwrap_err().code, "bad-request");

        let wrong_method = client
            .ask("get", routes::KUBECONFIG, None::<&()>)
            .await
            .unwrap_err();
        assert_eq!(wrong_method.code, "method-not-allowed");
        let wrong_path = client
            .ask("get", "/v2/status", None::<&()>)
            .await
            .unwrap_err();
        assert_eq!(wrong_path.code, "not-found");
    });
}

#[test]
fn mastctl_logs_in_and_works() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);

    let run = mastctl.login(&node);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.json()["context"], "test");
    let mode = std::fs::metadata(mastctl.config())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);

    // The authority is pinned now: again without a fingerprint, by the node's name.
    assert_eq!(mastctl.run(&["login", "m1"]).code, 0);

    let run = mastctl.run(&["status", "-o", "json"]);
    assert_eq!(
        run.json()["nodes"][0]["status"]["services"][0]["restarts"],
        3
    );
    let run = mastctl.run(&["status"]);
    assert!(run.stdout.starts_with("NODE  STATE"), "{run:?}");

    let run = mastctl.run(&["why", "m1"]);
    assert_eq!(run.stdout, "m1 waits for nothing, and nothing is wrong.\n");
    assert_eq!(
        mastctl.run(&["why", "m1", "-o", "json"]).json()["reasons"],
        json!([])
    );
    assert_eq!(mastctl.run(&["why", "m7"]).code, 2);

    let run = mastctl.run(&["logs", "etcd", "--lines", "2"]);
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (0, "one\ntwo\n"),
        "{}",
        run.stderr
    );
    assert_eq!(
        node.seen.lock().unwrap().logs,
        [LogRequest {
            lines: 2,
            follow: false
        }]
    );
    let run = mastctl.run(&["logs", "etcd", "--follow"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, "one\ntwo\n"));
    assert!(run.stderr.contains("the node has ended it"), "{run:?}");
    let run = mastctl.run(&["logs", "ectd"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("Its services are etcd."), "{run:?}");

    let run = mastctl.run(&["reboot", "--plan"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stdout.contains("REFUSED: quorum-would-be-lost"));
    let run = mastctl.run(&["reboot", "--plan", "--accept-outage", "-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.json()["plans"][0]["services"][0], "etcd");
    let run = mastctl.run(&["reboot", "m1", "--nodes", "m1"]);
    assert_eq!(run.code, 2, "{run:?}");
    let run = mastctl.run(&["unlock", "m1", "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (2, Some("conflict"))
    );
    let run = mastctl.run(&["unlock", "m2", "--id", "none"]);
    assert_eq!(run.code, 2, "{run:?}");
    let run = mastctl.run(&["unlock", "m2"]);
    assert_eq!(
        (run.code, &*run.stdout),
        (
            0,
            "m2 held the disruption lock since 1970-01-01T00:00:00Z; it is free now.\n"
        )
    );
    assert!(node.seen.lock().unwrap().power.is_empty());

    let run = mastctl.run(&["reboot", "--wait", "-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let run = mastctl.run(&["poweroff", "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (2, Some("conflict")),
        "{run:?}"
    );
    let by = key.public().to_string();
    let power = &node.seen.lock().unwrap().power;
    assert_eq!(
        *power,
        [
            (PowerAction::Reboot, by.clone()),
            (PowerAction::PowerOff, by)
        ]
    );
}

#[test]
fn a_node_without_a_cluster_is_asked_and_told_and_then_another_one_is_believed() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    let provisional = node.be_provisional(&[key.public()]);
    let endpoint = node.endpoint().endpoint;
    let log_in = |fingerprint: Fingerprint| {
        let fingerprint = fingerprint.to_string();
        mastctl.run(&[
            "-o",
            "json",
            "login",
            &endpoint,
            "--fingerprint",
            &fingerprint,
        ])
    };
    let run = log_in(provisional);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.json()["provisional"], true);
    assert_eq!(run.json()["context"], "test.m1");
    assert_eq!(mastctl.run(&["status"]).code, 0);
    let run = mastctl.run(&["kubeconfig"]);
    assert!(run.stderr.contains("no cluster yet"), "{run:?}");

    let found = |without: &str| mastctl.run(&["found", "--without", without, "--cluster", "test"]);
    assert_eq!(found("m3").code, 0);
    let run = found("m2,m3");
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("no majority"), "{run:?}");

    // It was founded: nothing connects its authority with the provisional one.
    node.renew(&[key.public()]);
    let run = mastctl.run(&["status"]);
    assert!(run.stderr.contains("If the cluster was founded"), "{run:?}");
    let run = log_in(node.fingerprint);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.json()["provisional"], false);
    assert_eq!(run.json()["context"], "test");
    let config = std::fs::read_to_string(mastctl.config()).unwrap();
    assert!(!config.contains("provisional"), "{config}");
}

#[test]
fn mastctl_asks_nobody_without_a_terminal_and_believes_only_the_fingerprint() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    let address = node.address.to_string();

    let run = mastctl.run(&["login", &address, "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (2, Some("fingerprint-needed"))
    );
    assert!(
        run.stderr.contains(&node.fingerprint.to_string()),
        "{run:?}"
    );

    let wrong = format!("sha256:{}", "00".repeat(32));
    let run = mastctl.run(&["login", &address, "--fingerprint", &wrong, "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (1, Some("authority-differs"))
    );
    assert!(!mastctl.config().exists());

    assert_eq!(mastctl.login(&node).code, 0);

    // Another node of the same cluster is known by what is pinned, and one of another cluster is not.
    let other = TestNode::start(&[key.public()]);
    let further = format!("localhost:{}", node.address.port());
    let unknown = other.address.to_string();
    for (at, code) in [(&further, 0), (&unknown, 2)] {
        let run = mastctl.run(&["login", at, "--name", "127.0.0.1", "-o", "json"]);
        assert_eq!(run.code, code, "{run:?}");
    }
    let nodes = mastctl.run(&["status", "-o", "json"]).json()["nodes"].clone();
    assert_eq!(
        nodes.as_array().map(Vec::len),
        Some(1),
        "m1 by its new address"
    );

    // Another cluster at the address of the first: not believed, until a person says so.
    let text = std::fs::read_to_string(mastctl.config()).unwrap();
    std::fs::write(
        mastctl.config(),
        text.replace(&further, &other.address.to_string()),
    )
    .unwrap();
    let run = mastctl.run(&["status", "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (1, Some("authority-differs")),
        "{run:?}"
    );
    assert_eq!(mastctl.login(&other).code, 0);
    assert_eq!(mastctl.run(&["status"]).code, 0);
}

#[test]
fn mastctl_refuses_files_that_others_can_read() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    assert_eq!(
        mastctl.run(&["keygen"]).code,
        2,
        "a key is never overwritten"
    );
    assert_eq!(mastctl.login(&node).code, 0);
    let set = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(mastctl.config(), mode).unwrap();
    };
    set(0o644);
    assert_eq!(mastctl.run(&["status"]).code, 2);
    set(0o600);
    assert_eq!(mastctl.run(&["status"]).code, 0);
}

#[test]
fn mastctl_makes_a_kubeconfig_whose_key_never_travelled() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    assert_eq!(mastctl.login(&node).code, 0);
    let decode = |text: &str, field: &str| {
        use base64::Engine as _;
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(field))
            .expect(field);
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(line.trim())
            .unwrap();
        String::from_utf8(bytes).unwrap()
    };
    for (arguments, group, hours) in [
        (&["kubeconfig"][..], "masthead:admins", 8),
        (
            &["kubeconfig", "--ttl", "1h", "--break-glass"][..],
            "system:masters",
            1,
        ),
    ] {
        let run = mastctl.run(arguments);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(
            run.stdout.contains("server: \"https://10.20.0.11:6443\""),
            "{run:?}"
        );
        let certificate = decode(&run.stdout, "client-certificate-data:");
        let description = Description::of_pem(&certificate).unwrap();
        assert_eq!(description.organizations, [group]);
        let user = format!("masthead:{}", key.public());
        assert_eq!(description.common_name, user, "the audit log names the key");
        assert!(user.len() <= LONGEST_COMMON_NAME, "{user}");
        let left = description.not_after - time::OffsetDateTime::now_utc();
        assert!(
            (left - Duration::hours(hours)).abs() < Duration::minutes(1),
            "{left}"
        );
        let leaf = masthead_pki::Leaf {
            certificate_pem: certificate,
            key_pem: masthead_pki::Secret::new(decode(&run.stdout, "client-key-data:")),
        };
        leaf.check("kubectl")
            .expect("key and certificate are a pair");
    }
    assert_eq!(mastctl.run(&["kubeconfig", "--ttl", "8d"]).code, 2);
    let server = "https://127.0.0.1:4000";
    let run = mastctl.run(&["kubeconfig", "--server", server, "--file", "kubeconfig"]);
    assert_eq!(run.code, 0, "{run:?}");
    let mode = std::fs::metadata(mastctl.path("kubeconfig"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_kubeconfig_leads_where_the_login_said_that_the_apiserver_is() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    let (address, fingerprint) = (node.address.to_string(), node.fingerprint.to_string());
    let forwarded = "https://127.0.0.1:4000";
    let mut login = vec!["login", &address, "--fingerprint", &fingerprint];
    login.extend(["--name", "m1.example.net", "--kubernetes-server", forwarded]);
    assert_eq!(mastctl.run(&login).code, 0);
    // Also after the next login, which says nothing about it.
    assert_eq!(mastctl.run(&["login", "m1"]).code, 0);
    let run = mastctl.run(&["kubeconfig"]);
    let line = format!("    server: \"{forwarded}\"\n");
    assert!(run.stdout.contains(&line), "{run:?}");
    // A word of the command line counts more.
    let run = mastctl.run(&["kubeconfig", "--server", "https://api.example.net:6443"]);
    assert!(
        run.stdout.contains("https://api.example.net:6443"),
        "{run:?}"
    );
}

#[test]
fn a_node_that_is_not_in_the_context_is_answered_with_those_that_are() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    assert_eq!(mastctl.login(&node).code, 0);
    let run = mastctl.run(&["status", "-n", "m7"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("There are: m1."), "{run:?}");
}

#[test]
fn a_wrong_command_line_is_told_what_is_wrong_and_not_what_the_environment_says() {
    // `run` sets MASTCTL_CONFIG.
    let run = Mastctl::new().run(&["logs"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.stderr.contains("Usage: mastctl logs <SERVICE>"),
        "{run:?}"
    );
}

#[test]
fn a_seed_is_checked_and_its_hash_is_the_one_that_a_node_shows() {
    let mastctl = Mastctl::new();
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/seeds/single.toml");
    let bytes = std::fs::read(seed).unwrap();
    let hash = masthead_seed::Hash::of(&bytes).to_string();
    let (checked, _) = masthead_seed::Seed::check(seed, &bytes);
    let meaning = checked.unwrap().hash.to_string();
    let run = mastctl.run(&["seed", "check", seed]);
    let hashes = format!("\nsha256:{hash}\nmeaning:{meaning}\n");
    assert!(run.stdout.ends_with(&hashes), "{run:?}");
    let run = mastctl.run(&["seed", "check", seed, "-o", "json"]);
    assert_eq!(run.json()["hash"], hash);
    assert_eq!(run.json()["meaning"], meaning);
}

/// As on a node: no more of it is read than a seed can have.
#[test]
fn a_seed_without_an_end_is_too_large() {
    let run = Mastctl::new().run(&["seed", "check", "/dev/zero"]);
    assert!(run.stdout.contains("at most"), "{run:?}");
    assert_ne!(run.code, 0);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mastctl = Mastctl::new();
    for stream in ["stdout", "stderr"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mastctl"));
        command.env("MASTCTL_CONFIG", mastctl.config());
        let status = if stream == "stdout" {
            command.arg("version").stdout(writer).status()
        } else {
            command.arg("status").stderr(writer).status()
        };
        let expected = if stream == "stdout" { 0 } else { 2 };
        assert_eq!(status.unwrap().code(), Some(expected), "{stream}");
    }
}

#[test]
fn a_forwarded_port_is_verified_by_the_nodes_own_name() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    let (address, fingerprint) = (node.address.to_string(), node.fingerprint.to_string());
    let mut login = vec![
        "login",
        &address,
        "--fingerprint",
        &fingerprint,
        "-o",
        "json",
        "--name",
    ];
    login.push("m2.example.net");
    let run = mastctl.run(&login);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (1, Some("name-differs")),
        "{run:?}"
    );
    login.pop();
    login.push("m1.example.net");
    assert_eq!(mastctl.run(&login).code, 0);
    assert_eq!(mastctl.run(&["status"]).code, 0);
}

#[test]
fn mastctl_has_the_leader_moved_by_any_node_and_tells_a_refusal_apart() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    assert_eq!(mastctl.login(&node).code, 0);
    let nodes = format!("{},m1", closed_port());
    let run = mastctl.run(&["etcd", "leader", "m2", "-n", &nodes]);
    assert_eq!(
        (run.code, &*run.stdout),
        (0, "m1 has handed over: m2 leads etcd.\n"),
        "{}",
        run.stderr
    );
    let run = mastctl.run(&["etcd", "leader", "m2", "--plan"]);
    assert!(
        run.stdout.contains("would hand over to m2"),
        "{}",
        run.stdout
    );
    let run = mastctl.run(&["etcd", "leader", "m9", "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (2, Some("conflict"))
    );
    // When nobody hears the word, the last failure is told.
    let run = mastctl.run(&["etcd", "leader", "m2", "-n", &closed_port(), "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (1, Some("connection-refused"))
    );
}

#[test]
fn mastctl_has_the_virtual_address_moved_and_tells_a_refusal_apart() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    assert_eq!(mastctl.login(&node).code, 0);
    for (words, told) in [
        (
            vec!["m2"],
            "m1 has handed over: m2 owns 10.20.0.10, which nobody did for 25 ms.\n",
        ),
        (vec!["m1"], "m1 owns 10.20.0.10 already.\n"),
        (
            vec!["m2", "--plan", "--address", "10.20.0.8"],
            "m1 owns 10.20.0.8, and would hand it over to m2. Connections to it are reset, and made anew by clients.\n",
        ),
    ] {
        let run = mastctl.run(&[&["vip", "move"], &*words].concat());
        assert_eq!((run.code, &*run.stdout), (0, told), "{}", run.stderr);
    }
    let run = mastctl.run(&["vip", "move", "m2", "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(said["moves"][0]["took"], 25);
    assert_eq!(said["done"], true);
    let run = mastctl.run(&["vip", "move", "m9", "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (2, Some("conflict"))
    );
}

/// An address at which nobody listens: a port that was free a moment ago.
#[test]
fn a_token_makes_one_operator_who_can_be_taken_out() {
    let (alice, bob, carol) = (Mastctl::new(), Mastctl::new(), Mastctl::new());
    let node = TestNode::start(&[alice.keygen().public()]);
    let keys = [&bob, &carol].map(|mastctl| mastctl.keygen().public().to_string());
    assert_eq!(alice.login(&node).code, 0);
    let why = |run: &support::Run| {
        let refused = (run.code, run.error()["code"].as_str().map(str::to_owned));
        assert_eq!(refused, (2, Some("login-refused".to_owned())), "{run:?}");
        run.error()["message"].to_string()
    };
    let cut = bob.login_with(&node, &["--token", "mt1-07070707"]);
    assert!(why(&cut).contains("mistyped or cut"));

    let run = alice.run(&["token", "--ttl", "25h", "-o", "json"]);
    assert_eq!(run.code, 2, "{run:?}");
    let made = alice.run(&["token", "-o", "json"]).json();
    let token = made["token"].as_str().expect("a token");
    assert_eq!(made["expires_at"], "1970-01-01T00:15:00Z");
    assert_eq!(made["fingerprint"], node.fingerprint.to_string());
    let run = alice.run(&["token"]);
    let next = format!("login NODE --fingerprint {} --token - ", node.fingerprint);
    assert!(
        run.stdout.starts_with(token) && run.stdout.contains(&next),
        "{run:?}"
    );

    let with = |mastctl: &Mastctl, token: &str| mastctl.login_with(&node, &["--token", token]);
    let enrolled = |run: support::Run| {
        assert_eq!(run.code, 0, "{run:?}");
        run.json()["enrolled"].as_bool()
    };
    let run = bob.login_with_token(&node, "");
    assert_eq!(run.code, 2, "{run:?}");
    assert_eq!(enrolled(bob.login_with_token(&node, token)), Some(true));
    assert!(why(&with(&carol, token)).contains("no such token"));
    // An operator has no need of it.
    assert_eq!(enrolled(with(&bob, token)), Some(false));
    let run = bob.run(&["operators", "list", "-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let listed = run.json();
    assert_eq!(listed["enrolled"][0]["key"], *keys[0]);

    let run = alice.run(&["operators", "remove", &keys[1], "-o", "json"]);
    assert_eq!(run.error()["code"], "not-found", "{run:?}");
    let run = alice.run(&["operators", "remove", &keys[0]]);
    let said = format!("{} is taken out, and the tokens 0a0b0c0d.", keys[0]);
    assert!(run.code == 0 && run.stdout.starts_with(&said), "{run:?}");
    let run = bob.run(&["operators", "list", "-o", "json"]);
    assert_eq!(run.error()["code"], "forbidden", "{run:?}");

    let log = node.log();
    assert!(log.contains("an operator has come in by a token"), "{log}");
    let secret = token.rsplit('-').next().expect("a last word");
    assert!(!log.contains(secret), "{log}");
}

#[test]
fn who_came_in_by_a_token_is_no_operator_of_a_node_without_a_cluster() {
    let (alice, bob) = (Mastctl::new(), Mastctl::new());
    let admin = alice.keygen().public();
    let node = TestNode::start(&[admin]);
    node.seen
        .lock()
        .unwrap()
        .enrolled
        .push(bob.keygen().public());
    let run = bob.login(&node);
    assert_eq!(run.code, 0, "{run:?}");
    let fingerprint = node.be_provisional(&[admin]);
    let run = bob.login_by(&node, fingerprint, &[]);
    assert_eq!(run.error()["code"], "login-refused", "{run:?}");
    let run = alice.login_by(&node, fingerprint, &[]);
    assert_eq!(run.code, 0, "{run:?}");
}

fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn mastctl_says_which_nodes_do_not_answer_and_shows_the_others() {
    let mastctl = Mastctl::new();
    let key = mastctl.keygen();
    let node = TestNode::start(&[key.public()]);
    assert_eq!(mastctl.login(&node).code, 0);
    let nodes = format!("m1,{}", closed_port());
    let run = mastctl.run(&["status", "-n", &nodes, "-o", "json"]);
    assert_eq!(
        (run.code, run.error()["code"].as_str()),
        (1, Some("connection-refused"))
    );
    let document = run.json();
    let states: Vec<_> = document["nodes"].as_array().unwrap().iter().collect();
    assert_eq!(states[0]["error"]["code"], "connection-refused");
    assert_eq!(states[1]["status"]["node"]["name"], "m1");
}

#[test]
fn a_followed_log_ends_with_its_reader() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    let credentials = node.credentials(&key, Duration::ZERO);
    block(async {
        use http_body_util::BodyExt as _;
        let mut connection = node.client(Some(&credentials)).connect().await.unwrap();
        let answer = connection
            .send("follow", "/v1/logs/quiet?follow=true", None::<&()>)
            .await;
        let mut body = answer.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.data_ref().unwrap(), "waiting\n");
        assert!(
            node.quiet_ended.try_recv().is_err(),
            "it goes on while somebody reads"
        );
    });
    // The runtime is gone, and the connection with it.
    node.quiet_ended
        .recv_timeout(PATIENCE)
        .expect("the node lets go of the log");
}

/// What must not be waited for: idle strangers are cut after 10 s, and whoever had waited for that was not let in.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(5);

/// An operator, who must be answered at once.
fn operator(node: &TestNode, key: &OperatorPrivateKey) -> Client {
    let credentials = node.credentials(key, Duration::ZERO);
    let trust = Trust::Fingerprint(node.fingerprint);
    Client::new(node.endpoint(), trust, Some(&credentials), AT_ONCE).expect("a client")
}

/// A connection from that address of the loopback network.
async fn connect_from(source: [u8; 4], to: std::net::SocketAddr) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind((source, 0).into())
        .expect("all of 127/8 is ours");
    socket.connect(to).await.expect("a connection")
}

#[test]
fn idle_connections_do_not_keep_operators_out() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    block(async {
        let early = operator(&node, &key);
        let mut connected = early.connect().await.unwrap();
        let sources: [fn(u8) -> [u8; 4]; 2] = [|_| [127, 0, 0, 1], |number| [127, 0, 1, number]];
        for source in sources {
            let mut idle = Vec::new();
            for number in 1..=100 {
                idle.push(connect_from(source(number), node.address).await);
            }
            status(&operator(&node, &key)).await.unwrap();
            // Neither does it cost one who is in already the place.
            connected
                .ask("read", routes::STATUS, None::<&()>)
                .await
                .unwrap();
        }
    });
}

#[test]
fn one_operator_does_not_take_the_places_of_another() {
    let keys = [(); 2].map(|()| OperatorPrivateKey::generate().unwrap());
    let node = TestNode::start(&keys.each_ref().map(OperatorPrivateKey::public));
    block(async {
        let [greedy, modest] = keys.each_ref().map(|key| operator(&node, key));
        let mut held = Vec::new();
        let mut connected = None;
        for round in 0..2 {
            for _ in 0..60 {
                let mut connection = greedy.connect().await.unwrap();
                connection
                    .ask("read", routes::STATUS, None::<&()>)
                    .await
                    .unwrap();
                held.push(connection);
            }
            let connection = match &mut connected {
                None => connected.insert(modest.connect().await.unwrap()),
                Some(connection) => connection,
            };
            let answer = connection.ask("read", routes::STATUS, None::<&()>).await;
            assert!(answer.is_ok(), "round {round}: {:?}", answer.err());
        }
    });
}

#[test]
fn half_a_request_does_not_keep_operators_out() {
    use tokio::io::AsyncWriteExt as _;
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    block(async {
        let halves = [
            "POST /v1/login HTTP/1.1\r\nhost: m1\r\n",
            "POST /v1/login HTTP/1.1\r\nhost: m1\r\ncontent-length: 100\r\n\r\n{",
        ];
        let mut slow = Vec::new();
        for half in halves.iter().cycle().take(100) {
            let mut stream = support::tls(&node, None).await.unwrap();
            stream.write_all(half.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            slow.push(stream);
        }
        status(&operator(&node, &key)).await.unwrap();
        // Nor those who still have to log in.
        let trust = Trust::Fingerprint(node.fingerprint);
        let stranger = Client::new(node.endpoint(), trust, None, AT_ONCE).unwrap();
        let refused = status(&stranger).await.unwrap_err();
        assert_eq!(refused.code, "certificate-required");
    });
}

#[test]
fn idle_connections_do_not_keep_scrapers_out() {
    let node = TestNode::start(&[]);
    for source in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        let idle: Vec<_> = block(async {
            let mut idle = Vec::new();
            for _ in 0..100 {
                let socket = connect_from(source, node.metrics).await;
                idle.push(socket.into_std().unwrap());
            }
            idle
        });
        let answer = support::scrape(&node, "/metrics", AT_ONCE);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(idle);
    }
}

#[test]
fn metrics_are_plain_http() {
    let node = TestNode::start(&[]);
    let get = |path: &str| support::scrape(&node, path, PATIENCE);
    let answer = get("/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("\nmasthead_service_restarts_total{service=\"etcd\"} 3\n"),
        "{answer}"
    );
    assert!(get("/v1/status").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_connection_does_not_outlive_its_certificate() {
    let key = OperatorPrivateKey::generate().unwrap();
    let node = TestNode::start(&[key.public()]);
    let credentials = node.credentials(&key, Duration::hours(8) - Duration::seconds(3));
    block(async {
        use http_body_util::BodyExt as _;
        let client = node.client(Some(&credentials));
        let mut following = client.connect().await.unwrap();
        let mut asking = client.connect().await.unwrap();
        let log = following
            .send("follow", "/v1/logs/quiet?follow=true", None::<&()>)
            .await;
        asking
            .ask("read", routes::STATUS, None::<&()>)
            .await
            .unwrap();

        let whole = tokio::time::timeout(PATIENCE, log.unwrap().into_body().collect());
        let whole = whole.await.expect("the log ends by itself").unwrap();
        assert_eq!(whole.to_bytes(), "waiting\n");
        let refused = asking
            .ask("read", routes::STATUS, None::<&()>)
            .await
            .unwrap_err();
        assert_eq!(refused.code, "certificate-required");
    });
}
