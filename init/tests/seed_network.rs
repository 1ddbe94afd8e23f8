//! The network before there is a seed, in network namespaces: a machine, and on its wire a real DHCP and name server (dnsmasq), a web server, and
//! nothing else.

#[path = "support/place.rs"]
mod place;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use masthead_init::network::{Cards, keep};
use masthead_init::seed_source::{
    Attempt, AttemptResult, Card, How, Means, Roots, SourceKind, Uplink, Uplinks, Wanted, look_with,
};
use masthead_init::volume::SystemMounts;
use masthead_machine::Scale;
use masthead_seed::{Hash, Seed};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use place::{Place, ip};
use tempfile::TempDir;
use tokio::sync::watch;

const SEED: &str = include_str!("../../configs/seeds/single.toml");
const MAC: &str = "52:54:00:10:00:11";

/// A machine with two cards, and at the far end of the second one whatever serves it.
struct Wire {
    machine: Place,
    far: Place,
    folder: TempDir,
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Wire {
    fn new() -> Self {
        let wire = Self {
            machine: Place::new(),
            far: Place::new(),
            folder: tempfile::tempdir().expect("a folder"),
        };
        let there = wire.far.thread;
        wire.machine.run(move || {
            // Other numbers than at the far end: by them a pair is known. sysfs shows the cards of whoever mounts it, and name servers are written below /run.
            unshare(CloneFlags::CLONE_NEWNS).expect("mounts of its own");
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).expect("sysfs");
            mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("tmpfs");
            std::fs::create_dir("/run/masthead").expect("made");
            ip(&format!(
                "link add eth0 index 10 type veth peer name far0 netns {there}"
            ));
            ip(&format!(
                "link add eth1 index 11 address {MAC} type veth peer name far1 netns {there}"
            ));
        });
        wire.far.run(|| {
            for words in [
                "link set lo up",
                "link set far0 up",
                "link set far1 up",
                "address add 10.20.0.2/24 dev far1",
                "address add 2001:db8::2/64 dev far1 nodad",
            ] {
                ip(words);
            }
        });
        wire
    }

