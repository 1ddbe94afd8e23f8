//! The network before there is a seed: an address for the fetch of it, and for nothing else.
//!
//! Address and route bear a mark in the kernel, by which they are found again: by the fetch itself at its end, by the next one if the supervisor
//! died meanwhile, and by [`super::keep`] before it sets what the seed says.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use masthead_machine::Scale;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_utils::nla::{DefaultNla, Nla as _};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::dhcp::{self, Lease};
use super::interface::{Interface, ethernet};
use super::{LOOPBACK, NetworkError, default_route, refused, with_netlink};
use crate::error_chain::with_sources;
use crate::seed_source::{
    Card, Errand, Facts, How, NAME_SERVER_PORT, Uplink, Uplinks, Wanted, is_own_interface,
};

/// Who has set an address (`IFA_PROTO`, linux/if_addr.h) or a route (`rtm_protocol`, linux/rtnetlink.h). Nobody else has this number.
const MARK: u8 = 0x4d;
const IFA_PROTO: u16 = 11;

/// Until a card that was switched on has its carrier. A switch that looks for loops takes longer: the next look finds it.
const CARRIER: Duration = Duration::from_secs(10);
/// What other cards have left when the first one has it.
const OTHERS: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Until a DHCP server has answered.
const LEASE: Duration = Duration::from_secs(15);

/// The machine's own network cards.
#[derive(Clone, Debug)]
pub struct Cards {
    /// sysfs.
    pub sys: PathBuf,
}

impl Uplinks for Cards {
    fn with(
        &self,
        wanted: &Wanted,
        scale: Scale,
        errand: &mut Errand<'_>,
    ) -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let told = |error: NetworkError| with_sources(&error);
        // A supervisor that died in the middle has left it.
        runtime.block_on(clear()).map_err(told)?;
        let result = runtime
            .block_on(self.switch_on(wanted, scale))
            .and_then(|cards| address(&cards, wanted, scale))
            .and_then(|(card, lease)| {
                let set = runtime.block_on(set(&card, &lease));
                set.map_err(told)?;
                errand(uplink(&card, &lease, wanted))
            });
        // A failure of the fetch tells more than one to clean up after it, which is tried again.
        let cleared = runtime.block_on(clear()).map_err(told);
        result.and_then(|bytes| cleared.map(|()| bytes))
    }
}

impl Cards {
    /// Those that are wanted and have a carrier, switched on.
    async fn switch_on(&self, wanted: &Wanted, scale: Scale) -> Result<Vec<Interface>, String> {
        let all = ethernet(&self.sys);
        let is_wanted = |card: &Interface| match &wanted.card {
            Card::Any => is_own_interface(&self.sys.join("class/net").join(&card.name)),
            Card::Name(name) => card.name == *name,
            Card::Mac(mac) => card.mac == *mac,
        };
        let (cards, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_wanted);
        if cards.is_empty() {
            let which = match &wanted.card {
                Card::Any => String::new(),
                Card::Name(name) => format!(" {name}"),
                Card::Mac(mac) => format!(" with the address {mac}"),
            };
            return Err(format!(
                "there is no network card{which}{}",
                listed(&others)
            ));
        }
        let switched = with_netlink(async |netlink| {
            for index in std::iter::once(LOOPBACK).chain(cards.iter().map(|card| card.index)) {
                let up = LinkUnspec::new_with_index(index).up().build();
                let set = netlink.link().set(up).execute().await;
                set.map_err(refused("switching network cards on"))?;
            }
            Ok(())
        });
        switched.await.map_err(|error| with_sources(&error))?;
        let ready = carriers(&self.sys, &cards, scale).await;
        if ready.is_empty() {
            return Err(format!("no network card has a carrier{}", listed(&cards)));
        }
        Ok(ready)
    }
}

fn listed(cards: &[Interface]) -> String {
    if cards.is_empty() {
        return String::new();
    }
    let named: Vec<_> = cards
        .iter()
        .map(|card| format!("{} {}", card.name, card.mac))
        .collect();
    format!("; there are {}", named.join(", "))
}

