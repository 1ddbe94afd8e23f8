//! The gate of each virtual address: closed, the kernel neither hears nor says anything of it on this device, but for the question whether
//! anybody has it.
//!
//! It hangs where the device hands frames over and takes them, and knows ARP by sender and target, IP by source and
//! destination, and neighbour discovery by target. It is open until a deadline that the kernel keeps by two clocks: an element
//! of a set that the kernel forgets after a time, and a rule that compares the wall clock. The first one counts from when the kernel
//! hears of it, so a process that stood still on the way would open it for too long; the second one does not, and could be set
//! back, which the first one does not mind.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use masthead_machine::BootTime;
use masthead_nftables::{
    Batch, Chain, Compare, Connection, Error, Expression, Family, Header, Hook, Meta, Set, Verdict,
};

use crate::services::boot_time;

const TABLE: &str = "masthead-vip";

const INGRESS: &str = "ingress";
const EGRESS: &str = "egress";

// linux/if_ether.h
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Of ARP for IPv4 over Ethernet (RFC 826): where sender and target stand.
const ARP_ADDRESSES: [u32; 2] = [14, 24];
/// Of IPv4 (RFC 791): where source and destination stand.
const IPV4_ADDRESSES: [u32; 2] = [12, 16];
const IPV4_PROTOCOL: u32 = 9;
const TCP: u8 = 6;
/// Of TCP (RFC 9293): where the flags stand, and two of them.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Of IPv6 (RFC 8200).
const IPV6_ADDRESSES: [u32; 2] = [8, 24];
const IPV6_NEXT_HEADER: u32 = 6;
const ICMPV6: u8 = 58;
/// Neighbour solicitation and advertisement (RFC 4861), and where their target stands.
const NEIGHBOUR: [u8; 2] = [135, 136];
const NEIGHBOUR_TARGET: u32 = 8;

/// The gates of one device.
#[derive(Debug)]
pub struct Gates {
    connection: Connection,
}

impl Gates {
    /// Hangs closed gates for these addresses into the device, in the place of whatever gates it had.
    pub fn install(device: &str, addresses: &[IpAddr]) -> Result<Self, Error> {
        let mut connection = Connection::open()?;
        let mut batch = Batch::new(Family::Device, TABLE);
        // A table that is not there cannot be deleted.
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        for (id, length) in [(1, 4), (2, 16)] {
            let open = Set {
                name: open_set(length).to_owned(),
                length,
                timed: true,
            };
            batch.add_set(&open, id);
        }
        for address in addresses {
            add_guard(&mut batch, *address);
        }
        let hooks = [
            (INGRESS, Hook::Ingress(device.to_owned())),
            (EGRESS, Hook::Egress(device.to_owned())),
        ];
        for (name, hook) in hooks {
            batch.add_chain(&Chain {
                name: name.to_owned(),
                hook: Some(hook),
                drops: false,
            });
            if name == EGRESS {
                for question in questions() {
                    batch.add_rule(name, question);
                }
            }
            for address in addresses {
                for place in places(*address) {
                    batch.add_rule(name, place);
                }
            }
        }
        connection.commit(&batch)?;
        Ok(Self { connection })
    }

    /// Drops the first segment of every new connection to an address, until its gate is set anew: whoever connects while the connections are reset
    /// would be connected to nobody.
    pub fn refuse_new(&mut self, address: IpAddr) -> Result<(), Error> {
        let mut batch = Batch::new(Family::Device, TABLE);
        batch.add_rule(&deadline_chain(address), begins_a_connection(address));
        self.connection.commit(&batch)
    }

    /// Opens the gate of an address until then, or closes it now. When this returns the kernel has done it.
    pub fn set(&mut self, address: IpAddr, until: Option<BootTime>) -> Result<(), Error> {
        // In this order: whoever stands still in between gets less time, not more.
        let wall = SystemTime::now();
        let left = until.map(|until| until.since(boot_time()));
        let left = left.filter(|left| !left.is_zero());

        let key = octets(address);
        let (set, deadline) = (open_set(length(&key)), deadline_chain(address));
        let mut batch = Batch::new(Family::Device, TABLE);
        // An element that is there would keep its time, and one that is not cannot be deleted.
        batch.add_element(set, &key, Some(Duration::from_secs(1)));
        batch.delete_element(set, &key);
        batch.flush_chain(&deadline);
        if let Some(left) = left {
            batch.add_element(set, &key, Some(left));
            batch.add_rule(&deadline, after(wall + left));
        }
        self.connection.commit(&batch)
    }
}

/// The chain that judges whatever is about an address.
fn add_guard(batch: &mut Batch, address: IpAddr) {
    let key = octets(address);
    let (guard, deadline) = (guard_chain(address), deadline_chain(address));
    for name in [&deadline, &guard] {
        batch.add_chain(&Chain {
            name: name.clone(),
            hook: None,
            drops: false,
        });
    }
    let is_closed = [
        Expression::constant(&key),
        Expression::lookup(open_set(length(&key)), true),
        Expression::verdict(&Verdict::Drop),
    ];
    batch.add_rule(&guard, is_closed);
    batch.add_rule(&guard, [Expression::verdict(&Verdict::Jump(deadline))]);
}