    /// dnsmasq on the second wire. It gives 10.20.0.77, and knows `seeds.example`.
    fn dnsmasq(&self) -> Server {
        let leases = self.folder.path().join("leases");
        let (tell, started) = mpsc::channel();
        let server = self.far.run(move || {
            let server = Command::new("dnsmasq")
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                    "--no-hosts",
                    "--user=root",
                    "--group=root",
                ])
                .args([
                    "--interface=far1",
                    "--bind-interfaces",
                    "--except-interface=lo",
                    "--log-facility=-",
                ])
                .args([
                    "--dhcp-range=10.20.0.77,10.20.0.77,1h",
                    "--dhcp-option=option:router,10.20.0.2",
                    "--dhcp-option=option:dns-server,10.20.0.2",
                ])
                .args([
                    "--dhcp-host=52:54:00:10:00:11,10.20.0.77,named-by-dhcp",
                    "--address=/seeds.example/10.20.0.2",
                ])
                .args(["--pid-file="])
                .arg(format!("--dhcp-leasefile={}", leases.display()))
                .stderr(Stdio::piped())
                .spawn();
            let mut server = server.expect("dnsmasq of dnsmasq-base");
            let mut says = server.stderr.take().expect("piped");
            thread::spawn(move || {
                let mut said = Vec::new();
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = says.read(&mut buffer) {
                    said.extend(&buffer[..length]);
                    if String::from_utf8_lossy(&said).contains("DHCP, IP range") {
                        let _ = tell.send(());
                    }
                }
            });
            Server(server)
        });
        let patience = Duration::from_secs(20);
        started.recv_timeout(patience).expect("dnsmasq serves");
        server
    }

    /// A web server at that address of the far end, with the seed. Returns its port, and what it is asked for.
    fn web(&self, address: &'static str) -> (u16, mpsc::Receiver<String>) {
        let (tell, asked) = mpsc::channel();
        let port = self.far.run(move || {
            let listener = TcpListener::bind((address, 0)).expect("a port");
            let port = listener.local_addr().expect("bound").port();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.expect("a connection");
                    let mut request = [0; 2048];
                    let length = stream.read(&mut request).expect("a request");
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let _ = tell.send(request.lines().next().unwrap_or_default().to_owned());
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{SEED}",
                        SEED.len()
                    );
                    stream.write_all(answer.as_bytes()).expect("answered");
                }
            });
            port
        });
        (port, asked)
    }

    /// One look of the machine with this command line; what it finds.
    fn look(&self, command_line: &str) -> (Option<String>, Vec<Attempt>) {
        let line = format!(
            "{command_line} masthead.seed-sha256={}\n",
            Hash::of(SEED.as_bytes())
        );
        std::fs::create_dir_all(self.folder.path().join("proc")).expect("made");
        std::fs::write(self.folder.path().join("proc/cmdline"), line).expect("written");
        let kind = SourceKind::Machine(Roots {
            root: self.folder.path().to_owned(),
            sys: "/sys".into(),
            proc: self.folder.path().join("proc"),
            // No disk of the host is looked at.
            dev: self.folder.path().join("dev"),
        });
        self.machine.run(move || {
            let means = Means {
                mounts: &SystemMounts,
                uplinks: &cards(),
                scale: Scale::new(1.0).expect("a scale"),
            };
            let outcome = look_with(&kind, &means);
            (
                outcome.found.map(|found| found.master.name),
                outcome.attempts,
            )
        })
    }

    fn says(&self, words: &'static str) -> String {
        self.machine.run(move || {
            let output = Command::new("ip").args(words.split(' ')).output();
            String::from_utf8(output.expect("ip").stdout).expect("text")
        })
    }

    /// Nothing but what the kernel gives a card by itself.
    fn nothing_is_left(&self) {
        for (words, of_kernel) in [
            ("-4 address show scope global", ""),
            ("-6 address show scope global", ""),
            ("-4 route show", ""),
            ("-6 route show default", ""),
        ] {
            assert_eq!(self.says(words), of_kernel, "{words}");
        }
    }
}

fn cards() -> Cards {
    Cards {
        sys: PathBuf::from("/sys"),
    }
}

