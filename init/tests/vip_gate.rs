//! The kernel's gate, between two network namespaces of its own: a node that has the address, and a neighbour on its wire.

#[path = "support/place.rs"]
mod place;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use masthead_init::services::boot_time;
use masthead_init::vip::announce::Announcer;
use masthead_init::vip::gate::Gates;
use masthead_machine::BootTime;
use masthead_nftables::{Batch, Connection, Family};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use place::{Place, ip};

const PORT: u16 = 6443;

/// How long a neighbour tries to connect.
const TRY: Duration = Duration::from_millis(300);

/// How long an open gate may take to be reached through, on a machine that does other things.
const TO_REACH: Duration = Duration::from_secs(10);

/// A node with the address, and a neighbour.
struct Wire {
    node: Place,
    neighbour: Place,
    address: IpAddr,
}

impl Wire {
    fn new(node: &'static str, neighbour: &'static str, address: &'static str) -> Self {
        let wire = Self {
            node: Place::new(),
            neighbour: Place::new(),
            address: address.parse().expect("an address"),
        };
        let other = wire.neighbour.thread;
        wire.node.run(move || {
            ip(&format!(
                "link add eth0 type veth peer name eth0 netns {other}"
            ));
            for words in ["link set lo up", "link set eth0 up", node] {
                ip(words);
            }
            let suffix = if address.contains(':') { "128" } else { "32" };
            ip(&format!("address add {address}/{suffix} dev eth0 nodad"));
        });
        for words in ["link set eth0 up", neighbour] {
            wire.neighbour.ip(words);
        }
        wire
    }

    fn of_ipv4() -> Self {
        Self::new(
            "address add 10.0.0.1/24 dev eth0",
            "address add 10.0.0.2/24 dev eth0",
            "10.0.0.9",
        )
    }

    fn of_ipv6() -> Self {
        Self::new(
            "address add fd00::1/64 dev eth0 nodad",
            "address add fd00::2/64 dev eth0 nodad",
            "fd00::9",
        )
    }

    fn gates(&self) -> Gates {
        let address = self.address;
        self.node
            .run(move || Gates::install("eth0", &[address]).expect("gates"))
    }

    fn listen(&self) -> TcpListener {
        let at = SocketAddr::new(self.address, PORT);
        self.node
            .run(move || TcpListener::bind(at).expect("a listener"))
    }

    fn connect(&self) -> Option<TcpStream> {
        let to = SocketAddr::new(self.address, PORT);
        self.neighbour
            .run(move || TcpStream::connect_timeout(&to, TRY).ok())
    }

    /// The neighbour connects, as soon as this machine lets it.
    fn reach(&self) -> TcpStream {
        let give_up = Instant::now() + TO_REACH;
        loop {
            match self.connect() {
                Some(stream) => return stream,
                None => assert!(Instant::now() < give_up, "the gate is open"),
            }
        }
    }

    /// The neighbour forgets who has the address.
    fn forget(&self) {
        self.neighbour.ip("neigh flush dev eth0");
    }

    /// What the neighbour knows of the address.
    fn neighbour_entry(&self) -> String {
        let address = self.address;
        self.neighbour.run(move || {
            let output = Command::new("ip")
                .args(["neigh", "show", &address.to_string()])
                .output();
            String::from_utf8_lossy(&output.expect("ip").stdout).into_owned()
        })
    }
}

fn opens_and_closes(wire: &Wire) {
    let _listener = wire.listen();
    let mut gates = wire.gates();
    assert!(wire.connect().is_none(), "closed at first");
    let entry = wire.neighbour_entry();
    assert!(!entry.contains("lladdr"), "not even who has it: {entry}");

    let address = wire.address;
    gates
        .set(address, Some(boot_time() + Duration::from_secs(60)))
        .expect("opened");
    wire.forget();
    wire.reach();
    gates.set(address, None).expect("closed");
    assert!(wire.connect().is_none(), "closed again");
    wire.forget();
    assert!(wire.connect().is_none(), "closed again");
    let entry = wire.neighbour_entry();
    assert!(!entry.contains("lladdr"), "{entry}");
    // A word that comes too late opens nothing.
    gates
        .set(address, Some(boot_time()))
        .expect("it stays closed");
    assert!(wire.connect().is_none());
}

