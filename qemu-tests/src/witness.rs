//! A witness of who answers for the virtual address, frame by frame.
//!
//! It hears what each node sends, and asks all the time: everybody by ARP, and each node with a SYN of its own, so that whoever would answer does.
//! A node that has sent a frame with the address as its source is its owner from then on. Owners follow each other, as often as etcd's key says, and
//! nobody is heard between two frames of another owner.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    cluster::Cluster,
    error::{Attempt, Error, Result},
    plan::{ENDPOINT, GATEWAY, GATEWAY_MAC, KUBERNETES_PORT, Mac},
    tap::{Heard, Tap},
};

/// Between two rounds of questions, to real machines: emulated ones are as slow in answering as in everything.
const ASK_EVERY: Duration = Duration::from_millis(5);
const BROADCAST: Mac = Mac([0xff; 6]);
/// The ports that it asks from; they are nobody else's.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];

/// A time in which nobody but one node was heard with the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reign {
    /// The node.
    pub node: String,
    /// Its first frame, since the witness began.
    pub from: Duration,
    /// Its last one.
    pub to: Duration,
    /// How many.
    pub frames: u64,
}

/// A witness at work.
pub struct Witness {
    over: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<Reign>>>,
    thread: Option<JoinHandle<Result<()>>>,
    /// How often the address had another owner when it began.
    epoch: u64,
}

impl Witness {
    /// Begins to listen and to ask.
    pub fn begin(cluster: &Cluster) -> Result<Self> {
        Self::begin_for(cluster, ENDPOINT)
    }

    /// The same for an address that is none of Masthead's.
    pub fn begin_for(cluster: &Cluster, address: Ipv4Addr) -> Result<Self> {
        let mut tap = cluster.tap()?;
        let nodes: BTreeMap<[u8; 6], String> = cluster
            .nodes()
            .iter()
            .map(|node| (node.plan().mac().0, node.plan().name.clone()))
            .collect();
        let epoch = cluster.vip().epoch;
        let pace = ASK_EVERY.mul_f64(cluster.timing_scale());
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let heard = Arc::<Mutex<Vec<Reign>>>::default();
        let reigns = Arc::clone(&heard);
        let thread = thread::Builder::new()
            .name("witness".to_owned())
            .spawn(move || listen(tap.as_mut(), (address, pace), &nodes, &reigns, &is_over))
            .attempt(|| "start the witness")?;
        Ok(Self {
            over,
            heard,
            thread: Some(thread),
            epoch,
        })
    }

    /// Who was heard last.
    pub fn owner(&self) -> Option<String> {
        let reigns = lock(&self.heard);
        reigns.last().map(|reign| reign.node.clone())
    }

    /// Ends it, and says who was heard, in order; an error when there were more changes than the key in etcd had.
    pub fn end(mut self, cluster: &Cluster) -> Result<Vec<Reign>, String> {
        let epoch = cluster.vip().epoch;
        let reigns = self.stop().map_err(|error| crate::error::chain(&error))?;
        let moves = usize::try_from(epoch.saturating_sub(self.epoch)).unwrap_or(usize::MAX);
        if reigns.len() > moves + 1 {
            let said = reigns.len() - 1;
            return Err(format!(
                "the address changed hands {said} times on the wire, and {moves} times in etcd: {reigns:#?}"
            ));
        }
        Ok(reigns)
    }

    /// Ends it, and says who was heard, in order, however often that changed.
    pub fn end_unjudged(mut self) -> Result<Vec<Reign>> {
        self.stop()
    }