/// Drops TCP's first segment (RFC 9293: SYN without ACK); the address itself never begins a connection.
fn begins_a_connection(address: IpAddr) -> Vec<Expression> {
    let next = match address {
        IpAddr::V4(_) => IPV4_PROTOCOL,
        IpAddr::V6(_) => IPV6_NEXT_HEADER,
    };
    let protocol = match address {
        IpAddr::V4(_) => ETHERTYPE_IPV4,
        IpAddr::V6(_) => ETHERTYPE_IPV6,
    };
    vec![
        Expression::meta(Meta::Protocol),
        Expression::compare(Compare::Equal, &protocol),
        Expression::payload(Header::Network, next, 1),
        Expression::compare(Compare::Equal, &[TCP]),
        Expression::payload(Header::Transport, TCP_FLAGS, 1),
        Expression::mask(&[SYN | ACK]),
        Expression::compare(Compare::Equal, &[SYN]),
        Expression::verdict(&Verdict::Drop),
    ]
}

/// Drops what comes after that time.
fn after(wall: SystemTime) -> [Expression; 4] {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH);
    let nanoseconds = u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(0);
    [
        Expression::meta(Meta::Time),
        Expression::network_order_of_eight(),
        Expression::compare(Compare::Greater, &nanoseconds.to_be_bytes()),
        Expression::verdict(&Verdict::Drop),
    ]
}

/// Rules that let questions out which say nothing of who asks: whether anybody has an address is asked while its gate is closed
/// (RFC 5227, 2.1.1; RFC 4862, 5.4.2). The answers are heard before the gate.
fn questions() -> [Vec<Expression>; 2] {
    let accept = Expression::verdict(&Verdict::Accept);
    let is = |bytes: &[u8]| Expression::compare(Compare::Equal, bytes);
    [
        vec![
            Expression::meta(Meta::Protocol),
            is(&ETHERTYPE_ARP),
            Expression::payload(Header::Network, ARP_ADDRESSES[0], 4),
            is(&[0; 4]),
            accept.clone(),
        ],
        vec![
            Expression::meta(Meta::Protocol),
            is(&ETHERTYPE_IPV6),
            Expression::payload(Header::Network, IPV6_NEXT_HEADER, 1),
            is(&[ICMPV6]),
            Expression::payload(Header::Transport, 0, 1),
            is(&[NEIGHBOUR[0]]),
            Expression::payload(Header::Network, IPV6_ADDRESSES[0], 16),
            is(&[0; 16]),
            accept,
        ],
    ]
}

/// Rules that lead a packet to the guard, one for each place where the address can stand.
fn places(address: IpAddr) -> Vec<Vec<Expression>> {
    let key = octets(address);
    let guard = Verdict::GoTo(guard_chain(address));
    let is = |protocol: [u8; 2]| {
        vec![
            Expression::meta(Meta::Protocol),
            Expression::compare(Compare::Equal, &protocol),
        ]
    };
    let stands = |header, offset| {
        [
            Expression::payload(header, offset, length(&key)),
            Expression::compare(Compare::Equal, &key),
            Expression::verdict(&guard),
        ]
    };
    let at = |protocol, offsets: [u32; 2]| {
        offsets.map(|offset| [is(protocol), stands(Header::Network, offset).to_vec()].concat())
    };
    match address {
        IpAddr::V4(_) => [
            at(ETHERTYPE_ARP, ARP_ADDRESSES),
            at(ETHERTYPE_IPV4, IPV4_ADDRESSES),
        ]
        .concat(),
        IpAddr::V6(_) => {
            let discovery = NEIGHBOUR.map(|kind| {
                let about = [
                    Expression::payload(Header::Network, IPV6_NEXT_HEADER, 1),
                    Expression::compare(Compare::Equal, &[ICMPV6]),
                    Expression::payload(Header::Transport, 0, 1),
                    Expression::compare(Compare::Equal, &[kind]),
                ];
                let target = stands(Header::Transport, NEIGHBOUR_TARGET);
                [is(ETHERTYPE_IPV6), about.to_vec(), target.to_vec()].concat()
            });
            [at(ETHERTYPE_IPV6, IPV6_ADDRESSES), discovery].concat()
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn length(key: &[u8]) -> u32 {
    u32::try_from(key.len()).expect("an address is short")
}

/// For addresses of so many bytes.
fn open_set(length: u32) -> &'static str {
    if length == 4 { "open4" } else { "open6" }
}

fn guard_chain(address: IpAddr) -> String {
    format!("guard-{address}")
}

fn deadline_chain(address: IpAddr) -> String {
    format!("deadline-{address}")
}
