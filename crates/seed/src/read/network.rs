//! `network`, common and per master.

use std::net::IpAddr;

use masthead_diagnostics::{Place, Value};

use super::At;
use crate::names::{host_address, is_dns_name};

/// A network as far as it could be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkDraft {
    /// Where the table is written; absent when it is not.
    pub(crate) place: Option<Place>,
    pub(crate) prefix: Field<At<u8>>,
    pub(crate) gateway: Field<At<IpAddr>>,
    pub(crate) dns: Field<Vec<At<IpAddr>>>,
    pub(crate) ntp: Field<Vec<At<String>>>,
}

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
    }
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
