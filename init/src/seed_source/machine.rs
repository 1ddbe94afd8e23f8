//! What a machine knows about itself.

use std::fs;
use std::path::Path;

use masthead_seed::{MacAddress, Machine};

use super::SourceKind;

/// `type` of an Ethernet interface (`ARPHRD_ETHER`).
const ETHERNET: &str = "1";

/// The MAC addresses of this machine's interfaces, and its serial number. In a namespace there is no serial number: the
/// firmware tables are the host's.
pub fn gather_machine(kind: &SourceKind) -> Machine {
    match kind {
        SourceKind::Machine(roots) => Machine {
            macs: macs(&roots.sys),
            serial: serial(&roots.sys),
        },
        SourceKind::Namespace { roots, .. } => Machine {
            macs: macs(&roots.sys),
            serial: None,
        },
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

fn macs(sys: &Path) -> Vec<MacAddress> {
    let Ok(interfaces) = fs::read_dir(sys.join("class/net")) else {
        return Vec::new();
    };
    let mut macs: Vec<MacAddress> = interfaces
        .filter_map(|interface| {
            let interface = interface.ok()?.path();
            if !is_own_interface(&interface) {
                return None;
            }
            read(&interface.join("address"))?.parse().ok()
        })
        .filter(|mac: &MacAddress| mac.0 != [0; 6])
        .collect();
    macs.sort();
    macs.dedup();
    macs
}

/// Whether an interface, by its folder in sysfs, is hardware, or one end of a veth pair. Bridges, bonds and VLANs repeat the addresses of others.
pub(crate) fn is_own_interface(interface: &Path) -> bool {
    let file = |name| read(&interface.join(name));
    if file("type").as_deref() != Some(ETHERNET) {
        return false;
    }
    if interface.join("device").exists() {
        return true;
    }
    // A veth has a peer, and unlike other stacked interfaces the kernel gives it no DEVTYPE.
    let has_peer = file("iflink").is_some_and(|link| Some(link) != file("ifindex"));
    has_peer && !file("uevent").unwrap_or_default().contains("DEVTYPE=")
}

/// The serial number, unless it is one of the texts that firmware has in place of it.
pub(super) fn serial(sys: &Path) -> Option<String> {
    const FILLERS: [&str; 8] = [
        "0",
        "none",
        "default string",
        "not applicable",
        "not specified",
        "system serial number",
        "to be filled by o.e.m.",
        "unknown",
    ];
    let serial = read(&sys.join("class/dmi/id/product_serial"))?;
    let is_filler = serial.is_empty() || FILLERS.contains(&serial.to_ascii_lowercase().as_str());
    (!is_filler).then_some(serial)
}
