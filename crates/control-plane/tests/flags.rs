//! Flags: known to the programs, and told apart in those of ours and those of a seed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use masthead_control_plane::{AuditStore, Component, ControlPlane, EtcdStart};
use masthead_machine::Scale;
use masthead_seed::own_flag;
use support::{planned, planned_of, seed, seed_of};

/// Flags that we set and a seed may set otherwise.
const REPLACEABLE: [(Component, &[&str]); 4] = [
    (
        Component::Etcd,
        &[
            "auto-compaction-retention",
            "election-timeout",
            "heartbeat-interval",
            "log-format",
            "logger",
            "max-wals",
            "quota-backend-bytes",
            "snapshot-count",
        ],
    ),
    (
        Component::KubeApiserver,
        &[
            "audit-log-maxage",
            "audit-log-maxbackup",
            "audit-log-maxsize",
            "audit-log-mode",
            "enable-admission-plugins",
            "kubelet-preferred-address-types",
            "shutdown-watch-termination-grace-period",
        ],
    ),
    (
        Component::KubeControllerManager,
        &[
            "controllers",
            "leader-elect-lease-duration",
            "leader-elect-renew-deadline",
            "leader-elect-retry-period",
        ],
    ),
    (Component::KubeScheduler, &[]),
];

fn names(plan: &ControlPlane, component: Component) -> Vec<&str> {
    let name = |argument| {
        let flag = str::strip_prefix(argument, "--").unwrap();
        flag.split_once('=').unwrap().0
    };
    let arguments = &plan.service(component).arguments;
    arguments.iter().map(String::as_str).map(name).collect()
}

fn value(plan: &ControlPlane, component: Component, flag: &str) -> Option<String> {
    let start = format!("--{flag}=");
    let arguments = &plan.service(component).arguments;
    arguments
        .iter()
        .find_map(|argument| argument.strip_prefix(&start))
        .map(str::to_owned)
}

#[test]
fn a_seed_can_replace_what_is_listed_here_and_nothing_else() {
    let plan = planned(&seed("single"), |_| {});
    for (component, replaceable) in REPLACEABLE {
        let open: BTreeSet<&str> = names(&plan, component)
            .into_iter()
            .filter(|flag| own_flag(component, flag).is_none())
            .collect();
        assert_eq!(open, replaceable.iter().copied().collect(), "{component:?}");
    }
}

#[test]
fn no_flag_is_set_twice() {
    for name in [
        "single",
        "full",
        "ipv6",
        "load-balancer",
        "memory",
        "three-masters",
    ] {
        let plan = planned(&seed(name), |_| {});
        for component in Component::ALL {
            let mut names = names(&plan, component);
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(all, names.len(), "{name} {component:?}");
        }
    }
}

#[test]
fn a_seed_s_flags_replace_add_or_come_last() {
    let mut seed = seed("single");
    let flags = [
        ("v", "3"),
        ("audit-log-maxage", "90"),
        ("enable-admission-plugins", "AlwaysPullImages"),
    ];
    seed.kubernetes.flags.insert(
        Component::KubeApiserver,
        flags
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    );
    let plan = planned(&seed, |_| {});
    let value = |flag| value(&plan, Component::KubeApiserver, flag).unwrap();
    assert_eq!(value("v"), "3");
    assert_eq!(value("audit-log-maxage"), "90");
    assert_eq!(
        value("enable-admission-plugins"),
        "NodeRestriction,AlwaysPullImages"
    );
    assert_eq!(
        plan.service(Component::KubeApiserver)
            .arguments
            .last()
            .unwrap(),
        "--v=3"
    );
}

#[test]
fn etcd_founds_once_and_finds_ever_after() {
    let seed = seed("three-masters");
    let state = |etcd_start| {
        let plan = planned(&seed, |inputs| inputs.etcd_start = etcd_start);
        value(&plan, Component::Etcd, "initial-cluster-state").unwrap()
    };
    assert_eq!(state(EtcdStart::New), "new");
    assert_eq!(state(EtcdStart::Existing), "existing");
    let plan = planned(&seed, |_| {});
    let members = value(&plan, Component::Etcd, "initial-cluster").unwrap();
    assert_eq!(members.split(',').count(), 3);
    assert!(members.ends_with("=https://10.20.0.13:2380"), "{members}");
}

