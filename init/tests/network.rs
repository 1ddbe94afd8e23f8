//! The node's network as the kernel has it, in a network namespace with a card of its own.

#[path = "support/place.rs"]
mod place;

use std::process::Command;
use std::time::Duration;

use masthead_init::network::keep;
use masthead_machine::Scale;
use masthead_seed::Seed;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use place::{Place, ip};
use tokio::sync::watch;

const SEED: &str = include_str!("../../configs/seeds/single.toml");
const MAC: &str = "52:54:00:10:00:11";

/// How long the kernel may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What ip(8) says.
fn told(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output();
    String::from_utf8(output.expect("ip of iproute2").stdout).expect("text")
}

#[test]
fn the_kernel_has_what_the_seed_says() {
    let network = r#"network  = { prefix = 24, gateway = "10.20.0.1", mtu = 1400, addresses = ["10.40.0.11/24", "10.41.0.11/16"], routes = [
  { to = "10.30.0.0/16", via = "10.20.0.254" },
  { to = "10.50.0.0/16", via = "10.40.0.1" },
] }"#;
    let text: Vec<_> = SEED
        .lines()
        .map(|line| {
            if line.starts_with("network") {
                network
            } else {
                line
            }
        })
        .collect();
    let seed = Seed::parse("seed.toml", text.join("\n").as_bytes()).expect("a good seed");
    let master = seed.masters[0].clone();
    let machine = Place::new();
    let (addresses, link, routes, source) = machine.run(move || {
        // sysfs shows the cards of whoever mounts it, and name servers are written below /run.
        unshare(CloneFlags::CLONE_NEWNS).expect("mounts of its own");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).expect("sysfs");
        mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("tmpfs");
        std::fs::create_dir("/run/masthead").expect("made");
        ip(&format!(
            "link add eth0 address {MAC} type veth peer name far0"
        ));
        ip("link set far0 up");

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an executor");
        let addresses = runtime.block_on(async {
            let (report, mut network) = watch::channel(masthead_api::status::Network::default());
            let keeping = tokio::spawn(keep(master, Scale::REAL, report));
            let is_up = network.wait_for(|network| !network.addresses.is_empty());
            let up = tokio::time::timeout(PATIENCE, is_up)
                .await
                .expect("in time");
            let addresses = up.expect("it is kept").addresses.clone();
            keeping.abort();
            addresses
        });
        (
            addresses,
            told("-o link show dev eth0"),
            told("route show dev eth0"),
            told("-o route get 10.20.0.9"),
        )
    });
    let all = ["10.20.0.11/24", "10.40.0.11/24", "10.41.0.11/16"];
    assert_eq!(addresses, all);
    assert!(link.contains("mtu 1400"), "{link}");
    for route in [
        "default via 10.20.0.1",
        "10.30.0.0/16 via 10.20.0.254",
        "10.50.0.0/16 via 10.40.0.1",
        "10.40.0.0/24 proto kernel",
        "10.41.0.0/16 proto kernel",
    ] {
        assert!(routes.contains(route), "{route} is not in\n{routes}");
    }
    assert!(source.contains("src 10.20.0.11"), "{source}");
}