    fn stop(&mut self) -> Result<Vec<Reign>> {
        self.over.store(true, Ordering::SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(listened)) => listened?,
            Some(Err(_)) => return Err(Error::Refused("the witness has panicked".to_owned())),
            None => {}
        }
        Ok(lock(&self.heard).clone())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn listen(
    tap: &mut dyn Tap,
    (address, pace): (Ipv4Addr, Duration),
    nodes: &BTreeMap<[u8; 6], String>,
    reigns: &Mutex<Vec<Reign>>,
    over: &AtomicBool,
) -> Result<()> {
    let began = Instant::now();
    let mut ask_at = began;
    let mut port = PORTS.start;
    while !over.load(Ordering::SeqCst) {
        let now = Instant::now();
        if ask_at <= now {
            ask(tap, address, nodes, port)?;
            port = if port + 1 < PORTS.end {
                port + 1
            } else {
                PORTS.start
            };
            ask_at = now + pace;
        }
        let Some(heard) = tap.hear(ask_at.saturating_duration_since(now))? else {
            continue;
        };
        if let Some(node) = nodes
            .get(&heard.from.0)
            .filter(|_| is_from(&heard, address))
        {
            add(&mut lock(reigns), node, heard.at - began);
        }
    }
    let missed = tap.missed()?;
    if missed > 0 {
        return Err(Error::Refused(format!(
            "the witness has missed {missed} frames: this machine is too slow for it"
        )));
    }
    Ok(())
}

fn lock(reigns: &Mutex<Vec<Reign>>) -> MutexGuard<'_, Vec<Reign>> {
    reigns.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(reigns: &mut Vec<Reign>, node: &str, at: Duration) {
    match reigns.last_mut() {
        Some(reign) if reign.node == node => {
            reign.to = at;
            reign.frames += 1;
        }
        _ => reigns.push(Reign {
            node: node.to_owned(),
            from: at,
            to: at,
            frames: 1,
        }),
    }
}

/// Whether a frame says that its sender has the address: by ARP, or as the source of a packet.
fn is_from(heard: &Heard, address: Ipv4Addr) -> bool {
    let at = |from: usize, length: usize| heard.bytes.get(from..from + length);
    let sender = match at(12, 2) {
        Some(kind) if kind == ARP => at(28, 4),
        Some(kind) if kind == IPV4 => at(26, 4),
        _ => None,
    };
    sender == Some(&address.octets())
}

fn ask(
    tap: &mut dyn Tap,
    address: Ipv4Addr,
    nodes: &BTreeMap<[u8; 6], String>,
    port: u16,
) -> Result<()> {
    tap.say(&arp_request(BROADCAST, address))?;
    for node in nodes.keys() {
        let node = Mac(*node);
        tap.say(&arp_request(node, address))?;
        tap.say(&syn(node, address, port))?;
    }
    Ok(())
}

/// As from the gateway.
fn arp_request(to: Mac, address: Ipv4Addr) -> Vec<u8> {
    [
        &to.0[..],
        &GATEWAY_MAC.0,
        &ARP,
        // Ethernet, IPv4, their lengths, a request.
        &[0, 1, 0x08, 0, 6, 4, 0, 1],
        &GATEWAY_MAC.0,
        &GATEWAY.octets(),
        &[0; 6],
        &address.octets(),
    ]
    .concat()
}

/// The first segment of a connection to the apiserver behind the address, as from the gateway, whose kernel answers
/// the answer with a reset.
fn syn(to: Mac, address: Ipv4Addr, port: u16) -> Vec<u8> {
    let header = |checksum: u16| {
        [
            &[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6][..],
            &checksum.to_be_bytes(),
            &GATEWAY.octets(),
            &address.octets(),
        ]
        .concat()
    };
    let segment = |checksum: u16| {
        [
            &port.to_be_bytes()[..],
            &KUBERNETES_PORT.to_be_bytes(),
            &[0; 8],
            // Five words, SYN, and a window.
            &[5 << 4, 2, 0xff, 0xff],
            &checksum.to_be_bytes(),
            &[0, 0],
        ]
        .concat()
    };
    let pseudo_header = [&GATEWAY.octets()[..], &address.octets(), &[0, 6, 0, 20]].concat();
    let checksum_of_segment = checksum(&[pseudo_header, segment(0)].concat());
    [
        to.0.to_vec(),
        GATEWAY_MAC.0.to_vec(),
        IPV4.to_vec(),
        header(checksum(&header(0))),
        segment(checksum_of_segment),
    ]
    .concat()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it was folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Mac = Mac([0x52, 0x54, 0, 0x10, 0, 0x11]);

    fn heard(bytes: Vec<u8>) -> Heard {
        Heard {
            at: Instant::now(),
            from: NODE,
            bytes,
        }
    }

    #[test]
    fn frames_from_the_address_are_known_and_questions_for_it_are_none() {
        for question in [
            arp_request(BROADCAST, ENDPOINT),
            syn(NODE, ENDPOINT, 10_000),
        ] {
            assert!(is_from(&heard(question.clone()), GATEWAY));
            assert!(!is_from(&heard(question), ENDPOINT));
        }
        assert!(!is_from(&heard(vec![0; 20]), ENDPOINT));
        assert_eq!(checksum(&syn(NODE, ENDPOINT, 10_000)[14..34]), 0);
    }

    #[test]
    fn a_frame_between_two_of_another_makes_three_reigns() {
        let mut reigns = Vec::new();
        for (node, at) in [("m1", 1), ("m1", 2), ("m2", 3), ("m1", 4)] {
            add(&mut reigns, node, Duration::from_millis(at));
        }
        let names: Vec<_> = reigns.iter().map(|reign| &*reign.node).collect();
        assert_eq!(names, ["m1", "m2", "m1"]);
        assert_eq!(reigns[0].frames, 2);
    }
}