/// Whoever is connected stays so, and nobody else connects, until the gate is set anew.
fn refuses_new_connections(wire: &Wire) {
    let listener = wire.listen();
    let mut gates = wire.gates();
    let address = wire.address;
    let until = || Some(boot_time() + Duration::from_secs(60));
    gates.set(address, until()).expect("opened");
    let mut stream = wire.reach();
    let (mut accepted, _) = listener.accept().expect("accepted");
    gates.refuse_new(address).expect("refused");
    assert!(wire.connect().is_none(), "nobody connects");
    stream.write_all(b"still").expect("sent");
    let mut heard = [0; 5];
    accepted.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"still");
    gates.set(address, until()).expect("opened anew");
    wire.reach();
    // Rules that somebody has flushed cannot be set, and can be hung anew.
    wire.node.run(|| {
        let flushed = Command::new("nft").args(["flush", "ruleset"]).status();
        assert!(flushed.expect("nft").success());
    });
    gates.set(address, until()).expect_err("there is none");
    let mut gates = wire.gates();
    assert!(wire.connect().is_none(), "closed at first");
    gates.set(address, until()).expect("opened");
    wire.reach();
}

#[test]
fn who_is_connected_stays_so_while_new_connections_are_refused() {
    refuses_new_connections(&Wire::of_ipv4());
    refuses_new_connections(&Wire::of_ipv6());
}

#[test]
fn an_address_is_reached_while_its_gate_is_open() {
    opens_and_closes(&Wire::of_ipv4());
}

#[test]
fn an_address_of_ipv6_is_reached_while_its_gate_is_open() {
    opens_and_closes(&Wire::of_ipv6());
}

/// Nobody tells the kernel: a connection gets answers until the very deadline, prolonged or shortened, and none to a question
/// of after it.
fn closes_at_its_deadline(break_one_clock: fn(&mut Batch)) {
    // A machine that stands still for a moment may keep the last answer from being heard: it is asked again.
    let in_time = (0..5).any(|_| closes(break_one_clock) < Duration::from_millis(100));
    assert!(in_time, "it closes early");
}

