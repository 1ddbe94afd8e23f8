//! The node's network: the interface that the seed means, its address and routes.
//!
//! Set over rtnetlink(7), and set again whenever the interface comes back, so that a card that was
//! replaced or a driver that was reloaded does not leave a master without its address. Before there is a seed, [`uplink`] has a
//! network of its own for the fetch of it.

mod dhcp;
mod interface;
mod uplink;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use masthead_api::status::Network;
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_machine::Scale;
use masthead_seed::{Master, Route};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use thiserror::Error;
use tokio::sync::watch;

use interface::Interface;
pub use uplink::Cards;

/// How often the interface is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Where `/etc/resolv.conf` of the image points.
pub const RESOLV_CONF: &str = "/run/masthead/resolv.conf";

/// Why the network is not up.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// No interface has the address that the seed names.
    #[error("no interface of this machine has the MAC address {wanted}; there are {present}")]
    NoInterface {
        /// From the seed.
        wanted: String,
        /// Names and MAC addresses.
        present: String,
    },
    /// The kernel refused.
    #[error("{step} was refused by the kernel")]
    Refused {
        /// What, with the interface's name.
        step: String,
        /// The kernel's word.
        source: rtnetlink::Error,
    },
    /// A netlink socket could not be had, or a file not be written.
    #[error("{step} failed")]
    Io {
        /// What.
        step: String,
        /// The kernel's word.
        source: io::Error,
    },
}

/// Keeps the network as the seed says, for ever, and `report` true. The first report with an address
/// says that it is up.
pub async fn keep(master: Master, scale: Scale, report: watch::Sender<Network>) {
    let sys = PathBuf::from("/sys");
    let mut configured: Option<Interface> = None;
    loop {
        match interface::find(&sys, &master.selector) {
            Ok(found) => {
                let anew = configured.as_ref().map(|known| known.index) != Some(found.index);
                let result = if anew {
                    configure(&found, &master).await
                } else {
                    Ok(())
                };
                match result {
                    Ok(()) => {
                        publish(&report, &sys, &found, &master);
                        configured = Some(found);
                    }
                    Err(error) => {
                        configured = None;
                        wait(&report, reason(&error));
                    }
                }
            }
            Err(error) => {
                configured = None;
                wait(&report, reason(&error));
            }
        }
        tokio::time::sleep(scale * EVERY).await;
    }
}

/// The loopback device always has index 1 (`LOOPBACK_IFINDEX`, net/flow.h).
const LOOPBACK: u32 = 1;

/// Sets link, address and default route. All of it may be there already.
async fn configure(interface: &Interface, master: &Master) -> Result<(), NetworkError> {
    with_netlink(async |handle| apply(&handle, interface, master).await).await
}

/// Does something with a connection to the kernel, which ends with it.
async fn with_netlink<T>(
    work: impl AsyncFnOnce(Handle) -> Result<T, NetworkError>,
) -> Result<T, NetworkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| NetworkError::Io {
            step: "opening a netlink socket".to_owned(),
            source,
        })?;
    let connection = tokio::spawn(connection);
    let result = work(handle).await;
    connection.abort();
    result
}

fn refused(step: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    let step = step.into();
    move |source| NetworkError::Refused { step, source }
}

/// By a gateway on an interface.
fn default_route(gateway: IpAddr, interface: u32) -> RouteMessage {
    match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(interface)
            .build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(gateway)
            .output_interface(interface)
            .build(),
    }
}

