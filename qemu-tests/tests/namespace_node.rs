//! What an operator, an auditor and a stranger find on a ready node: rights as the tables grant them,
//! versions as they are pinned, and nothing but what `make image` ships.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use fixture::{Fixture, SERVICES};
use masthead_api::Timestamp;
use masthead_lab::tools::run;
use masthead_pki::Description;
use masthead_policy::{Service, Services};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Where the metrics are.
const METRICS_PORT: u16 = 9441;

#[test]
fn services_have_the_rights_that_the_table_grants() {
    let fixture = Fixture::ready();
    let status = fixture.expect(fixture.status());
    assert_eq!(
        status["degraded"].as_array().map(Vec::len),
        Some(0),
        "kernel settings and mounts are as the tables say: {}",
        status["degraded"]
    );
    let table = Services::embedded().expect("the table is valid");
    let names: Vec<&str> = table.services.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, SERVICES, "every service runs, and is in the table");
    let first_user = fixture.expect(fixture.m1().init_process());
    let first_user = number(&field(first_user, "status", "Uid:"));
    for row in &table.services {
        let processes = fixture.expect(fixture.m1().processes(&row.name));
        assert!(!processes.is_empty(), "{} runs", row.name);
        for process in processes {
            assert_rights(process, row, first_user);
        }
    }
}

/// Compares a running process with its row of `configs/node/services.toml`; user 0 of the node is
/// `first_user` of the host.
fn assert_rights(process: i32, row: &Service, first_user: u64) {
    let name = &row.name;
    let status = |key| field(process, "status", key);
    let ids = |id: u32| vec![(first_user + u64::from(id)).to_string(); 4];
    let four = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(four(&status("Uid:")), ids(row.uid), "users of {name}");
    assert_eq!(four(&status("Gid:")), ids(row.gid), "groups of {name}");
    let groups: Vec<String> = row
        .groups
        .iter()
        .map(|group| (first_user + u64::from(*group)).to_string())
        .collect();
    assert_eq!(four(&status("Groups:")), groups, "further groups of {name}");

    assert!(
        row.capabilities.is_empty(),
        "this test expects services without capabilities: teach it {:?}",
        row.capabilities
    );
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status(set), "0000000000000000", "{set} of {name}");
    }
    assert_eq!(status("NoNewPrivs:"), "1", "{name}");
    assert!(
        field(process, "cgroup", "0::").ends_with(&format!("/services/{name}")),
        "{name} is in its own control group"
    );

    // A node in a namespace can go neither below the lab's own value nor above its hard limits.
    let inherited: i32 = read("/proc/self/oom_score_adj").parse().expect("a number");
    let adjusted: i32 = read(&format!("/proc/{process}/oom_score_adj"))
        .parse()
        .expect("a number");
    assert_eq!(adjusted, row.oom_score_adj.max(inherited), "{name}");
    for (limit, &wanted) in &row.limits {
        let key = match limit.as_str() {
            "nofile" => "Max open files",
            "core" => "Max core file size",
            "memlock" => "Max locked memory",
            other => panic!("teach this test the limit `{other}`"),
        };
        let both = |process: &str| -> [u64; 2] {
            let line = field_of(&format!("/proc/{process}/limits"), key);
            let mut values = line.split_whitespace().map(|value| match value {
                "unlimited" => u64::MAX,
                value => number(value),
            });
            [(); 2].map(|()| values.next().expect("soft and hard"))
        };
        let [_, highest] = both("self");
        assert_eq!(
            both(&process.to_string()),
            [wanted.min(highest); 2],
            "{limit} of {name}"
        );
    }
}

#[test]
fn an_operator_gets_versions_metrics_logs_and_credentials_that_expire() {
    let fixture = Fixture::ready();
    let version = fixture.expect(fixture.kubectl(&["version", "--output=json"]));
    let version: Value = serde_json::from_str(&version).expect("kubectl prints JSON");
    assert_eq!(version["serverVersion"]["gitVersion"], pinned_kubernetes());

    let metrics = metrics(&fixture);
    for service in SERVICES {
        let sample = format!("masthead_service_restarts_total{{service=\"{service}\"}} 0\n");
        assert!(metrics.contains(&sample), "{metrics}");
    }

    let log = fixture.expect(fixture.mastctl(&["--nodes", "m1", "logs", "kube-apiserver"]));
    assert!(log.lines().count() > 10, "{log}");

    let file = fixture.cluster.directory().path().join("one-hour");
    let server = format!("https://{}", kubernetes_port(&fixture));
    let address = fixture.m1().plan().address().to_string();
    fixture.expect(run(fixture
        .cluster
        .mastctl()
        .args(["--nodes", "m1", "kubeconfig", "--ttl", "1h"])
        .args(["--server", &server, "--tls-server-name", &address])
        .arg("--file")
        .arg(&file)));
    let me = fixture.expect(run(stranger(&fixture)
        .arg("--kubeconfig")
        .arg(&file)
        .args(["auth", "whoami", "--output=json"])));
    let me: Value = serde_json::from_str(&me).expect("kubectl prints JSON");
    let groups = me["status"]["userInfo"]["groups"].to_string();
    assert!(groups.contains("\"masthead:admins\""), "{me}");
    assert!(!groups.contains("\"system:masters\""), "{me}");

    every_certificate_is_listed(&fixture);
}

