//! The host's firewall: what may come in from the network.
//!
//! It keeps no state. What belongs to a connection that this host has let in, or has made, is let in by its flags: a segment that is not the first one of
//! a connection reaches nobody who did not agree to the first. A table of connections would be one more thing that can be full.

use std::net::IpAddr;

use ipnet::IpNet;
use masthead_api::routes;
use masthead_control_plane::{APISERVER_PORT, ETCD_CLIENT_PORT, ETCD_PEER_PORT};
use masthead_nftables::{
    Batch, Chain, Compare, Connection, Error, Expression, Family, Header, Hook, Meta, Verdict,
};

const TABLE: &str = "masthead-host";
const INPUT: &str = "input";

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Of TCP (RFC 9293, 3.1): where the flags stand, and those of a connection's first segment.
const FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
/// Where ports stand, of TCP and of UDP.
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
/// Who answers by UDP what this host asks: name servers and time servers.
const ANSWERING: [u16; 2] = [53, 123];

// linux/netfilter.h: NFPROTO_IPV4, NFPROTO_IPV6
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Where the source stands (RFC 791, RFC 8200).
const IPV4_SOURCE: u32 = 12;
const IPV6_SOURCE: u32 = 8;

/// Who may connect to what, beside the apiserver and the metrics, to which everybody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The masters: to etcd, and to each other.
    pub masters: Vec<IpAddr>,
    /// Operators: to the management API. Everybody when nobody is named.
    pub operators: Vec<IpNet>,
}

/// Puts the firewall up, in the place of the one that was there.
pub fn install(admitted: &Admitted) -> Result<(), Error> {
    let mut batch = Batch::new(Family::Inet, TABLE);
    // A table that is not there cannot be deleted.
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    batch.add_chain(&Chain {
        name: INPUT.to_owned(),
        hook: Some(Hook::Input),
        drops: true,
    });
    for rule in rules(admitted) {
        let accept = Expression::verdict(&Verdict::Accept);
        batch.add_rule(INPUT, rule.into_iter().chain([accept]));
    }
    Connection::open()?.commit(&batch)
}

/// What is accepted; the rest is dropped.
fn rules(admitted: &Admitted) -> Vec<Vec<Expression>> {
    let mut rules = vec![
        from_this_host(),
        protocol(ICMP),
        protocol(ICMPV6),
        belonging_to_a_connection(),
    ];
    rules.extend(ANSWERING.map(|port| with_port(UDP, SOURCE_PORT, port)));
    let to = |port| with_port(TCP, DESTINATION_PORT, port);
    rules.extend([APISERVER_PORT, routes::METRICS_PORT].map(to));
    for master in &admitted.masters {
        let from_master = from(IpNet::from(*master));
        for port in [
            ETCD_CLIENT_PORT,
            ETCD_PEER_PORT,
            masthead_peer_protocol::PORT,
        ] {
            rules.push([from_master.clone(), to(port)].concat());
        }
    }
    for operators in &admitted.operators {
        rules.push([from(*operators), to(routes::PORT)].concat());
    }
    if admitted.operators.is_empty() {
        rules.push(to(routes::PORT));
    }
    rules
}

fn from_this_host() -> Vec<Expression> {
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    vec![
        Expression::meta(Meta::InputName),
        Expression::compare(Compare::Equal, &name),
    ]
}

fn protocol(number: u8) -> Vec<Expression> {
    vec![
        Expression::meta(Meta::Transport),
        Expression::compare(Compare::Equal, &[number]),
    ]
}

fn belonging_to_a_connection() -> Vec<Expression> {
    let flags = [
        Expression::payload(Header::Transport, FLAGS, 1),
        Expression::mask(&[SYN_ACK]),
        Expression::compare(Compare::Different, &[SYN]),
    ];
    [protocol(TCP), flags.to_vec()].concat()
}

fn with_port(transport: u8, at: u32, port: u16) -> Vec<Expression> {
    let is_port = [
        Expression::payload(Header::Transport, at, 2),
        Expression::compare(Compare::Equal, &port.to_be_bytes()),
    ];
    [protocol(transport), is_port.to_vec()].concat()
}

fn from(net: IpNet) -> Vec<Expression> {
    let (family, at, address, mask) = match net.trunc() {
        IpNet::V4(net) => (
            IPV4,
            IPV4_SOURCE,
            net.addr().octets().to_vec(),
            net.netmask().octets().to_vec(),
        ),
        IpNet::V6(net) => (
            IPV6,
            IPV6_SOURCE,
            net.addr().octets().to_vec(),
            net.netmask().octets().to_vec(),
        ),
    };
    let length = u32::try_from(address.len()).expect("an address is short");
    vec![
        Expression::meta(Meta::Family),
        Expression::compare(Compare::Equal, &[family]),
        Expression::payload(Header::Network, at, length),
        Expression::mask(&mask),
        Expression::compare(Compare::Equal, &address),
    ]
}