async fn apply(
    handle: &Handle,
    interface: &Interface,
    master: &Master,
) -> Result<(), NetworkError> {
    uplink::remove_marked(handle).await?;
    let name = &interface.name;
    for (index, name) in [(LOOPBACK, "lo"), (interface.index, name)] {
        let up = LinkUnspec::new_with_index(index).up().build();
        handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(refused(format!("switching {name} on")))?;
    }
    if let Some(mtu) = master.network.mtu {
        let link = LinkUnspec::new_with_index(interface.index).mtu(mtu);
        let set = handle.link().set(link.build()).execute().await;
        set.map_err(refused(format!("setting an MTU of {mtu} on {name}")))?;
    }
    // The first one is the source of what the node sends.
    for (address, prefix) in addresses_of(master) {
        let added = handle.address().add(interface.index, address, prefix);
        added
            .replace()
            .execute()
            .await
            .map_err(refused(format!("setting {address}/{prefix} on {name}")))?;
    }
    if let Some(gateway) = master.network.gateway {
        handle
            .route()
            .add(default_route(gateway, interface.index))
            .replace()
            .execute()
            .await
            .map_err(refused(format!(
                "setting the default route by {gateway} on {name}"
            )))?;
    }
    for Route { to, via } in &master.network.routes {
        // The seed is checked for the family.
        let Some(route) = route_to(*to, *via, interface.index) else {
            continue;
        };
        let added = handle.route().add(route).replace().execute().await;
        added.map_err(refused(format!(
            "setting the route to {to} by {via} on {name}"
        )))?;
    }
    write_resolv_conf(Path::new(RESOLV_CONF), &master.network.dns).map_err(|source| {
        NetworkError::Io {
            step: format!("writing {RESOLV_CONF}"),
            source,
        }
    })
}

fn addresses_of(master: &Master) -> impl Iterator<Item = (IpAddr, u8)> {
    let further = master.network.addresses.iter();
    let further = further.map(|net| (net.addr(), net.prefix_len()));
    std::iter::once((master.address, master.network.prefix)).chain(further)
}

/// None where the two are of different families.
fn route_to(to: IpNet, via: IpAddr, interface: u32) -> Option<RouteMessage> {
    Some(match (to, via) {
        (IpNet::V4(to), IpAddr::V4(via)) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(via)
            .output_interface(interface)
            .build(),
        (IpNet::V6(to), IpAddr::V6(via)) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(via)
            .output_interface(interface)
            .build(),
        _ => return None,
    })
}

/// See resolv.conf(5). Read by the apiserver, for issuers and webhooks that have names.
fn write_resolv_conf(path: &Path, servers: &[IpAddr]) -> io::Result<()> {
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, path)
}

fn publish(report: &watch::Sender<Network>, sys: &Path, interface: &Interface, master: &Master) {
    let carrier = interface.has_carrier(sys);
    report.send_if_modified(|network| {
        let unchanged = network.interface.as_ref() == Some(&interface.name)
            && network.index == Some(interface.index)
            && network.carrier == carrier
            && !network.addresses.is_empty();
        if unchanged {
            return false;
        }
        *network = Network {
            interface: Some(interface.name.clone()),
            index: Some(interface.index),
            mac: Some(interface.mac.to_string()),
            carrier,
            addresses: addresses_of(master)
                .map(|(address, prefix)| format!("{address}/{prefix}"))
                .collect(),
            gateway: master.network.gateway.map(|gateway| gateway.to_string()),
            waiting: (!carrier).then(|| {
                Reason::new(ReasonCode::NetworkNoCarrier, Timestamp::now()).with_cause(format!(
                    "{} ({}) has no carrier.",
                    interface.name, interface.mac
                ))
            }),
        };
        true
    });
}

fn wait(report: &watch::Sender<Network>, reason: Reason) {
    report.send_if_modified(|network| {
        let same = network
            .waiting
            .as_ref()
            .is_some_and(|before| before.tells_the_same(&reason));
        if !same {
            *network = Network {
                waiting: Some(reason),
                ..Network::default()
            };
        }
        !same
    });
}

fn reason(error: &NetworkError) -> Reason {
    let code = match error {
        NetworkError::NoInterface { .. } => ReasonCode::NetworkInterfaceMissing,
        NetworkError::Refused { .. } | NetworkError::Io { .. } => ReasonCode::NetworkSetupFailed,
    };
    let mut cause = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        let _ = write!(cause, ": {source}");
    }
    Reason::new(code, Timestamp::now()).with_cause(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_names_each_server_and_replaces_the_last_one() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("resolv.conf");
        write_resolv_conf(&path, &["10.0.0.2".parse().expect("address")]).expect("written");
        let both = [
            "10.0.0.3".parse().expect("address"),
            "fd00::1".parse().expect("address"),
        ];
        write_resolv_conf(&path, &both).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "nameserver 10.0.0.3\nnameserver fd00::1\n");
    }
}