/// What all masters must have in common, and what each must have for itself alone.
#[test]
fn members_agree_on_the_cluster_and_differ_in_themselves() {
    for masters in [1, 3, 5] {
        let seed = seed_of(masters);
        let expected: Vec<String> = (1..=masters)
            .map(|number| format!("{number:032x}=https://10.20.0.1{number}:2380"))
            .collect();
        for index in 0..usize::from(masters) {
            let plan = planned_of(&seed, index, |_| {});
            let etcd = |flag| value(&plan, Component::Etcd, flag).unwrap();
            let number = index + 1;
            let (address, id) = (format!("10.20.0.1{number}"), format!("{number:032x}"));

            assert_eq!(etcd("initial-cluster"), expected.join(","));
            assert_eq!(
                etcd("initial-cluster-token"),
                "c0ffee00c0ffee00c0ffee00c0ffee00"
            );
            assert_eq!(
                (etcd("heartbeat-interval"), etcd("election-timeout")),
                ("50".into(), "500".into())
            );
            assert_eq!(etcd("name"), id);
            // A member whose own entry says something else does not start.
            let own = format!("{id}={}", etcd("initial-advertise-peer-urls"));
            assert!(expected.contains(&own), "{own}");
            assert_eq!(etcd("listen-peer-urls"), format!("https://{address}:2380"));
            assert_eq!(
                etcd("advertise-client-urls"),
                format!("https://{address}:2379")
            );
            for proof in [
                "client-cert-auth",
                "peer-client-cert-auth",
                "pre-vote",
                "strict-reconfig-check",
            ] {
                assert_eq!(etcd(proof), "true", "{proof}");
            }

            let apiserver = |flag| value(&plan, Component::KubeApiserver, flag).unwrap();
            assert_eq!(apiserver("etcd-servers"), "https://127.0.0.1:2379");
            assert_eq!(apiserver("advertise-address"), address);
            assert_eq!(apiserver("endpoint-reconciler-type"), "lease");
            let manager = |flag| value(&plan, Component::KubeControllerManager, flag).unwrap();
            assert_eq!(manager("leader-elect"), "true");
        }
    }
}

#[test]
fn the_deadlines_among_components_scale_within_what_etcd_accepts() {
    let seed = seed("single");
    let timing = |scale: f64| {
        let plan = planned(&seed, |inputs| {
            inputs.scale = scale.to_string().parse::<Scale>().unwrap();
        });
        let get = |component, flag| value(&plan, component, flag).unwrap();
        (
            get(Component::Etcd, "heartbeat-interval"),
            get(Component::Etcd, "election-timeout"),
            get(
                Component::KubeControllerManager,
                "leader-elect-renew-deadline",
            ),
        )
    };
    let expect = |heartbeat: &str, election: &str, renew: &str| {
        (heartbeat.to_owned(), election.to_owned(), renew.to_owned())
    };
    assert_eq!(timing(1.0), expect("50", "500", "10s"));
    assert_eq!(timing(12.5), expect("625", "6250", "125s"));
    assert_eq!(timing(1000.0), expect("5000", "50000", "10000s"));
    assert_eq!(timing(0.01), expect("10", "100", "100ms"));
}

#[test]
fn little_audit_is_kept_in_memory() {
    let seed = seed("memory");
    let size = |audit| {
        let plan = planned(&seed, |inputs| inputs.audit = audit);
        let number = |flag| -> u64 {
            value(&plan, Component::KubeApiserver, flag)
                .unwrap()
                .parse()
                .unwrap()
        };
        (number("audit-log-maxbackup") + 1) * number("audit-log-maxsize")
    };
    assert_eq!(size(AuditStore::Memory), 16);
    assert_eq!(size(AuditStore::Disk), 1100);
}

#[test]
fn only_a_load_balancer_before_several_masters_gets_goaways() {
    let goaway = |name| {
        let plan = planned(&seed(name), |_| {});
        value(&plan, Component::KubeApiserver, "goaway-chance").is_some()
    };
    assert!(goaway("load-balancer"));
    assert!(!goaway("three-masters"));
    assert!(!goaway("single"));
}

#[test]
#[ignore = "needs MASTHEAD_COMPONENTS, the multi-call binary"]
fn every_flag_is_known_to_its_program() {
    let components = std::env::var("MASTHEAD_COMPONENTS").expect("MASTHEAD_COMPONENTS");
    let plans = ["single", "full", "load-balancer"].map(|name| planned(&seed(name), |_| {}));
    for component in Component::ALL {
        let help = Command::new(&components)
            .args([component.name(), "--help"])
            .output()
            .unwrap();
        let help = [help.stdout, help.stderr].concat();
        let help = String::from_utf8(help).unwrap();
        let known: BTreeSet<&str> = help
            .split(|character: char| character.is_whitespace() || "=,'".contains(character))
            .filter_map(|word| word.strip_prefix("--"))
            .collect();
        assert!(known.len() > 30, "{component:?} has a help text");
        for plan in &plans {
            for name in names(plan, component) {
                assert!(known.contains(name), "{component:?} does not know --{name}");
            }
        }
    }
}
