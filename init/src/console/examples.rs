//! Statuses for tests.

use masthead_api::etcd::{Etcd, EtcdMember, EtcdRole};
use masthead_api::status::{
    Certificate, Clock, ClockState, Cluster, Disk, DiskState, Exit, FailedImage, Installation,
    InstallationState, Network, Node, NodeKind, Probe, ProbeKind, Seed, SeedAttempt, Service,
    ServiceState, Status, Supervisor, VirtualAddress, VirtualState,
};
use masthead_api::{FORMAT, Fingerprint, Reason, ReasonCode, Timestamp};

/// 14:13:20 UTC and that many seconds.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_790_000_000_000 + seconds * 1000)
}

/// Any reason.
pub(crate) fn reason() -> Reason {
    Reason::new(ReasonCode::NetworkNoCarrier, at(9))
}

fn service(name: &str, state: ServiceState, pid: Option<u32>, since: i64) -> Service {
    Service {
        name: name.into(),
        state,
        since: at(since),
        pid,
        restarts: 0,
        last_exit: None,
        crash_looping: false,
        probes: Vec::new(),
        waiting: None,
        last_lines: Vec::new(),
    }
}

fn disk(role: &str, number: u8, used: u64) -> Disk {
    Disk {
        role: role.into(),
        device: Some(format!("/dev/vda{number}")),
        serial: None,
        state: DiskState::Ready,
        filesystem: Some("ext4".into()),
        used: Some(used),
        size: Some(1 << 30),
        reason: None,
    }
}

/// A master that works.
pub(crate) fn running() -> Status {
    let mut etcd = service("etcd", ServiceState::Ready, Some(71), 2);
    etcd.probes = vec![Probe {
        kind: ProbeKind::Readiness,
        healthy: true,
        detail: String::new(),
        at: at(60),
    }];
    Status {
        format: FORMAT,
        node: Node {
            name: "m1".into(),
            machine_id: Some("4f7a".into()),
            kind: NodeKind::Machine,
            version: "0.1.0".into(),
            image: "0d7b1c2e-0000-4000-8000-000000000001".into(),
            kernel: "6.12.1".into(),
            kubernetes: "v1.36.0".into(),
            etcd: "3.6.5".into(),
            boot_time: at(0),
            uptime: 61,
            boot_id: "b1".into(),
            timing_scale: 1.0,
            supervisor: Supervisor {
                pid: 2,
                restarts: 0,
                last_death: None,
                resident: Some(9_000_000),
                processor: Some(1_234),
            },
        },
        cluster: Some(Cluster {
            name: "ams-prod".into(),
            id: Some("c1".into()),
            endpoint: Some("10.20.0.11:6443".into()),
        }),
        formation: None,
        seed: Seed {
            source: Some("QEMU fw_cfg opt/masthead/seed".into()),
            hash: Some("ab".repeat(32)),
            warnings: Vec::new(),
            attempts: Vec::new(),
        },
        installation: Some(Installation {
            state: InstallationState::Installed,
            generation: Some(3),
            slot: Some("A".into()),
            version: Some("0.1.0".into()),
            reason: None,
            on_trial: false,
            failed: None,
        }),
        disks: vec![
            disk("STATE", 4, 1 << 20),
            disk("ETCD", 5, 1 << 25),
            disk("DATA", 6, 1 << 21),
        ],
        network: Network {
            index: Some(2),
            interface: Some("eth0".into()),
            mac: Some("52:54:00:10:00:11".into()),
            carrier: true,
            addresses: vec!["10.20.0.11/24".into()],
            gateway: Some("10.20.0.1".into()),
            waiting: None,
        },
        clock: Some(Clock {
            state: ClockState::Synchronized,
            server: Some("10.20.0.2".into()),
            offset_us: Some(-1500),
            at: Some(at(40)),
            reason: None,
        }),
        services: vec![
            etcd,
            service("kube-apiserver", ServiceState::Ready, Some(72), 9),
            service("kube-scheduler", ServiceState::Starting, Some(73), 9),
        ],
        virtual_addresses: vec![VirtualAddress {
            address: "10.20.0.10".into(),
            state: VirtualState::Standby,
            owner: Some("m2".into()),
            since: None,
            epoch: 3,
            hold: Some(250),
            moves: 1,
            reason: None,
        }],
        etcd: Some(Etcd {
            member_id: "0000000000000001".into(),
            role: EtcdRole::Leader,
            leader: Some("0000000000000001".into()),
            raft_term: 3,
            raft_index: 4711,
            raft_applied_index: 4711,
            db_size: 3 << 20,
            db_in_use: 2 << 20,
            db_quota: 8 << 30,
            errors: Vec::new(),
            members: vec![EtcdMember {
                id: "0000000000000001".into(),
                name: "m1".into(),
                learner: false,
            }],
            disruption: None,
        }),
        api_fingerprint: Some(Fingerprint::of(b"authority")),
        api_provisional: false,
        certificates: vec![Certificate {
            name: "management-server".into(),
            issued_by: Some("operators-ca".into()),
            expires_at: Some(at(86_400)),
            renewed_at: Some(at(57_600)),
        }],
        waiting: Vec::new(),
        degraded: Vec::new(),
    }
}

