//! Addresses, gateways, servers, and the endpoint.

use std::net::IpAddr;

use ipnet::IpNet;
use masthead_diagnostics::Place;

use super::Reporter;
use super::routes::{nets_of, routes_of};
use crate::Endpoint;
use crate::names::is_link_local;
use crate::read::masters::Draft;
use crate::read::root::SeedDraft;

pub(super) fn network_of(reporter: &mut Reporter<'_, '_>, master: &Draft) {
    let (Some(address), Some(prefix)) = (&master.address, master.network.prefix.get()) else {
        return;
    };
    let name = &master.name;
    let Ok(net) = IpNet::new(address.value, prefix.value) else {
        reporter.error(
            prefix.place,
            format!(
                "a prefix of {} bits is longer than the IPv4 address of {name}",
                prefix.value
            ),
            "write prefix = 24, or whatever your network has",
        );
        return;
    };
    if let Some(kind) = not_a_host(net, address.value) {
        reporter.error(
            address.place,
            format!(
                "`masters.{name}.address`: {} is the {kind} of {}",
                address.value,
                net.trunc()
            ),
            "write the address of one host in it",
        );
    }
    let gateway = master.network.gateway.get();
    if let Some(gateway) = gateway {
        if gateway.value == address.value {
            reporter.error(
                gateway.place,
                format!(
                    "`gateway`: {} is the address of {name} itself",
                    gateway.value
                ),
                "write the address of the router",
            );
        } else if !(net.contains(&gateway.value)
            || gateway.value.is_ipv6() && is_link_local(gateway.value))
        {
            reporter.error(
                gateway.place,
                format!(
                    "`gateway`: {} is not in the network of {name}, {}",
                    gateway.value,
                    net.trunc()
                ),
                "write the router's address in that network, or correct `prefix`",
            );
        }
    }
    let servers = master.network.ntp.get().into_iter().flatten();
    let dns = master
        .network
        .dns
        .get()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for server in servers {
        match server.value.parse::<IpAddr>() {
            Ok(address) => reachable(reporter, "ntp", address, server.place, master),
            Err(_) if dns.is_empty() => reporter.error(
                server.place,
                format!(
                    "`ntp`: {:?} is a name, and {name} has no name server to resolve it",
                    server.value
                ),
                "add dns = [\"10.20.0.2\"], or write the time server's address",
            ),
            Err(_) => {}
        }
    }
    for server in dns {
        reachable(reporter, "dns", server.value, server.place, master);
    }
}

fn reachable(
    reporter: &mut Reporter<'_, '_>,
    key: &str,
    server: IpAddr,
    place: Place,
    master: &Draft,
) {
    let by_route = routes_of(master).any(|route| route.to.value.contains(&server));
    let is_near = nets_of(master).any(|net| net.contains(&server));
    if let Some(net) = net_of(master)
        && master.network.gateway.get().is_none()
        && !by_route
        && !is_near
    {
        reporter.error(
            place,
            format!(
                "`{key}`: {server} is outside the network of {}, {}, which has no gateway",
                master.name,
                net.trunc()
            ),
            "add gateway = \"…\" to `network`, or write a server in that network",
        );
    }
}

/// The addresses of an IPv4 network that belong to no host.
pub(super) fn not_a_host(net: IpNet, address: IpAddr) -> Option<&'static str> {
    if !address.is_ipv4() || net.prefix_len() > 30 {
        return None;
    }
    if address == net.network() {
        Some("network address")
    } else if address == net.broadcast() {
        Some("broadcast address")
    } else {
        None
    }
}

pub(super) fn one_family(reporter: &mut Reporter<'_, '_>, masters: &[Draft]) -> bool {
    let mut addresses = masters
        .iter()
        .filter_map(|master| Some((master, master.address.as_ref()?)));
    let Some((first, family)) = addresses.next() else {
        return true;
    };
    let mut one = true;
    for (master, address) in addresses {
        if address.value.is_ipv4() != family.value.is_ipv4() {
            one = false;
            reporter.error(
                address.place,
                format!(
                    "{} and {} cannot mix IPv4 and IPv6: {} and {}",
                    first.name, master.name, family.value, address.value
                ),
                "give all masters addresses of one family",
            );
        }
    }
    one
}

pub(super) fn endpoint(reporter: &mut Reporter<'_, '_>, seed: &SeedDraft) {
    let Some(endpoint) = &seed.endpoint else {
        return;
    };
    for master in &seed.masters {
        let Some(address) = &master.address else {
            continue;
        };
        let name = &master.name;
        match &endpoint.value {
            Endpoint::Virtual(vips) => {
                for vip in vips {
                    if *vip == address.value {
                        let single = seed.masters.len() == 1;
                        address_of_master(reporter, *vip, endpoint.place, name, single);
                    } else {
                        virtual_address(reporter, *vip, endpoint.place, master);
                    }
                }
            }
            Endpoint::LoadBalancer { host, .. } => {
                if seed.masters.len() > 1 && *host == address.value.to_string() {
                    reporter.error(
                        endpoint.place,
                        format!("`endpoint`: {host} is the address of {name}: without {name}, clients reach nothing"),
                        "write a free address without a port as the virtual address, or the load balancer's",
                    );
                }
            }
        }
    }
}

fn address_of_master(
    reporter: &mut Reporter<'_, '_>,
    vip: IpAddr,
    place: Place,
    name: &str,
    single: bool,
) {
    reporter.error(
        place,
        format!("`endpoint`: {vip} is the address of {name}, and a virtual address belongs to no machine"),
        if single {
            format!("write a free address of that network, or endpoint = \"{}\" to reach the single master directly", with_port(vip))
        } else {
            "write a free address of that network".to_owned()
        },
    );
}

fn virtual_address(reporter: &mut Reporter<'_, '_>, vip: IpAddr, place: Place, master: &Draft) {
    let network = &master.network;
    if network
        .gateway
        .get()
        .is_some_and(|gateway| gateway.value == vip)
    {
        reporter.error(
            place,
            format!("`endpoint`: {vip} is the gateway"),
            "write a free address of that network",
        );
        return;
    }
    let servers = network.dns.get().into_iter().flatten();
    if servers.into_iter().any(|server| server.value == vip) {
        reporter.error(
            place,
            format!("`endpoint`: {vip} is a name server"),
            "write a free address of that network",
        );
        return;
    }
    let Some(net) = net_of(master) else { return };
    if !net.contains(&vip) {
        reporter.error(
            place,
            format!("`endpoint`: {vip} is not in the network of {}, {}, so that {} could not hold it", master.name, net.trunc(), master.name),
            "write a free address of the network that all masters share, or use a load balancer, \"api.example.net:6443\"",
        );
    } else if let Some(kind) = not_a_host(net, vip) {
        reporter.error(
            place,
            format!("`endpoint`: {vip} is the {kind} of {}", net.trunc()),
            "write a free address of that network",
        );
    }
}

pub(super) fn net_of(master: &Draft) -> Option<IpNet> {
    IpNet::new(
        master.address.as_ref()?.value,
        master.network.prefix.get()?.value,
    )
    .ok()
}

fn with_port(address: IpAddr) -> String {
    Endpoint::LoadBalancer {
        host: address.to_string(),
        port: Endpoint::VIRTUAL_PORT,
    }
    .to_string()
}