/// Compares what `mastctl certs` lists with the files that the services read.
fn every_certificate_is_listed(fixture: &Fixture) {
    let listed = fixture.expect(fixture.mastctl(&["certs", "--output", "json"]));
    let listed: Value = serde_json::from_str(&listed).expect("mastctl prints JSON");
    let listed = listed["nodes"][0]["certificates"].as_array();
    let listed = listed.expect("a list of certificates");
    let init = fixture.expect(fixture.m1().init_process());
    let folders = format!("/proc/{init}/root/run/masthead/config");
    let mut number = 0;
    for folder in fs::read_dir(folders).expect("list the services") {
        let folder = folder.expect("list the services").path();
        for file in fs::read_dir(folder).expect("list a service's files") {
            let path = file.expect("list a service's files").path();
            if path.extension().is_none_or(|extension| extension != "crt") {
                continue;
            }
            let name = path.file_stem().and_then(|stem| stem.to_str());
            let row = listed
                .iter()
                .find(|row| row["name"].as_str() == name)
                .unwrap_or_else(|| panic!("{} is not listed: {listed:?}", path.display()));
            let text = fs::read_to_string(&path).expect("read a certificate");
            let description = Description::of_pem(&text).expect("a certificate");
            let expires = description.not_after.unix_timestamp() * 1000;
            assert_eq!(
                row["expires_at"],
                Timestamp::from_unix_millis(expires).to_string(),
                "{row}"
            );
            let authority = path.to_string_lossy().ends_with("-ca.crt");
            assert_eq!(row["renewed_at"].is_null(), authority, "{row}");
            assert_eq!(row["issued_by"].is_null(), authority, "{row}");
            number += 1;
        }
    }
    assert!(number > 15, "only {number} certificates are in use");
}

#[test]
fn a_stranger_sees_readiness_and_nothing_else() {
    let fixture = Fixture::ready();
    let server = format!("--server=https://{}", kubernetes_port(&fixture));
    let ask = |path: &str| {
        run(stranger(&fixture)
            .args(["--kubeconfig=/dev/null", &server])
            // It has no way to know the cluster's authority.
            .args(["--insecure-skip-tls-verify", "--request-timeout=10s"])
            // The apiserver knows no passwords and takes no notice; kubectl would ask for them.
            .args(["--username=nobody", "--password=nothing"])
            .args(["get", "--raw", path]))
    };
    assert_eq!(fixture.expect(ask("/readyz")), "ok");
    for path in ["/api", "/version", "/metrics"] {
        let refused = ask(path).expect_err("a stranger is refused").to_string();
        assert!(
            ["Forbidden", "Unauthorized", "must be logged in"]
                .iter()
                .any(|word| refused.contains(word)),
            "{path}: {refused}"
        );
    }
}

