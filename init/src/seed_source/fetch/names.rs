//! The addresses of a name, from the name servers that a machine is told of before it has a seed.
//!
//! The image has no C library to ask. One question in one datagram is all that is needed (RFC 1035, 4.1 and 7.1; RFC 3596); messages are read and written by smoltcp.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use masthead_machine::Scale;
use rustix::rand::{GetRandomFlags, getrandom};
use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData,
    DnsRepr,
};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A server that has not answered by then is asked again, or the next one is.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many times is each of them asked.
const ROUNDS: u32 = 2;
/// Of an answer over UDP without extensions.
const LONGEST: usize = 512;
/// Where name servers listen.
pub const PORT: u16 = 53;

/// The addresses of a name, of the family that the machine has an address of. An address is its own.
pub(super) async fn addresses(
    name: &str,
    servers: &[SocketAddr],
    wants_ipv6: bool,
    scale: Scale,
) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    if servers.is_empty() {
        return Err(format!(
            "{name} is a name, and there is no name server: write its address, or ip=…:DNS"
        ));
    }
    let kind = if wants_ipv6 {
        DnsQueryType::Aaaa
    } else {
        DnsQueryType::A
    };
    let question = encoded(name).ok_or_else(|| format!("{name} is no name of a host"))?;
    let mut failures = Vec::new();
    for _ in 0..ROUNDS {
        failures.clear();
        for server in servers {
            match timeout(scale * PATIENCE, ask(*server, &question, kind)).await {
                Ok(Ok(found)) if !found.is_empty() => return Ok(found),
                Ok(Ok(_)) => failures.push(format!("{server} knows no address of it")),
                Ok(Err(error)) => failures.push(format!("{server}: {error}")),
                Err(_) => failures.push(format!("{server} does not answer")),
            }
        }
    }
    Err(format!(
        "the name {name} is not found: {}",
        failures.join(", ")
    ))
}

/// As labels (RFC 1035, 3.1).
fn encoded(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= 255).then_some(bytes)
}

async fn ask(server: SocketAddr, name: &[u8], kind: DnsQueryType) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The kernel gives it a port by chance, and lets nobody else's datagrams in.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let mut id = [0; 2];
    getrandom(&mut id, GetRandomFlags::empty())?;
    let id = u16::from_be_bytes(id);
    let query = DnsRepr {
        transaction_id: id,
        opcode: DnsOpcode::Query,
        flags: DnsFlags::RECURSION_DESIRED,
        question: DnsQuestion { name, type_: kind },
    };
    let mut bytes = vec![0; query.buffer_len()];
    query.emit(&mut DnsPacket::new_unchecked(&mut bytes));
    socket.send(&bytes).await?;
    loop {
        let mut answer = [0; LONGEST];
        let length = socket.recv(&mut answer).await?;
        // What belongs to another question is not heard at all.
        if let Some(found) = read(&answer[..length], id, name, kind) {
            return found.map_err(io::Error::other);
        }
    }
}