/// How long before the deadline the last question was asked that had an answer.
fn closes(break_one_clock: fn(&mut Batch)) -> Duration {
    const ROUNDED: Duration = Duration::from_millis(20);
    let wire = Wire::of_ipv4();
    let listener = wire.listen();
    let mut gates = wire.gates();
    let address = wire.address;
    let far = boot_time() + Duration::from_secs(60);
    gates.set(address, Some(far)).expect("opened");
    let mut client = wire.reach();
    let (mut server, _) = listener.accept().expect("a connection");
    thread::spawn(move || {
        let mut byte = [0];
        while server.read_exact(&mut byte).is_ok() && server.write_all(&byte).is_ok() {}
    });
    client.set_nodelay(true).expect("it");
    let patience = Some(Duration::from_millis(50));
    client.set_read_timeout(patience).expect("it");
    let mut until = boot_time() + Duration::from_millis(300);
    gates.set(address, Some(until)).expect("shortened");
    until += Duration::from_millis(300);
    gates.set(address, Some(until)).expect("prolonged");
    wire.node.run(move || {
        let mut batch = Batch::new(Family::Device, "masthead-vip");
        break_one_clock(&mut batch);
        let mut connection = Connection::open().expect("nf_tables");
        connection.commit(&batch).expect("it is broken");
    });
    let mut last = BootTime::default();
    for number in 0..=u8::MAX {
        let asked = boot_time();
        let heard = client.write_all(&[number]).is_ok() && hears(&mut client, number);
        assert!(
            !heard || asked < until + ROUNDED,
            "an answer to a question of {:?} after the deadline",
            asked.since(until)
        );
        if heard {
            last = asked;
        } else if asked > until + Duration::from_millis(500) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    until.since(last)
}

/// Whether this very byte comes back in time. Answers to earlier ones may come before it.
fn hears(client: &mut TcpStream, number: u8) -> bool {
    let mut byte = [0];
    while client.read_exact(&mut byte).is_ok() {
        if byte == [number] {
            return true;
        }
    }
    false
}

#[test]
fn a_gate_closes_by_itself_at_its_deadline() {
    closes_at_its_deadline(|_| {});
}

/// As if the kernel had heard of the deadline a minute too late.
#[test]
fn a_gate_closes_by_the_wall_clock_alone() {
    closes_at_its_deadline(|batch| {
        let key = [10, 0, 0, 9];
        batch.delete_element("open4", &key);
        batch.add_element("open4", &key, Some(Duration::from_secs(60)));
    });
}

/// As if the wall clock had been set back.
#[test]
fn a_gate_closes_by_the_timer_alone() {
    closes_at_its_deadline(|batch| batch.flush_chain("deadline-10.0.0.9"));
}

/// Whoever is on the node cannot say who has the address, whatever it uses to say it.
fn is_announced_through_open_gates_only(wire: &Wire) {
    let mut gates = wire.gates();
    let address = wire.address;
    let announcer = wire.node.run(|| Announcer::open("eth0").expect("a socket"));
    let ears = wire.neighbour.run(|| Ears::open().expect("a socket"));
    let said = announcer.announce(address).expect_err("closed");
    assert_eq!(said.raw_os_error(), Some(Errno::ENOBUFS as i32));
    gates
        .set(address, Some(boot_time() + Duration::from_secs(60)))
        .expect("opened");
    assert!(!ears.hear(address, TRY), "closed");
    announcer.announce(address).expect("said");
    assert!(ears.hear(address, Duration::from_secs(5)), "its twin");
    gates.set(address, None).expect("closed");
    announcer.announce(address).expect_err("closed again");
    assert!(!ears.hear(address, TRY), "closed again");
}

#[test]
fn an_address_is_announced_through_an_open_gate_only() {
    is_announced_through_open_gates_only(&Wire::of_ipv4());
    is_announced_through_open_gates_only(&Wire::of_ipv6());
}

/// Hears every frame on a wire.
struct Ears(OwnedFd);

impl Ears {
    fn open() -> nix::Result<Self> {
        let all = SockProtocol::EthAll;
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Packet, SockType::Raw, flags, all).map(Self)
    }

    /// Whether a frame that names the address arrives in time.
    fn hear(&self, address: IpAddr, patience: Duration) -> bool {
        let address = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let until = Instant::now() + patience;
        let mut frame = [0; 2048];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let left = TimeVal::microseconds(i64::try_from(left.as_micros()).unwrap_or(1).max(1));
            setsockopt(&self.0, sockopt::ReceiveTimeout, &left).expect("it");
            let length = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()).unwrap_or(0);
            let mut places = frame[..length].windows(address.len());
            if places.any(|place| place == address) {
                return true;
            }
        }
    }
}

/// A closed gate stops neither the question nor the answer.
fn a_stranger_is_found(wire: &Wire, address: &'static str) {
    let _gates = wire.gates();
    let probed = wire.address;
    let ask = || {
        wire.node
            .run(move || masthead_init::vip::probe::probe("eth0", probed).expect("asked"))
    };
    assert_eq!(ask(), None, "nobody has it yet");
    wire.neighbour.run(move || {
        let bits = if address.contains(':') { "128" } else { "32" };
        let nodad = if address.contains(':') { " nodad" } else { "" };
        ip(&format!("address add {address}/{bits} dev eth0{nodad}"));
    });
    let hardware = wire.neighbour.run(|| {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("a name space");
        assert!(text.contains("eth0"));
        nix::ifaddrs::getifaddrs()
            .expect("interfaces")
            .find_map(|one| {
                Some(*one.address?.as_link_addr()?).filter(|_| one.interface_name == "eth0")
            })
            .and_then(|link| link.addr())
            .expect("an address")
    });
    let pairs = hardware.map(|byte| format!("{byte:02x}"));
    assert_eq!(ask(), Some(pairs.join(":")));
}

#[test]
fn a_stranger_with_an_address_is_found_through_a_closed_gate() {
    a_stranger_is_found(&Wire::of_ipv4(), "10.0.0.9");
    a_stranger_is_found(&Wire::of_ipv6(), "fd00::9");
}