/// A machine without a good seed.
pub(crate) fn seedless() -> Status {
    let mut status = running();
    status.node.name.clear();
    status.node.kubernetes.clear();
    status.cluster = None;
    status.seed = Seed::default();
    status.seed.attempts = vec![
        SeedAttempt {
            source: "QEMU fw_cfg".into(),
            outcome: "not there".into(),
        },
        SeedAttempt {
            source: "volume CIDATA".into(),
            outcome: "refused".into(),
        },
    ];
    status.disks.clear();
    status.installation = None;
    status.virtual_addresses.clear();
    status.network = Network::default();
    status.services.clear();
    status.api_fingerprint = None;
    status.waiting =
        vec![Reason::new(ReasonCode::SeedInvalid, at(5)).with_cause(
            "CIDATA/seed.toml:3:11: unknown disk type\n  3 | disk = { typ = \"nvme\" }\n    |          ^^^ did you mean `type`?",
        )];
    status
}

/// A master whose apiserver keeps dying and whose disk is gone.
pub(crate) fn failing() -> Status {
    let mut status = running();
    let apiserver = &mut status.services[1];
    apiserver.state = ServiceState::BackingOff;
    apiserver.crash_looping = true;
    apiserver.pid = None;
    apiserver.restarts = 7;
    apiserver.last_exit = Some(Exit {
        code: Some(1),
        signal: None,
        at: at(58),
        ran_for: Some(300),
        ended_by: None,
    });
    apiserver.last_lines = [
        "first",
        "second",
        "Error: unknown flag: --frobnicate",
        "\u{1b}[2Jcleared",
    ]
    .map(str::to_owned)
    .to_vec();
    status.services[2].state = ServiceState::Waiting;
    status.services[2].pid = None;
    status.services[2].waiting = Some(
        Reason::new(ReasonCode::ServiceDependency, at(9))
            .with_cause("Waits for kube-apiserver to be ready."),
    );
    status.services[0].state = ServiceState::Unready;
    status.services[0].probes[0].healthy = false;
    status.services[0].probes[0].detail = "GET /health: 503".into();
    status.disks[2].state = DiskState::Lost;
    let lost = Reason::new(ReasonCode::DiskLost, at(50)).with_cause("DATA on /dev/vda6 is gone.");
    status.disks[2].reason = Some(lost.clone());
    status.degraded = vec![lost];
    if let Some(installation) = &mut status.installation {
        installation.on_trial = true;
        installation.failed = Some(FailedImage {
            generation: 2,
            version: "0.2.0".into(),
            why: "it was started 2 times,\nand has not said why".into(),
            at: at(1),
        });
    }
    status.virtual_addresses[0].owner = None;
    status
}
