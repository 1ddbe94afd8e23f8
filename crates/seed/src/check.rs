//! What the values of a seed must be to each other.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use masthead_diagnostics::{Place, Table};

use crate::names::is_link_local;
use crate::read::At;
use crate::read::masters::Draft;
use crate::read::network::Field;
use crate::read::root::SeedDraft;
use crate::{DiskSelector, Endpoint};

/// More voters make etcd slower, not safer.
const MOST_MASTERS: usize = 7;

/// The services' prefix of a seed that names none.
pub(crate) const DEFAULT_SERVICES: IpNet =
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12));

/// Reports every contradiction.
pub(crate) fn check(root: &Table<'_>, seed: &SeedDraft) {
    let reporter = &mut Reporter {
        root,
        reported: Vec::new(),
    };
    number_of_masters(reporter, &seed.masters);
    twins(reporter, &seed.masters);
    for master in &seed.masters {
        disks_of(reporter, master, &seed.masters);
    }
    // With two families, whatever else is said about networks would only confuse.
    if one_family(reporter, &seed.masters) {
        for master in &seed.masters {
            network_of(reporter, master);
        }
        endpoint(reporter, seed);
        prefixes(reporter, seed);
    }
}

/// Says one thing about one place once: a common value can be wrong for every master.
struct Reporter<'r, 'd> {
    root: &'r Table<'d>,
    reported: Vec<Place>,
}

impl Reporter<'_, '_> {
    fn error(&mut self, place: Place, message: String, help: impl Into<String>) {
        if !self.reported.contains(&place) {
            self.reported.push(place);
            self.root.error_at(place, message, help);
        }
    }

    fn warning(&mut self, place: Place, message: String, help: &str) {
        if !self.reported.contains(&place) {
            self.reported.push(place);
            self.root.warning_at(place, message, help);
        }
    }
}

fn number_of_masters(reporter: &mut Reporter<'_, '_>, masters: &[Draft]) {
    let count = masters.len();
    let Some(last) = masters.last() else { return };
    if count > MOST_MASTERS {
        reporter.error(
            last.place,
            format!("{count} masters are more than the {MOST_MASTERS} that etcd serves well"),
            "list 3 or 5 masters",
        );
    } else if count.is_multiple_of(2) {
        let fewer = count - 1;
        let survives = (count - 1) / 2;
        let message = format!(
            "{count} masters survive the loss of {survives}, no more than {fewer} would, and lose their quorum more easily"
        );
        reporter.warning(
            last.place,
            message,
            if count == 2 {
                "list 3 masters, or 1"
            } else {
                "list an odd number of masters"
            },
        );
    }
    let memory = masters.iter().find_map(|master| {
        master
            .storage
            .disk
            .as_ref()
            .filter(|disk| disk.value == DiskSelector::Memory)
    });
    if let Some(disk) = memory.filter(|_| count > 1) {
        reporter.error(
            disk.place,
            format!("`disk` = \"memory\" is for a single master, and this seed has {count}: a member that forgets its data breaks the cluster"),
            "give each master a disk, disk = { type = \"nvme\", min = \"100GB\" }",
        );
    }
}

/// What no two masters can share.
fn twins(reporter: &mut Reporter<'_, '_>, masters: &[Draft]) {
    unique(reporter, masters, "mac", "MAC address", |master| {
        master.mac.as_ref()
    });
    unique(reporter, masters, "serial", "serial number", |master| {
        master.serial.as_ref()
    });
    unique(reporter, masters, "address", "address", |master| {
        master.address.as_ref()
    });
    let mut disks: BTreeMap<&str, &Draft> = BTreeMap::new();
    for master in masters {
        let Some(At {
            value: DiskSelector::Match(disk),
            place,
        }) = &master.storage.disk
        else {
            continue;
        };
        let Some(serial) = disk.serial.as_deref() else {
            continue;
        };
        if let Some(first) = disks.insert(serial, master) {
            reporter.error(
                *place,
                format!(
                    "the disk {serial:?} cannot be in both {} and {}",
                    first.name, master.name
                ),
                "give each master the serial number of its own disk",
            );
        }
    }
}

