//! etcd's command line. `etcd --help` of the version in `components/go.mod` is the reference.

use std::net::SocketAddr;
use std::time::Duration;

use masthead_lifecycle::{Policy, ProbePolicy};
use masthead_machine::Scale;
use masthead_pki::{AuthorityKind, Purpose};

use crate::files::{Files, Reading};
use crate::flags::Flags;
use crate::{
    Component, ETCD_CLIENT_PORT, ETCD_HTTP_PORT, ETCD_METRICS_PORT, ETCD_PEER_PORT, EtcdStart,
    Inputs, Request, Service,
};

const COMPONENT: Component = Component::Etcd;

/// How long a follower waits for its leader, on a real machine. Half of etcd's default, for a local network; `docs/benchmarks.md` has what both
/// cost.
const ELECTION: Duration = Duration::from_millis(500);

pub(crate) fn service(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Service {
    let metrics = inputs.local(ETCD_METRICS_PORT);
    let health = |path: &str| Request::Http {
        address: metrics,
        path: path.to_owned(),
    };
    Service {
        component: COMPONENT,
        program: inputs.paths.programs.join(COMPONENT.name()),
        arguments: arguments(inputs, files),
        environment: Vec::new(),
        readiness: health("/readyz"),
        // Reads from the member itself, not through the quorum: restarting the one that lost its peers helps nobody.
        liveness: health("/livez"),
        policy: Policy {
            readiness: Some(ProbePolicy::READINESS),
            liveness: Some(ProbePolicy::LIVENESS),
            // It verifies its whole store before it serves: 8 GiB from a slow disk.
            startup: Duration::from_secs(600),
            stop_grace: Duration::from_secs(20),
            ..Policy::default()
        },
    }
}

fn arguments(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Vec<String> {
    let address = inputs.master.address;
    let url = |port| format!("https://{}", SocketAddr::new(address, port));
    let authority = files.authority(Some(COMPONENT), AuthorityKind::Etcd);
    let (certificate, key) = files.leaf(Some(COMPONENT), Purpose::EtcdServer, Reading::Watched);
    let (peer_certificate, peer_key) =
        files.leaf(Some(COMPONENT), Purpose::EtcdPeer, Reading::Watched);
    let members: Vec<String> = inputs
        .members
        .iter()
        .map(|member| {
            let peer = SocketAddr::new(member.address, ETCD_PEER_PORT);
            format!("{}=https://{peer}", member.machine_id)
        })
        .collect();
    let (heartbeat, election) = timing(inputs.scale);

    let mut flags = Flags::default();
    flags
        // Who it is. A random id, never the host name: a machine that is replaced under the same name is another member.
        .set("name", inputs.machine_id)
        .set("data-dir", inputs.paths.etcd_data.display())
        // Where it listens. HTTP has a port of its own: shared with gRPC, a busy watch starves.
        .set(
            "listen-client-urls",
            format!(
                "{},https://{}",
                url(ETCD_CLIENT_PORT),
                inputs.local(ETCD_CLIENT_PORT)
            ),
        )
        .set(
            "listen-client-http-urls",
            format!("https://{}", inputs.local(ETCD_HTTP_PORT)),
        )
        .set("listen-peer-urls", url(ETCD_PEER_PORT))
        .set(
            "listen-metrics-urls",
            format!("http://{}", inputs.local(ETCD_METRICS_PORT)),
        )
        // What it tells others: never loopback, never the VIP.
        .set("advertise-client-urls", url(ETCD_CLIENT_PORT))
        .set("initial-advertise-peer-urls", url(ETCD_PEER_PORT))
        // The static list. The token makes the ids of a cluster that is founded again at the same addresses new,
        // so that an old disk cannot join it.
        .set("initial-cluster", members.join(","))
        .set("initial-cluster-token", inputs.cluster_id)
        .set(
            "initial-cluster-state",
            match inputs.etcd_start {
                EtcdStart::New => "new",
                EtcdStart::Existing => "existing",
            },
        )
        .set("strict-reconfig-check", true)
        // Mutual TLS, for clients and for peers. Peers are told from clients by their name.
        .set("client-cert-auth", true)
        .set("trusted-ca-file", &authority)
        .set("cert-file", certificate)
        .set("key-file", key)
        .set("peer-client-cert-auth", true)
        .set("peer-trusted-ca-file", &authority)
        .set("peer-cert-file", peer_certificate)
        .set("peer-key-file", peer_key)
        .set("peer-cert-allowed-cn", Purpose::ETCD_PEER_NAME)
        .set("tls-min-version", "TLS1.3")
        // The JSON gateway has no user here.
        .set("enable-grpc-gateway", false)
        .set("heartbeat-interval", heartbeat)
        .set("election-timeout", election)
        .set("pre-vote", true)
        .set("quota-backend-bytes", 8_u64 << 30)
        // The apiserver compacts.
        .set("auto-compaction-retention", 0)
        .set("snapshot-count", 10_000)
        .set("max-wals", 5)
        .set(
            "feature-gates",
            "InitialCorruptCheck=true,CompactHashCheck=true",
        )
        .set("watch-progress-notify-interval", "5s")
        .set("logger", "zap")
        .set("log-format", "json")
        .set("log-outputs", "stderr");
    flags.with_extra(inputs.seed.kubernetes.flags.get(&COMPONENT))
}

/// Heartbeat and election time-out, in milliseconds: scaled, within what etcd accepts (an election time-out of at most 50 s).
fn timing(scale: Scale) -> (u128, u128) {
    let election = (scale * ELECTION).as_millis().clamp(100, 50_000);
    ((election / 10).max(10), election)
}
