//! Further addresses, and the ways to other networks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Reporter;
use super::network::{net_of, not_a_host};
use crate::Endpoint;
use crate::names::is_link_local;
use crate::read::At;
use crate::read::masters::Draft;
use crate::read::network::RouteDraft;
use crate::read::root::SeedDraft;

/// The networks that a master is in.
pub(super) fn nets_of(master: &Draft) -> impl Iterator<Item = IpNet> {
    let further = further_of(master).map(|address| address.value);
    net_of(master).into_iter().chain(further)
}

pub(super) fn routes_of(master: &Draft) -> impl Iterator<Item = &RouteDraft> {
    master.network.routes.get().into_iter().flatten()
}

fn further_of(master: &Draft) -> impl Iterator<Item = &At<IpNet>> {
    master.network.addresses.get().into_iter().flatten()
}

pub(super) fn routes(reporter: &mut Reporter<'_, '_>, master: &Draft) {
    let name = &master.name;
    let nets: Vec<_> = nets_of(master).collect();
    let mut seen: Vec<IpNet> = Vec::new();
    for RouteDraft { to, via } in routes_of(master) {
        if nets.iter().any(|net| net.addr() == via.value) {
            reporter.error(
                via.place,
                format!("`via`: {} is an address of {name} itself", via.value),
                "write the address of the router",
            );
        } else if via.value.is_ipv4() != to.value.addr().is_ipv4() {
            reporter.error(
                via.place,
                format!(
                    "`via`: {} is of another family than {}",
                    via.value, to.value
                ),
                "write a router of the same family",
            );
        } else if !(nets.iter().any(|net| net.contains(&via.value))
            || via.value.is_ipv6() && is_link_local(via.value))
        {
            reporter.error(
                via.place,
                format!(
                    "`via`: {} is in no network of {name}: {}",
                    via.value,
                    listed(&nets)
                ),
                "write a router in one of them, or correct `prefix`",
            );
        }
        if nets.iter().any(|net| net.trunc() == to.value) {
            reporter.error(
                to.place,
                format!("`to`: {name} is in {} itself", to.value),
                "leave the route out",
            );
        }
        if seen.contains(&to.value) {
            reporter.error(
                to.place,
                format!("`to`: there is a route to {} already", to.value),
                "leave one of them out",
            );
        }
        seen.push(to.value);
    }
}

/// Every address belongs to one machine.
pub(super) fn further(reporter: &mut Reporter<'_, '_>, seed: &SeedDraft) {
    let vips = match seed.endpoint.as_ref().map(|endpoint| &endpoint.value) {
        Some(Endpoint::Virtual(vips)) => vips.as_slice(),
        _ => &[],
    };
    let mut taken: Vec<(IpAddr, String)> = vips
        .iter()
        .map(|vip| (*vip, "a virtual address".to_owned()))
        .collect();
    for master in &seed.masters {
        let own = master.address.as_ref();
        taken.extend(own.map(|own| (own.value, format!("the address of {}", master.name))));
    }
    for master in &seed.masters {
        for address in further_of(master) {
            let host = address.value.addr();
            if let Some((_, whose)) = taken.iter().find(|(other, _)| *other == host) {
                reporter.error(
                    address.place,
                    format!("`addresses`: {host} is {whose}"),
                    "write an address of its own for each master, in the master's own `network`",
                );
            } else if let Some(kind) = not_a_host(address.value, host) {
                reporter.error(
                    address.place,
                    format!(
                        "`addresses`: {host} is the {kind} of {}",
                        address.value.trunc()
                    ),
                    "write the address of one host in it",
                );
            }
            taken.push((host, format!("an address of {}", master.name)));
        }
    }
}

fn listed(nets: &[IpNet]) -> String {
    let nets: Vec<_> = nets.iter().map(|net| net.trunc().to_string()).collect();
    nets.join(", ")
}