fn unique<'m, T: Ord + Display + 'm>(
    reporter: &mut Reporter<'_, '_>,
    masters: &'m [Draft],
    key: &str,
    what: &str,
    of: impl Fn(&'m Draft) -> Option<&'m At<T>>,
) {
    let mut first: BTreeMap<&T, &Draft> = BTreeMap::new();
    let mut written: Vec<(&Draft, &At<T>)> = masters
        .iter()
        .filter_map(|master| Some((master, of(master)?)))
        .collect();
    // The one that is written later is the one to change.
    written.sort_by_key(|(_, at)| at.place.range().start);
    for (master, at) in written {
        if let Some(owner) = first.get(&at.value) {
            reporter.error(
                at.place,
                format!(
                    "`masters.{}.{key}`: {} is the {what} of {} already",
                    master.name, at.value, owner.name
                ),
                format!("give each master its own {what}"),
            );
        } else {
            first.insert(&at.value, master);
        }
    }
}

fn network_of(reporter: &mut Reporter<'_, '_>, master: &Draft) {
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
            Ok(server_address) => reachable(
                reporter,
                "ntp",
                server_address,
                server.place,
                net,
                gateway.is_some(),
                name,
            ),
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
        reachable(
            reporter,
            "dns",
            server.value,
            server.place,
            net,
            gateway.is_some(),
            name,
        );
    }
}

fn reachable(
    reporter: &mut Reporter<'_, '_>,
    key: &str,
    server: IpAddr,
    place: Place,
    net: IpNet,
    has_gateway: bool,
    master: &str,
) {
    if !has_gateway && !net.contains(&server) {
        reporter.error(
            place,
            format!(
                "`{key}`: {server} is outside the network of {master}, {}, which has no gateway",
                net.trunc()
            ),
            "add gateway = \"…\" to `network`, or write a server in that network",
        );
    }
}

/// The addresses of an IPv4 network that belong to no host.
fn not_a_host(net: IpNet, address: IpAddr) -> Option<&'static str> {
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

fn one_family(reporter: &mut Reporter<'_, '_>, masters: &[Draft]) -> bool {
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

fn endpoint(reporter: &mut Reporter<'_, '_>, seed: &SeedDraft) {
    let Some(endpoint) = &seed.endpoint else {
        return;
    };
    for master in &seed.masters {
        let Some(address) = &master.address else {
            continue;
        };
        let name = &master.name;
        match &endpoint.value {
            Endpoint::Virtual(vip) if *vip == address.value => reporter.error(
                endpoint.place,
                format!("`endpoint`: {vip} is the address of {name}, and a virtual address belongs to no machine"),
                if seed.masters.len() == 1 {
                    format!("write a free address of that network, or endpoint = \"{}\" to reach the single master directly", with_port(*vip))
                } else {
                    "write a free address of that network".to_owned()
                },
            ),
            Endpoint::Virtual(vip) => virtual_address(reporter, *vip, endpoint.place, master),
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

fn net_of(master: &Draft) -> Option<IpNet> {
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

/// The prefixes of Kubernetes against each other and against everything outside of the cluster.
fn prefixes(reporter: &mut Reporter<'_, '_>, seed: &SeedDraft) {
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

fn disks_of(reporter: &mut Reporter<'_, '_>, master: &Draft, masters: &[Draft]) {
    let storage = &master.storage;
    let Some(disk) = &storage.disk else { return };
    let etcd_disk = storage.etcd_disk.as_ref();
    match &disk.value {
        DiskSelector::Memory => {
            for (key, place) in [
                ("etcd-disk", etcd_disk.map(|disk| disk.place)),
                ("wipe", storage.wipe.as_ref().map(|wipe| wipe.place)),
            ] {
                if let Some(place) = place {
                    reporter.error(
                        place,
                        format!(
                            "`{key}` means nothing for {}, which runs from memory",
                            master.name
                        ),
                        format!("leave `{key}` out, or give it a disk instead of \"memory\""),
                    );
                }
            }
        }
        DiskSelector::Match(wanted) => {
            if let Some(etcd_disk) = etcd_disk.filter(|etcd_disk| etcd_disk.value == *wanted) {
                reporter.error(
                    etcd_disk.place,
                    format!("`etcd-disk` of {} asks for the same disk as `disk`", master.name),
                    "tell the two apart, etcd-disk = { serial = \"S4EV123\" }, or leave `etcd-disk` out",
                );
            }
            // A common `wipe` names the disk of one master; only its own must be among its disks.
            let own = master.own_wipe || masters.len() == 1;
            let serials = [Some(wanted), etcd_disk.map(|disk| &disk.value)];
            let mut serials = serials
                .into_iter()
                .flatten()
                .map(|disk| disk.serial.as_deref());
            if let Some(wipe) = storage.wipe.as_ref().filter(|_| own)
                && serials.all(|serial| serial.is_some_and(|serial| serial != wipe.value))
            {
                reporter.error(
                    wipe.place,
                    format!(
                        "`wipe` of {} names {:?}, which is none of its disks",
                        master.name, wipe.value
                    ),
                    "one of the serial numbers is wrong: write the same in `wipe` and in `disk`",
                );
            }
        }
    }
}