fn last(attempts: &[Attempt]) -> String {
    attempts.last().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn an_address_by_dhcp_is_there_for_the_fetch_and_no_longer() {
    let wire = Wire::new();
    let _server = wire.dnsmasq();
    let (port, asked) = wire.web("10.20.0.2");
    let address = format!("masthead.seed=http://seeds.example:{port}");
    let (found, attempts) = wire.look(&format!("{address}/${{mac}}/${{hostname}}"));
    assert_eq!(found.as_deref(), Some("m1"), "{attempts:?}");
    let request = asked.try_recv().expect("it was asked");
    assert_eq!(request, format!("GET /{MAC}/named-by-dhcp HTTP/1.1"));
    wire.nothing_is_left();

    // By the card's name, by its address, and by one that nobody serves.
    let (found, attempts) = wire.look(&format!("ip=eth1:dhcp {address}/"));
    assert_eq!(found.as_deref(), Some("m1"), "{attempts:?}");
    let (found, attempts) = wire.look(&format!("BOOTIF=01-{} {address}/", MAC.replace(':', "-")));
    assert_eq!(found.as_deref(), Some("m1"), "{attempts:?}");
    let begun = Instant::now();
    let (_, attempts) = wire.look(&format!("ip=eth0:dhcp {address}/"));
    assert!(
        last(&attempts).contains("no address by DHCP: no answer on eth0"),
        "{attempts:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(40));
    let (_, attempts) = wire.look(&format!("ip=eth7:dhcp {address}/"));
    let expected = "there is no network card eth7; there are eth0 ";
    assert!(last(&attempts).contains(expected), "{attempts:?}");
    let (_, attempts) = wire.look("masthead.seed=http://missing.example/");
    assert!(
        last(&attempts).contains("the name missing.example is not found: 10.20.0.2:53"),
        "{attempts:?}"
    );
    wire.nothing_is_left();
}

#[test]
fn an_address_that_is_given_needs_no_server() {
    let wire = Wire::new();
    let (port, asked) = wire.web("10.20.0.2");
    let (found, attempts) = wire.look(&format!(
        "ip=10.20.0.9::10.20.0.2:255.255.255.0:m7:eth1:none masthead.seed=http://10.20.0.2:{port}/${{hostname}}"
    ));
    assert_eq!(found.as_deref(), Some("m1"), "{attempts:?}");
    assert_eq!(asked.try_recv().as_deref(), Ok("GET /m7 HTTP/1.1"));
    let (port, _asked) = wire.web("2001:db8::2");
    let (found, attempts) = wire.look(&format!(
        "ip=[2001:db8::9]::[2001:db8::2]:64::eth1:none masthead.seed=http://[2001:db8::2]:{port}/"
    ));
    assert_eq!(found.as_deref(), Some("m1"), "{attempts:?}");
    let failed = wire.look("ip=10.20.0.9:::24::eth1:none masthead.seed=http://10.20.0.2:9/");
    assert!(
        last(&failed.1).contains("no connection to 10.20.0.2:9: Connection refused"),
        "{:?}",
        failed.1
    );
    assert!(matches!(
        failed.1.last().map(|last| &last.result),
        Some(AttemptResult::Unfetched(_))
    ));
    wire.nothing_is_left();
}

/// The supervisor dies in the middle of a fetch: what it set is gone before the seed's own network is there, and at the next fetch.
#[test]
fn what_a_dead_supervisor_has_left_is_removed() {
    let wire = Wire::new();
    let leave = |wire: &Wire| {
        // A thread that never comes back stands for the process that died: nothing of it is cleaned up.
        let (tell, is_set) = mpsc::channel();
        wire.machine.run(move || {
            thread::spawn(move || {
                let wanted = wanted("10.20.0.66");
                let scale = Scale::new(1.0).expect("a scale");
                let _ = cards().with(&wanted, scale, &mut |_: Uplink| {
                    tell.send(()).expect("a reader");
                    loop {
                        thread::park();
                    }
                });
            });
        });
        is_set.recv_timeout(Duration::from_secs(30)).expect("set");
        assert!(
            wire.says("-4 address show dev eth1")
                .contains("10.20.0.66/24")
        );
        assert!(wire.says("-4 route show default").contains("via 10.20.0.2"));
    };
    leave(&wire);
    let found = wire.look("ip=10.20.0.9:::24::eth1:none masthead.seed=http://10.20.0.2:9/");
    assert!(found.0.is_none());
    wire.nothing_is_left();

    leave(&wire);
    wire.machine.ip("address add 10.99.0.1/32 dev eth1");
    let (seed, _) = Seed::check("seed.toml", SEED.as_bytes());
    let master = seed.expect("a seed").masters.remove(0);
    let own = format!("{}/{}", master.address, master.network.prefix);
    wire.machine.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (report, mut reports) = watch::channel(masthead_api::status::Network::default());
            let scale = Scale::new(1.0).expect("a scale");
            tokio::select! {
                () = keep(master, scale, report) => {}
                up = reports.wait_for(|network| !network.addresses.is_empty() || network.waiting.is_some()) => {
                    let network = up.expect("a report").clone();
                    assert_eq!(network.addresses, [own], "{network:?}");
                }
            }
        });
    });
    let addresses = wire.says("-4 -o address show dev eth1");
    assert!(!addresses.contains("10.20.0.66"), "{addresses}");
    assert!(
        addresses.contains("10.99.0.1"),
        "what others have set stays: {addresses}"
    );
    assert!(!wire.says("-4 route show").contains("10.20.0.66"));
}

fn wanted(address: &str) -> Wanted {
    Wanted {
        card: Card::Name("eth1".to_owned()),
        how: How::Static {
            address: format!("{address}/24").parse().expect("an address"),
            gateway: Some("10.20.0.2".parse().expect("an address")),
        },
        dns: Vec::new(),
        hostname: None,
    }
}
