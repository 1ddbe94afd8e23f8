//! Every example seed is valid, and means what it says.

use std::fs;
use std::path::{Path, PathBuf};

use masthead_seed::{Component, DiskKind, DiskSelector, Endpoint, Machine, Master, Seed};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/seeds")
}

fn example(name: &str) -> Seed {
    let bytes = fs::read(folder().join(name)).expect("the example is readable");
    Seed::parse(name, &bytes).unwrap_or_else(|report| panic!("{report}"))
}

fn master<'s>(seed: &'s Seed, name: &str) -> &'s Master {
    seed.masters
        .iter()
        .find(|master| master.name == name)
        .expect("the master is listed")
}

#[test]
fn every_example_is_valid() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).expect("the folder is readable") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name in UTF-8");
        let (seed, report) = Seed::check(name, &fs::read(&path).expect("the example is readable"));
        assert!(seed.is_some(), "{report}");
        let warnings: Vec<&str> = report
            .warnings()
            .map(|warning| warning.message.as_str())
            .collect();
        let known = "`secret` is the one of Masthead's examples: everybody knows it";
        assert_eq!(warnings, [known], "{name}");
        count += 1;
    }
    assert!(count >= 6, "only {count} examples were found");
}

#[test]
fn the_common_part_is_merged_into_each_master() {
    let seed = example("full.toml");
    let (m1, m2, m3) = (
        master(&seed, "m1"),
        master(&seed, "m2"),
        master(&seed, "m3"),
    );
    assert_eq!(m3.network.prefix, 24);
    assert_eq!(
        m3.network.gateway,
        Some("10.20.0.254".parse().expect("an address"))
    );
    assert_eq!(
        m3.network.dns,
        ["10.20.0.3".parse::<std::net::IpAddr>().expect("an address")]
    );
    assert_eq!(m3.network.ntp, m1.network.ntp);
    let DiskSelector::Match(disk) = &m1.disk else {
        panic!("m1 has a disk")
    };
    assert_eq!(
        (disk.kind, disk.min_bytes),
        (Some(DiskKind::Nvme), Some(100_000_000_000))
    );
    let DiskSelector::Match(disk) = &m3.disk else {
        panic!("m3 has a disk")
    };
    assert_eq!((disk.kind, disk.serial.as_deref()), (None, Some("S4EV123")));
    let etcd_disk = |master: &Master| master.etcd_disk.as_ref().and_then(|disk| disk.kind);
    assert_eq!(etcd_disk(m1), Some(DiskKind::Scsi));
    assert_eq!(etcd_disk(m2), Some(DiskKind::Virtio));
    assert_eq!(m1.wipe.as_deref(), Some("S4EV123"));
}

#[test]
fn kubernetes_options_are_read() {
    let seed = example("full.toml");
    let flags = &seed.kubernetes.flags[&Component::KubeApiserver];
    assert_eq!(flags["max-requests-inflight"], "800");
    assert_eq!(flags["v"], "3");
    let files = &seed.kubernetes.files;
    let authentication = files.authentication.as_ref().expect("issuers");
    assert_eq!(authentication["kind"], "AuthenticationConfiguration");
    assert_eq!(
        authentication["jwt"][0]["issuer"]["url"],
        "https://login.example.net"
    );
    assert_eq!(
        files.audit_policy.as_ref().expect("a policy")["rules"][1]["level"],
        "Metadata"
    );
    let admission = files.admission.as_ref().expect("a configuration");
    assert_eq!(admission["apiVersion"], "apiserver.config.k8s.io/v1");
    assert_eq!(admission["plugins"][0]["name"], "PodSecurity");
}

#[test]
fn endpoints_are_virtual_addresses_or_load_balancers() {
    let endpoint = |name| example(name).endpoint;
    assert_eq!(
        endpoint("three-masters.toml"),
        Endpoint::Virtual(vec!["10.20.0.10".parse().expect("an address")])
    );
    assert_eq!(
        endpoint("load-balancer.toml").to_string(),
        "api.example.net:6443"
    );
    assert_eq!(endpoint("single.toml").to_string(), "10.20.0.11:6443");
    assert_eq!(endpoint("ipv6.toml").to_string(), "[2001:db8:20::10]:6443");
}

#[test]
fn a_machine_finds_itself_by_all_that_is_given() {
    let seed = example("full.toml");
    let machine = |macs: &[&str], serial: Option<&str>| Machine {
        macs: macs
            .iter()
            .map(|mac| mac.parse().expect("a MAC address"))
            .collect(),
        serial: serial.map(str::to_owned),
    };
    let found = |machine: &Machine| seed.find_self(machine).map(|master| master.name.clone());
    let by_mac = machine(&["02:00:00:00:00:01", "52:54:00:10:00:11"], None);
    assert_eq!(found(&by_mac), Ok("m1".to_owned()));
    assert_eq!(found(&machine(&[], Some("J4K2M1"))), Ok("m2".to_owned()));
    assert_eq!(
        found(&machine(&["52:54:00:10:00:13"], Some("J4K2M3"))),
        Ok("m3".to_owned())
    );

    let half =
        found(&machine(&["52:54:00:10:00:13"], Some("OTHER"))).expect_err("the serial differs");
    assert_eq!(
        half.to_string(),
        "no master of the seed is this machine; its MAC addresses: 52:54:00:10:00:13; its serial number: OTHER; \
         m3 has this machine's MAC, but another serial number"
    );
    let stranger = found(&machine(&[], None)).expect_err("a stranger");
    assert_eq!(
        stranger.to_string(),
        "no master of the seed is this machine; its MAC addresses: none; it has no serial number"
    );
    let both = found(&machine(&["52:54:00:10:00:11"], Some("J4K2M1"))).expect_err("ambiguous");
    assert!(
        both.to_string()
            .starts_with("more than one master of the seed is this machine: m1, m2;"),
        "{both}"
    );
}

#[test]
fn the_hash_is_that_of_the_meaning() {
    let text = fs::read_to_string(folder().join("full.toml")).expect("the example is readable");
    let hash = |text: &str| {
        Seed::parse("full.toml", text.as_bytes())
            .unwrap_or_else(|report| panic!("{report}"))
            .hash
    };
    let original = hash(&text);
    let mut same = text
        .replace("# Every option", "# Each option")
        .replace("  = ", " =  ");
    same = same
        .replace("52:54:00:10:00:11", "52-54-00-10-00-11")
        .replace("m1 = {", "\"m1\" = {");
    same = same.replace("\"100GB\"", "\"100000MB\"").replace(
        "max-requests-inflight = \"800\"",
        "max-requests-inflight = 800",
    );
    assert_ne!(same, text);
    assert_eq!(hash(&same), original);
    for (from, to) in [
        ("ams-prod", "ams-prob"),
        ("10.20.0.13", "10.20.0.14"),
        (
            "\"10.20.0.2\", \"10.20.0.3\"",
            "\"10.20.0.3\", \"10.20.0.2\"",
        ),
        ("S4EV123", "S4EV124"),
        ("level = \"Metadata\"", "level = \"Request\""),
        ("enforce: baseline", "enforce: restricted"),
    ] {
        assert!(text.contains(from));
        assert_ne!(hash(&text.replace(from, to)), original, "{from} → {to}");
    }
}

#[test]
fn the_secret_never_shows() {
    let seed = example("single.toml");
    let text = seed.secret.to_text();
    assert_eq!(text.parse(), Ok(seed.secret.clone()));
    assert!(!format!("{seed:?}").contains(&text[4..12]));
    assert!(format!("{seed:?}").contains("Secret(hidden)"));
}