/// The addresses in an answer to this question, or what the server says in their place. None if it answers another one.
fn read(
    answer: &[u8],
    id: u16,
    name: &[u8],
    kind: DnsQueryType,
) -> Option<Result<Vec<IpAddr>, String>> {
    let packet = DnsPacket::new_checked(answer).ok()?;
    let is_answer = packet.flags().contains(DnsFlags::RESPONSE);
    if !is_answer || packet.transaction_id() != id || packet.question_count() != 1 {
        return None;
    }
    let (mut rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
    if question.type_ != kind || !question.name.eq_ignore_ascii_case(name) {
        return None;
    }
    match packet.rcode() {
        DnsRcode::NoError => {}
        DnsRcode::NXDomain => return Some(Err("there is no such name".to_owned())),
        other => return Some(Err(format!("it answers {other:?}"))),
    }
    let mut found = Vec::new();
    // A server that is asked to goes after other names by itself, and its last records are those of the last one.
    for _ in 0..packet.answer_record_count() {
        let Ok((after, record)) = DnsRecord::parse(rest) else {
            break;
        };
        match record.data {
            DnsRecordData::A(address) => found.push(IpAddr::V4(address)),
            DnsRecordData::Aaaa(address) => found.push(IpAddr::V6(address)),
            DnsRecordData::Cname(_) | DnsRecordData::Other(..) => {}
        }
        rest = after;
    }
    Some(Ok(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u16 = 0x1234;

    /// An answer with these records for `seeds.example`.
    fn answer(flags: [u8; 2], records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, flags[0], flags[1], 0, 1, 0];
        bytes.push(u8::try_from(records.len()).expect("few"));
        bytes.extend([0; 4]);
        bytes.extend(encoded("Seeds.example").expect("a name"));
        bytes.extend([0, 1, 0, 1]);
        for record in records {
            bytes.extend(*record);
        }
        bytes
    }

    fn found(bytes: &[u8]) -> Option<Result<Vec<IpAddr>, String>> {
        let name = encoded("seeds.example").expect("a name");
        read(bytes, ID, &name, DnsQueryType::A)
    }

    /// Each names the question's name by a pointer.
    const CNAME: &[u8] = &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'x', 0];
    const A: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 7];

    #[test]
    fn the_addresses_of_an_answer_are_read() {
        let expected: Vec<IpAddr> = vec!["10.0.0.7".parse().expect("one")];
        assert_eq!(
            found(&answer([0x81, 0x80], &[CNAME, A])),
            Some(Ok(expected))
        );
        assert_eq!(found(&answer([0x81, 0x80], &[])), Some(Ok(vec![])));
        let no_name = "there is no such name".to_owned();
        assert_eq!(found(&answer([0x81, 0x83], &[])), Some(Err(no_name)));
    }

    #[test]
    fn what_answers_something_else_is_not_heard() {
        let good = answer([0x81, 0x80], &[A]);
        assert_eq!(found(&answer([0x01, 0x00], &[A])), None, "a question");
        let mut other = good.clone();
        other[1] = 0x35;
        assert_eq!(found(&other), None, "another number");
        let mut other = good.clone();
        other[14] = b'x';
        assert_eq!(found(&other), None, "another name");
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_is_read_as_far_as_it_goes() {
        let whole = answer([0x81, 0x80], &[CNAME, A]);
        for length in 0..whole.len() {
            let found = found(&whole[..length]);
            assert!(
                found.is_none_or(|found| found == Ok(vec![])),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn names_have_labels() {
        assert_eq!(encoded("a.bc.").as_deref(), Some(&b"\x01a\x02bc\0"[..]));
        assert_eq!(encoded("a..b"), None);
        assert_eq!(encoded(&"a".repeat(64)), None);
        assert_eq!(encoded(&["a".repeat(63).as_str(); 4].join(".")), None);
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_asked_again_and_the_next_one_then() {
        let scale = Scale::new(0.1).expect("a scale");
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let good = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let servers = [
            silent.local_addr().expect("bound"),
            good.local_addr().expect("bound"),
        ];
        let serving = tokio::spawn(async move {
            let mut query = [0; LONGEST];
            let (_, from) = good.recv_from(&mut query).await.expect("a question");
            let mut said = answer([0x81, 0x80], &[A]);
            said[..2].copy_from_slice(&query[..2]);
            good.send_to(&said, from).await.expect("sent");
        });
        let found = addresses("seeds.example", &servers, false, scale).await;
        assert_eq!(found, Ok(vec!["10.0.0.7".parse().expect("one")]));
        serving.await.expect("it served");
        let failed = addresses("seeds.example", &servers[..1], false, scale).await;
        assert_eq!(
            failed.expect_err("nobody answers"),
            format!(
                "the name seeds.example is not found: {} does not answer",
                servers[0]
            )
        );
    }
}
