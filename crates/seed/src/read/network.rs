//! `network`, common and per master.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use masthead_diagnostics::{Place, Value};

use super::At;
use super::kubernetes::prefix as prefix_of;
use crate::names::{host_address, is_dns_name, unusable};

/// A network as far as it could be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkDraft {
    /// Where the table is written; absent when it is not.
    pub(crate) place: Option<Place>,
    pub(crate) prefix: Field<At<u8>>,
    pub(crate) gateway: Field<At<IpAddr>>,
    pub(crate) dns: Field<Vec<At<IpAddr>>>,
    pub(crate) ntp: Field<Vec<At<String>>>,
    pub(crate) mtu: Field<At<u32>>,
    pub(crate) routes: Field<Vec<RouteDraft>>,
    pub(crate) addresses: Field<Vec<At<IpNet>>>,
}

/// A route as it is written.
#[derive(Debug, Clone)]
pub(crate) struct RouteDraft {
    pub(crate) to: At<IpNet>,
    pub(crate) via: At<IpAddr>,
}

/// What belongs into `network`, and nowhere else.
pub(crate) const KEYS: [&str; 6] = ["prefix", "gateway", "dns", "ntp", "mtu", "routes"];

/// What every link carries that carries IPv6 (RFC 8200, 5), and what the largest of cards take. In bytes.
const MTU: RangeInclusive<i64> = 1280..=9216;

/// A key that may be absent, and may be unreadable.
#[derive(Debug, Clone, Default)]
pub(crate) enum Field<T> {
    #[default]
    Absent,
    /// Written, but reported as wrong.
    Wrong,
    Is(T),
}

impl<T: Clone> Field<T> {
    pub(crate) fn read(
        value: Option<Value<'_>>,
        read: impl FnOnce(&Value<'_>) -> Option<T>,
    ) -> Self {
        match value.map(|value| read(&value)) {
            None => Self::Absent,
            Some(None) => Self::Wrong,
            Some(Some(value)) => Self::Is(value),
        }
    }

    fn or(&self, common: &Self) -> Self {
        if matches!(self, Self::Absent) {
            common.clone()
        } else {
            self.clone()
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if let Self::Is(value) = self {
            Some(value)
        } else {
            None
        }
    }
}

pub(crate) fn network(value: &Value<'_>) -> NetworkDraft {
    let Some(table) = value.table_like("network = { prefix = 24, gateway = \"10.20.0.1\" }") else {
        // One report is enough: what the table would have held counts as written.
        let (prefix, gateway) = (Field::Wrong, Field::Wrong);
        return NetworkDraft {
            place: Some(value.place()),
            prefix,
            gateway,
            ..NetworkDraft::default()
        };
    };
    NetworkDraft {
        place: Some(value.place()),
        prefix: Field::read(table.get("prefix"), prefix),
        gateway: Field::read(table.get("gateway"), |value| {
            Some(At::new(
                host_address(value, "gateway = \"10.20.0.1\"")?,
                value,
            ))
        }),
        dns: Field::read(table.get("dns"), |value| {
            value.array_of(|server| {
                Some(At::new(
                    host_address(server, "dns = [\"10.20.0.2\"]")?,
                    server,
                ))
            })
        }),
        ntp: Field::read(table.get("ntp"), |value| value.array_of(time_server)),
        mtu: Field::read(table.get("mtu"), |value| {
            let bytes = u32::try_from(value.integer(MTU)?).ok()?;
            Some(At::new(bytes, value))
        }),
        routes: Field::read(table.get("routes"), |value| value.array_of(route)),
        addresses: Field::read(table.get("addresses"), |value| value.array_of(further)),
    }
}

fn route(value: &Value<'_>) -> Option<RouteDraft> {
    const EXAMPLE: &str = "routes = [{ to = \"10.30.0.0/16\", via = \"10.20.0.254\" }]";
    let table = value.table_like(EXAMPLE)?;
    let to = table.require("to", EXAMPLE);
    let via = table.require("via", EXAMPLE);
    let to = to.and_then(|to| {
        let net = prefix_of(&to, "10.30.0.0/16")?;
        if net.value.prefix_len() == 0 {
            to.error(
                format!("`{}`: {} is everywhere", to.path(), net.value),
                "write the router as `gateway` of the network",
            );
            return None;
        }
        Some(net)
    });
    let via = via.and_then(|via| Some(At::new(host_address(&via, EXAMPLE)?, &via)));
    Some(RouteDraft { to: to?, via: via? })
}

/// A further address, with its prefix.
fn further(value: &Value<'_>) -> Option<At<IpNet>> {
    const EXAMPLE: &str = "addresses = [\"10.40.0.11/24\"]";
    let text = value.string()?;
    let Ok(net) = text.parse::<IpNet>() else {
        value.error(
            format!(
                "`{}`: {text:?} is no address with the length of its prefix",
                value.path()
            ),
            format!("write {EXAMPLE}"),
        );
        return None;
    };
    if let Some(kind) = unusable(net.addr()) {
        value.error(
            format!(
                "`{}`: {} is {kind}, not that of a host in the network",
                value.path(),
                net.addr()
            ),
            format!("write the host's own address, {EXAMPLE}"),
        );
        return None;
    }
    Some(At::new(net, value))
}

impl NetworkDraft {
    /// This master's network: its own keys, and the common ones for the rest.
    pub(crate) fn over(&self, common: &Self) -> Self {
        Self {
            place: self.place.or(common.place),
            prefix: self.prefix.or(&common.prefix),
            gateway: self.gateway.or(&common.gateway),
            dns: self.dns.or(&common.dns),
            ntp: self.ntp.or(&common.ntp),
            mtu: self.mtu.or(&common.mtu),
            routes: self.routes.or(&common.routes),
            addresses: self.addresses.or(&common.addresses),
        }
    }
}

fn prefix(value: &Value<'_>) -> Option<At<u8>> {
    let bits = value.integer(1..=128)?;
    Some(At::new(u8::try_from(bits).ok()?, value))
}

fn time_server(value: &Value<'_>) -> Option<At<String>> {
    let text = value.string()?;
    if is_dns_name(text) {
        return Some(At::new(text.to_ascii_lowercase(), value));
    }
    if text.parse::<IpAddr>().is_ok() {
        let address = host_address(value, "ntp = [\"10.20.0.2\"]")?;
        return Some(At::new(address.to_string(), value));
    }
    value.error(
        format!(
            "`{}`: {text:?} is neither an IP address nor a DNS name",
            value.path()
        ),
        "write ntp = [\"10.20.0.2\"] or ntp = [\"time.example.net\"]",
    );
    None
}