async fn carriers(sys: &Path, cards: &[Interface], scale: Scale) -> Vec<Interface> {
    let mut until = Instant::now() + scale * CARRIER;
    loop {
        let ready: Vec<_> = cards
            .iter()
            .filter(|card| card.has_carrier(sys))
            .cloned()
            .collect();
        if ready.len() == cards.len() || Instant::now() >= until {
            return ready;
        }
        if !ready.is_empty() {
            until = until.min(Instant::now() + scale * OTHERS);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The card that is used, and its address.
fn address(
    cards: &[Interface],
    wanted: &Wanted,
    scale: Scale,
) -> Result<(Interface, Lease), String> {
    match &wanted.how {
        How::Static { address, gateway } => {
            let lease = Lease {
                address: *address,
                router: *gateway,
                dns: Vec::new(),
                hostname: None,
            };
            let card = cards.first().ok_or("there is no network card")?;
            Ok((card.clone(), lease))
        }
        How::Dhcp => lease(cards, scale),
    }
}

/// Asks on all cards at once; the first answer counts.
fn lease(cards: &[Interface], scale: Scale) -> Result<(Interface, Lease), String> {
    let until = Instant::now() + scale * LEASE;
    let is_enough = AtomicBool::new(false);
    let answers: Vec<(&Interface, io::Result<Option<Lease>>)> = thread::scope(|scope| {
        let asking: Vec<_> = cards
            .iter()
            .map(|card| {
                let is_enough = &is_enough;
                let asks = scope.spawn(move || {
                    let answer = dhcp::ask(card, until, is_enough);
                    if matches!(answer, Ok(Some(_))) {
                        is_enough.store(true, Ordering::Relaxed);
                    }
                    answer
                });
                (card, asks)
            })
            .collect();
        asking
            .into_iter()
            .filter_map(|(card, asks)| Some((card, asks.join().ok()?)))
            .collect()
    });
    let mut failures = Vec::new();
    for (card, answer) in answers {
        match answer {
            Ok(Some(lease)) => return Ok((card.clone(), lease)),
            Ok(None) => failures.push(format!("no answer on {}", card.name)),
            Err(error) => failures.push(format!("{}: {error}", card.name)),
        }
    }
    Err(format!("no address by DHCP: {}", failures.join(", ")))
}

fn uplink(card: &Interface, lease: &Lease, wanted: &Wanted) -> Uplink {
    let servers = wanted.dns.iter().chain(&lease.dns);
    Uplink {
        facts: Facts {
            mac: Some(card.mac),
            hostname: wanted.hostname.clone().or_else(|| lease.hostname.clone()),
            ..Facts::default()
        },
        dns: servers
            .map(|server| SocketAddr::new(*server, NAME_SERVER_PORT))
            .collect(),
        is_ipv6: matches!(lease.address, IpNet::V6(_)),
    }
}

/// Sets address and default route, with the mark.
async fn set(card: &Interface, lease: &Lease) -> Result<(), NetworkError> {
    with_netlink(async |netlink| {
        let (address, bits) = (lease.address.addr(), lease.address.prefix_len());
        let mut adding = netlink.address().add(card.index, address, bits).replace();
        let message = adding.message_mut();
        let mark = DefaultNla::new(IFA_PROTO, vec![MARK]);
        message.attributes.push(AddressAttribute::Other(mark));
        if address.is_ipv6() {
            // A person has written it, and it is used at once.
            message.header.flags |= AddressHeaderFlags::Nodad;
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            message.attributes.push(flags);
        }
        let step = format!("setting {} on {}", lease.address, card.name);
        adding.execute().await.map_err(refused(step))?;
        if let Some(gateway) = lease.router {
            let mut route = default_route(gateway, card.index);
            route.header.protocol = RouteProtocol::Other(MARK);
            let step = format!("setting the default route by {gateway} on {}", card.name);
            let adding = netlink.route().add(route).replace();
            adding.execute().await.map_err(refused(step))?;
        }
        Ok(())
    })
    .await
}

async fn clear() -> Result<(), NetworkError> {
    with_netlink(async |netlink| remove_marked(&netlink).await).await
}

/// Removes what was set for a fetch, if there is anything.
pub(super) async fn remove_marked(netlink: &Handle) -> Result<(), NetworkError> {
    let step = "looking for what was set for a fetch";
    let of_ipv4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let of_ipv6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for family in [of_ipv4, of_ipv6] {
        let routes: Vec<_> = netlink
            .route()
            .get(family)
            .execute()
            .try_collect()
            .await
            .map_err(refused(step))?;
        for route in routes {
            if route.header.protocol == RouteProtocol::Other(MARK) {
                let deleted = netlink.route().del(route).execute().await;
                unless_gone(deleted).map_err(refused("removing a route"))?;
            }
        }
    }
    let addresses: Vec<_> = netlink
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(refused(step))?;
    for address in addresses.into_iter().filter(is_marked) {
        let deleted = netlink.address().del(address).execute().await;
        unless_gone(deleted).map_err(refused("removing an address"))?;
    }
    Ok(())
}

fn is_marked(address: &AddressMessage) -> bool {
    address.attributes.iter().any(|attribute| {
        let AddressAttribute::Other(other) = attribute else {
            return false;
        };
        let mut value = vec![0; other.value_len()];
        other.emit_value(&mut value);
        other.kind() == IFA_PROTO && value == [MARK]
    })
}

/// An interface that goes takes its addresses and routes along, and an address its routes.
fn unless_gone(deleted: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    const GONE: [i32; 3] = [libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENODEV];
    match deleted {
        Err(rtnetlink::Error::NetlinkError(error)) if GONE.contains(&-error.raw_code()) => Ok(()),
        other => other,
    }
}
