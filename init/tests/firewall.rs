//! The host's firewall, between network namespaces of its own: a master, another one, and a stranger on their wire.

#[path = "support/place.rs"]
mod place;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use masthead_init::firewall::{Admitted, install};
use place::{Place, ip};
use tokio::net::TcpSocket;

/// etcd's two, the masters', the management API's, the metrics', the apiserver's, and one that nobody serves.
const PORTS: [u16; 7] = [2379, 2380, 9442, 9440, 9441, 6443, 5555];

/// How long a connection may take on a wire of this machine's own. What is dropped takes all of it.
const TRY: Duration = Duration::from_millis(400);

/// How long a wire may take to carry anything.
const TO_CARRY: Duration = Duration::from_secs(30);

/// Two ends of a wire; the far end has the addresses of another master and of a stranger.
struct Wire {
    master: Place,
    far: Place,
    addresses: [&'static str; 3],
}

impl Wire {
    fn new(addresses: [&'static str; 3]) -> Self {
        let wire = Self {
            master: Place::new(),
            far: Place::new(),
            addresses,
        };
        let [own, other, stranger] = addresses;
        let bits = if own.contains(':') { "64 nodad" } else { "24" };
        let there = wire.far.thread;
        wire.master.run(move || {
            ip(&format!(
                "link add eth0 type veth peer name eth0 netns {there}"
            ));
            ip("link set lo up");
            ip("link set eth0 up");
            let (address, rest) = bits.split_once(' ').unwrap_or((bits, ""));
            ip(format!("address add {own}/{address} dev eth0 {rest}").trim_end());
        });
        wire.far.run(move || {
            ip("link set eth0 up");
            let (length, rest) = bits.split_once(' ').unwrap_or((bits, ""));
            for address in [other, stranger] {
                ip(format!("address add {address}/{length} dev eth0 {rest}").trim_end());
            }
        });
        wire
    }

    /// The ports that can be connected to from an address: another one than the master's is at the far end.
    fn open_from(&self, from: &'static str) -> Vec<u16> {
        let [own, ..] = self.addresses;
        let place = if from == own { &self.master } else { &self.far };
        place.run(move || {
            let (own, from): (IpAddr, IpAddr) =
                (own.parse().expect("one"), from.parse().expect("another"));
            let open = PORTS
                .into_iter()
                .filter(|port| connects(from, SocketAddr::new(own, *port)));
            open.collect()
        })
    }

    /// Somebody listens at every port.
    fn listen(&self) -> Vec<TcpListener> {
        let [own, ..] = self.addresses;
        self.master.run(move || {
            let own: IpAddr = own.parse().expect("an address");
            PORTS
                .map(|port| TcpListener::bind(SocketAddr::new(own, port)).expect("a listener"))
                .into()
        })
    }

    /// A link that was switched on carries a little later.
    fn wait_until_it_carries(&self) {
        let [own, _, stranger] = self.addresses;
        let give_up = Instant::now() + TO_CARRY;
        let carries = || {
            self.far.run(move || {
                let (own, from): (IpAddr, IpAddr) = (
                    own.parse().expect("one"),
                    stranger.parse().expect("another"),
                );
                connects(from, SocketAddr::new(own, PORTS[0]))
            })
        };
        while !carries() {
            assert!(Instant::now() < give_up, "the wire carries nothing");
        }
    }

    fn put_up(&self, operators: &[&str]) {
        let [own, other, _] = self.addresses;
        let admitted = Admitted {
            masters: [own, other]
                .map(|address| address.parse().expect("an address"))
                .into(),
            operators: operators
                .iter()
                .map(|net| net.parse().expect("a prefix"))
                .collect(),
        };
        self.master
            .run(move || install(&admitted).expect("a firewall"));
    }
}

fn connects(from: IpAddr, to: SocketAddr) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an executor");
    runtime.block_on(async {
        let socket = match from {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.expect("a socket");
        socket.bind(SocketAddr::new(from, 0)).expect("bound");
        let connected = tokio::time::timeout(TRY, socket.connect(to)).await;
        connected.is_ok_and(|connected| connected.is_ok())
    })
}

fn admits_each_to_its_ports(wire: &Wire, far_net: &str, other_net: &str) {
    let [own, other, stranger] = wire.addresses;
    let _listeners = wire.listen();
    wire.wait_until_it_carries();
    assert_eq!(wire.open_from(stranger), PORTS, "without a firewall");
    wire.put_up(&[]);
    assert_eq!(wire.open_from(stranger), [9440, 9441, 6443]);
    assert_eq!(
        wire.open_from(other),
        [2379, 2380, 9442, 9440, 9441, 6443],
        "a master"
    );
    assert_eq!(wire.open_from(own), PORTS, "this host itself");
    // Again, in the place of the first one.
    wire.put_up(&[other_net]);
    assert_eq!(wire.open_from(stranger), [9441, 6443]);
    wire.put_up(&[other_net, far_net]);
    assert_eq!(wire.open_from(stranger), [9440, 9441, 6443]);
}

#[test]
fn each_is_admitted_to_its_ports() {
    let wire = Wire::new(["10.0.0.1", "10.0.0.2", "10.0.0.200"]);
    admits_each_to_its_ports(&wire, "10.0.0.128/25", "192.0.2.0/24");
}

#[test]
fn each_is_admitted_to_its_ports_by_ipv6() {
    let wire = Wire::new(["fd00::1", "fd00::2", "fd00::c8"]);
    admits_each_to_its_ports(&wire, "fd00::80/121", "2001:db8::/32");
}

/// What this host has asked for is answered, though nobody may connect to it from there.
#[test]
fn this_host_reaches_others() {
    let wire = Wire::new(["10.0.0.1", "10.0.0.2", "10.0.0.200"]);
    wire.put_up(&[]);
    let _there = wire
        .far
        .run(|| TcpListener::bind("10.0.0.200:443").expect("a listener"));
    let reached = wire.master.run(|| {
        let to = "10.0.0.200:443".parse().expect("an address");
        connects("10.0.0.1".parse().expect("an address"), to)
    });
    assert!(reached);
}
