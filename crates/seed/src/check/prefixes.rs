//! The prefixes of services and Pods.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::Reporter;
use super::network::net_of;
use crate::Endpoint;
use crate::read::At;
use crate::read::network::Field;
use crate::read::root::SeedDraft;

/// The services' prefix of a seed that names none.
pub(crate) const DEFAULT_SERVICES: IpNet =
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12));

/// The prefixes of Kubernetes against each other and against everything outside of the cluster.
pub(super) fn prefixes(reporter: &mut Reporter<'_, '_>, seed: &SeedDraft) {
    const HELP: &str =
        "choose a prefix that is used nowhere in your network, such as services = \"10.96.0.0/12\"";
    let default = default_services(reporter, seed);
    let services = seed.kubernetes.services.get().or(default.as_ref());
    let pods = seed.kubernetes.pods.as_ref();
    if let (Some(services), Some(pods)) = (services, pods)
        && overlap(services.value, pods.value)
    {
        reporter.error(
            pods.place,
            format!(
                "`kubernetes.pods`: {} overlaps with `services`, {}",
                pods.value, services.value
            ),
            "choose prefixes that share no address",
        );
    }
    let services_name = if default.is_some() {
        "the default of `kubernetes.services`"
    } else {
        "`kubernetes.services`"
    };
    let both = services
        .map(|net| (services_name, net))
        .into_iter()
        .chain(pods.map(|net| ("`kubernetes.pods`", net)));
    for (name, net) in both {
        for master in &seed.masters {
            let Some(node_net) = net_of(master) else {
                continue;
            };
            if overlap(net.value, node_net) {
                reporter.error(
                    net.place,
                    format!("{name}: {} overlaps with the network of {}, {}", net.value, master.name, node_net.trunc()),
                    if default.is_some() { "write another prefix under [kubernetes], such as services = \"172.30.0.0/16\"" } else { HELP },
                );
            } else if name == services_name
                && net.value.addr().is_ipv4() != node_net.addr().is_ipv4()
            {
                reporter.error(
                    net.place,
                    format!("{name}: {} is not of the family of the masters' addresses", net.value),
                    "write a prefix of the same family, such as \"10.96.0.0/12\" or \"fd00:96::/112\"",
                );
            }
        }
        for (what, address) in outside(seed) {
            if net.value.contains(&address) {
                reporter.error(
                    net.place,
                    format!("{name}: {} contains the {what} {address}, which would then be out of reach", net.value),
                    HELP,
                );
            }
        }
    }
}

/// The prefix of services of a seed that names none, shown at the first master's address.
fn default_services(reporter: &mut Reporter<'_, '_>, seed: &SeedDraft) -> Option<At<IpNet>> {
    if !matches!(seed.kubernetes.services, Field::Absent) {
        return None;
    }
    let address = seed
        .masters
        .iter()
        .find_map(|master| master.address.as_ref())?;
    if address.value.is_ipv6() {
        reporter.error(
            address.place,
            "masters with IPv6 addresses need a prefix for services".to_owned(),
            "write services = \"fd00:96::/112\" under [kubernetes]",
        );
        return None;
    }
    Some(At {
        value: DEFAULT_SERVICES,
        place: address.place,
    })
}

/// Addresses that the masters must reach.
fn outside(seed: &SeedDraft) -> Vec<(&'static str, IpAddr)> {
    let mut all = Vec::new();
    for master in &seed.masters {
        let dns = master
            .network
            .dns
            .get()
            .into_iter()
            .flatten()
            .map(|server| ("name server", server.value));
        let ntp = master.network.ntp.get().into_iter().flatten();
        let ntp = ntp.filter_map(|server| Some(("time server", server.value.parse().ok()?)));
        all.extend(dns.chain(ntp));
    }
    if let Some(Endpoint::LoadBalancer { host, .. }) =
        seed.endpoint.as_ref().map(|endpoint| &endpoint.value)
    {
        all.extend(host.parse().ok().map(|address| ("load balancer", address)));
    }
    all
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}