#[test]
fn secrets_are_encrypted_where_etcd_keeps_them() {
    let fixture = Fixture::ready();
    let literal = "--from-literal=word=plain-words-of-this-test";
    fixture.expect(fixture.kubectl(&["create", "secret", "generic", "hidden", literal]));
    fixture.expect(fixture.kubectl(&["create", "configmap", "shown", literal]));
    let init = fixture.expect(fixture.m1().init_process());
    let etcd = PathBuf::from(format!("/proc/{init}/root/etcd/data/member"));
    let mut bytes = Vec::new();
    for folder in ["wal", "snap"] {
        for entry in fs::read_dir(etcd.join(folder)).expect("list etcd's files") {
            let path = entry.expect("list etcd's files").path();
            let mut file = File::open(&path).expect("open etcd's file");
            file.read_to_end(&mut bytes).expect("read etcd's file");
        }
    }
    let after = |key: &[u8], length: usize| -> Vec<Vec<u8>> {
        positions(&bytes, key)
            .map(|start| bytes[start..bytes.len().min(start + length)].to_vec())
            .collect()
    };
    let holds = |places: &[Vec<u8>], word: &[u8]| {
        places
            .iter()
            .any(|place| positions(place, word).next().is_some())
    };
    let plain = b"plain-words-of-this-test";
    let secrets = after(b"/registry/secrets/default/hidden", 1024);
    assert!(holds(&secrets, b"k8s:enc:secretbox:v1:"), "it is encrypted");
    assert!(
        secrets.iter().all(|place| {
            let end = positions(place, b"/registry/configmaps/").next();
            positions(&place[..end.unwrap_or(place.len())], plain)
                .next()
                .is_none()
        }),
        "its words are nowhere near"
    );
    // The same search finds what is not encrypted.
    let shown = after(b"/registry/configmaps/default/shown", 1024);
    assert!(holds(&shown, plain), "a ConfigMap is found as it is");
}

/// No fault hook and no test switch: what was tested is what is shipped.
#[test]
fn the_tested_root_and_init_are_those_that_make_image_ships() {
    let fixture = Fixture::ready();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/image");
    let init = fixture.expect(fixture.m1().init_process());
    let tested = PathBuf::from(format!("/proc/{init}/root/init"));
    assert_eq!(hash(&tested), hash(&shipped.join("init")), "/init");
    assert_eq!(
        hash(Path::new(&format!("/proc/{init}/exe"))),
        hash(&shipped.join("init")),
        "what runs as PID 1"
    );
    assert_eq!(
        hash(&mounted_root(init)),
        hash(&shipped.join("root.erofs")),
        "the root"
    );
}

/// The file, or the device over it, that a process's root is mounted from.
fn mounted_root(process: i32) -> PathBuf {
    let mounts = read(&format!("/proc/{process}/mountinfo"));
    // proc_pid_mountinfo(5): … major:minor root target options fields - type source options
    let root: Vec<&str> = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[4] == "/")
        .expect("a root");
    let separator = root
        .iter()
        .position(|field| *field == "-")
        .expect("a separator");
    assert_eq!(root[separator + 1], "erofs", "{root:?}");
    PathBuf::from(root[separator + 2])
}

fn hash(path: &Path) -> String {
    let mut hash = Sha256::new();
    File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hash))
        .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    format!("{:x}", hash.finalize())
}

/// The version of Kubernetes that `components/` pins, as `v1.2.3`.
fn pinned_kubernetes() -> String {
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../components/go.mod");
    field_of(module, "\tk8s.io/kubernetes ")
}

/// The loopback address that leads to m1's apiserver.
fn kubernetes_port(fixture: &Fixture) -> String {
    let port = fixture.cluster.describe().nodes[0].kubernetes.clone();
    port.expect("a way to the apiserver")
}

/// kubectl without any configuration.
fn stranger(fixture: &Fixture) -> Command {
    let mut kubectl = Command::new(fixture.cluster.directory().programs().join("kubectl"));
    kubectl.env_remove("KUBECONFIG");
    kubectl
}

/// What `/metrics` answers.
fn metrics(fixture: &Fixture) -> String {
    let address = SocketAddrV4::new(fixture.m1().plan().address(), METRICS_PORT);
    let forward = fixture.expect(fixture.cluster.forward(address));
    let mut socket = TcpStream::connect(forward.local).expect("connect to the forwarder");
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: m1\r\nConnection: close\r\n\r\n")
        .expect("ask for the metrics");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// Where `word` begins in `bytes`.
fn positions<'a>(bytes: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes
        .windows(word.len())
        .enumerate()
        .filter_map(move |(start, window)| (window == word).then_some(start))
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("read {path}: {error}"));
    text.trim().to_owned()
}

/// What follows `key` on the line of `/proc/PROCESS/FILE` that begins with it.
fn field(process: i32, file: &str, key: &str) -> String {
    field_of(&format!("/proc/{process}/{file}"), key)
}

fn field_of(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("read {path}: {error}"));
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap_or_else(|| panic!("{path} has no line `{key}`:\n{text}"));
    value.trim().to_owned()
}

fn number(text: &str) -> u64 {
    let first = text.split_whitespace().next().unwrap_or_default();
    first
        .parse()
        .unwrap_or_else(|_| panic!("`{text}` is no number"))
}
