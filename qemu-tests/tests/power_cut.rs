//! A power cut in a namespace node costs what a real one costs: the image's etcd, alone under
//! a stand-in for `/init`, keeps what it has acknowledged, and one that does not flush does not.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    time::Duration,
};

use masthead_lab::{
    error::chain,
    namespace::NamespaceProvider,
    patience::{Look, Patience},
    plan::ClusterPlan,
    provider::{Node, Provider},
};
use serde_json::{Value, json};

/// As many as in the measurement that DESIGN's rule comes from.
const WRITES: u32 = 60;

#[test]
fn etcd_keeps_what_it_has_acknowledged() {
    let (acknowledged, there) = cut_after_writes("");
    assert_eq!(acknowledged.len(), WRITES as usize);
    let there = there.unwrap_or_else(|console| panic!("etcd does not answer:\n{console}"));
    let missing: Vec<_> = acknowledged.difference(&there).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
}

/// The positive control: the test above can see a loss. An etcd that has lost the beginnings of
/// its log does not even answer any more, and has lost everything.
#[test]
fn etcd_that_does_not_flush_loses_what_it_has_acknowledged() {
    let (acknowledged, there) = cut_after_writes(" --unsafe-no-fsync");
    assert_eq!(acknowledged.len(), WRITES as usize);
    let kept = there.is_ok_and(|there| acknowledged.is_subset(&there));
    assert!(!kept, "a cut that loses nothing proves nothing");
}

/// Writes keys, cuts the power, powers on again, and returns the acknowledged keys and those that are
/// there; instead of these the console, if etcd does not answer any more.
fn cut_after_writes(flag: &str) -> (BTreeSet<String>, Result<BTreeSet<String>, String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let changes = folder.path().join("changes");
    fs::create_dir(&changes).expect("make a folder");
    fs::copy(env!("CARGO_BIN_EXE_stand-in-init"), changes.join("init")).expect("copy");
    let mut plan = ClusterPlan::new(1, folder.path().join("lab"), support::image());
    plan.root_changes = Some(changes);

    let node_plan = plan.nodes().remove(0);
    let clients = SocketAddrV4::new(node_plan.address(), 2379);
    let peers = SocketAddrV4::new(node_plan.address(), 2380);
    let script = format!(
        "mount\n\
         up {}\n\
         run /bin/etcd --data-dir=/etcd/data --log-level=error \
         --listen-client-urls=http://{clients} --advertise-client-urls=http://{clients} \
         --listen-peer-urls=http://{peers} --initial-advertise-peer-urls=http://{peers} \
         --initial-cluster=default=http://{peers}{flag}\n",
        node_plan.address()
    );
    let provider = NamespaceProvider::new(env!("CARGO_BIN_EXE_lab")).expect("namespaces");
    let node = provider.add_node(&node_plan, &script).expect("a node");
    let forward = provider.forward(clients).expect("a forwarder");

    node.power_on()
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    wait_for_etcd(forward.local, node.as_ref()).expect("etcd answers");
    let acknowledged = (0..WRITES)
        .map(|number| {
            // Eight digits are base64 too.
            let key = format!("{number:08}");
            ask(
                forward.local,
                "/v3/kv/put",
                &json!({ "key": key, "value": key }),
            )
            .expect("written");
            key
        })
        .collect();
    node.cut_power().expect("cut");

    node.power_on().expect("power on again");
    if let Err(console) = wait_for_etcd(forward.local, node.as_ref()) {
        return (acknowledged, Err(console));
    }
    let all = json!({ "key": "AA==", "range_end": "AA==", "keys_only": true });
    let answer = ask(forward.local, "/v3/kv/range", &all).expect("read");
    let there = answer["kvs"].as_array().into_iter().flatten();
    let there = there
        .filter_map(|pair| Some(pair["key"].as_str()?.to_owned()))
        .collect();
    (acknowledged, Ok(there))
}

fn wait_for_etcd(through: SocketAddr, node: &dyn Node) -> Result<(), String> {
    Patience::new(1.0)
        .wait_until("etcd to answer", Duration::from_secs(5), || {
            let answer = ask(through, "/v3/kv/range", &json!({ "key": "AA==" }));
            Look::at(answer.is_ok(), || format!("{answer:?}"))
        })
        .map_err(|error| format!("{error}\n{}", support::console(node)))
}

/// One request to etcd's JSON gateway, answered with status 200.
fn ask(through: SocketAddr, path: &str, body: &Value) -> io::Result<Value> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(through)?;
    stream.set_read_timeout(Some(Patience::new(1.0).of(Duration::from_secs(5))))?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 OK") => Ok(serde_json::from_str(body)?),
        _ => Err(io::Error::other(answer)),
    }
}
