//! `[masters]`.

use std::net::IpAddr;

use masthead_diagnostics::{Key, Place, Shape, Table, Value};

use super::disk::{disk, disk_match};
use super::network::{KEYS, NetworkDraft, network};
use super::{At, serial_number};
use crate::names::{check_label, host_address, is_link_local};
use crate::{DiskMatch, DiskSelector, MacAddress};

/// A master as far as it could be read, with the common part merged in.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) mac: Option<At<MacAddress>>,
    pub(crate) serial: Option<At<String>>,
    pub(crate) address: Option<At<IpAddr>>,
    pub(crate) network: NetworkDraft,
    pub(crate) storage: Storage,
    /// Whether `wipe` is this master's own, rather than the common one.
    pub(crate) own_wipe: bool,
}

/// The keys about disks, which are both common and per master.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storage {
    /// Whether `disk` is written, readable or not.
    pub(crate) disk_written: bool,
    pub(crate) disk: Option<At<DiskSelector>>,
    pub(crate) etcd_disk: Option<At<DiskMatch>>,
    pub(crate) wipe: Option<At<String>>,
}

impl Storage {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        let disk_value = table.get("disk");
        Self {
            disk_written: disk_value.is_some(),
            disk: disk_value.and_then(|value| disk(&value)),
            etcd_disk: table.get("etcd-disk").and_then(|value| disk_match(&value)),
            wipe: table.get("wipe").and_then(|value| serial_number(&value)),
        }
    }

    fn over(self, common: &Self) -> Self {
        let (disk_written, disk) = if self.disk_written {
            (true, self.disk)
        } else {
            (common.disk_written, common.disk.clone())
        };
        Self {
            disk_written,
            disk,
            etcd_disk: self.etcd_disk.or_else(|| common.etcd_disk.clone()),
            wipe: self.wipe.or_else(|| common.wipe.clone()),
        }
    }
}

/// All masters, sorted by name.
pub(crate) fn masters(value: &Value<'_>, common: &NetworkDraft, storage: &Storage) -> Vec<Draft> {
    if let Some(Shape::Array(_)) = value.shape() {
        value.error(
            "`masters` must be a table of masters by name, and this is a list",
            "write [masters] and below it, for each, m1 = { mac = \"52:54:00:10:00:11\", address = \"10.20.0.11\" }",
        );
        return Vec::new();
    }
    let Some(table) = value.table() else {
        return Vec::new();
    };
    let entries = table.entries();
    if entries.is_empty() {
        value.error(
            "`masters` names no master",
            "add one: m1 = { mac = \"52:54:00:10:00:11\", address = \"10.20.0.11\" }",
        );
    }
    entries
        .into_iter()
        .filter_map(|(key, value)| master(&table, key, &value, common, storage))
        .collect()
}

fn master(
    masters: &Table<'_>,
    key: Key<'_>,
    value: &Value<'_>,
    common: &NetworkDraft,
    storage: &Storage,
) -> Option<Draft> {
    if let Err(reason) = check_label(key.name) {
        masters.error_at(
            key.place,
            format!("the name {:?} {reason}", key.name),
            "name masters by a-z, 0-9 and \"-\", such as m1",
        );
    }
    let table = value.table()?;
    let own_network = table
        .get("network")
        .map(|value| network(&value))
        .unwrap_or_default();
    let own_storage = Storage::read(&table);
    let own_wipe = own_storage.wipe.is_some();
    let (mac, serial) = (table.get("mac"), table.get("serial"));
    if mac.is_none() && serial.is_none() && !table.is_broken() {
        table.error(
            format!("`{}` does not say which machine it is", table.path()),
            "add mac = \"52:54:00:10:00:11\" or serial = \"SYSTEM-SERIAL\"; a machine that finds itself nowhere shows both",
        );
    }
    for key in KEYS {
        table.refuse(
            key,
            &format!("`{key}` belongs into `network`"),
            &format!("write network = {{ {key} = … }} in this master, or in the common `network`"),
        );
    }
    Some(Draft {
        name: key.name.to_owned(),
        place: key.place,
        mac: mac.and_then(|value| mac_address(&value)),
        serial: serial.and_then(|value| serial_number(&value)),
        address: table
            .require("address", "address = \"10.20.0.11\"")
            .and_then(|value| node_address(&value)),
        network: own_network.over(common),
        storage: own_storage.over(storage),
        own_wipe,
    })
}

fn mac_address(value: &Value<'_>) -> Option<At<MacAddress>> {
    const HELP: &str = "write six bytes in hexadecimal, mac = \"52:54:00:10:00:11\"";
    let text = value.string()?;
    let Ok(mac) = text.parse::<MacAddress>() else {
        value.error(
            format!("`{}`: {text:?} is not a MAC address", value.path()),
            HELP,
        );
        return None;
    };
    let [first, ..] = mac.0;
    if mac.0 == [0; 6] || first & 1 == 1 {
        value.error(
            format!("`{}`: {mac} is no interface's own address", value.path()),
            HELP,
        );
        return None;
    }
    Some(At::new(mac, value))
}

fn node_address(value: &Value<'_>) -> Option<At<IpAddr>> {
    const EXAMPLE: &str = "address = \"10.20.0.11\"";
    let address = host_address(value, EXAMPLE)?;
    if is_link_local(address) {
        value.error(
            format!(
                "`{}`: {address} is link-local: the other masters cannot rely on it",
                value.path()
            ),
            format!("write an address that is routed, {EXAMPLE}"),
        );
        return None;
    }
    Some(At::new(address, value))
}
