//! Which network interface a seed means, by sysfs.

use std::fs;
use std::path::Path;

use masthead_seed::{MacAddress, Selector};

use super::NetworkError;

/// An Ethernet interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) mac: MacAddress,
}

impl Interface {
    /// Whether the link is up; `carrier` cannot be read while the interface is off.
    pub(super) fn has_carrier(&self, sys: &Path) -> bool {
        text(&sys.join("class/net").join(&self.name).join("carrier")).as_deref() == Some("1")
    }
}

/// The interface with the seed's MAC address. A master that the seed knows by serial number alone has
/// its first interface with a carrier, or the first of all.
pub(super) fn find(sys: &Path, selector: &Selector) -> Result<Interface, NetworkError> {
    let present = ethernet(sys);
    let found = match selector.mac {
        Some(mac) => present.iter().find(|interface| interface.mac == mac),
        None => present
            .iter()
            .find(|interface| interface.has_carrier(sys))
            .or_else(|| present.first()),
    };
    found.cloned().ok_or_else(|| NetworkError::NoInterface {
        wanted: selector
            .mac
            .map_or_else(|| "(any)".to_owned(), |mac| mac.to_string()),
        present: if present.is_empty() {
            "no Ethernet interfaces".to_owned()
        } else {
            let named: Vec<_> = present
                .iter()
                .map(|interface| format!("{} {}", interface.name, interface.mac))
                .collect();
            named.join(", ")
        },
    })
}

/// Every interface of type Ethernet (ARPHRD_ETHER, linux/if_arp.h), by name.
pub(super) fn ethernet(sys: &Path) -> Vec<Interface> {
    let Ok(entries) = fs::read_dir(sys.join("class/net")) else {
        return Vec::new();
    };
    let mut interfaces: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let folder = entry.path();
            let name = entry.file_name().into_string().ok()?;
            (text(&folder.join("type"))? == "1").then_some(())?;
            let index = text(&folder.join("ifindex"))?.parse().ok()?;
            let mac = text(&folder.join("address"))?.parse().ok()?;
            Some(Interface { name, index, mac })
        })
        .collect();
    interfaces.sort_by(|one, other| one.name.cmp(&other.name));
    interfaces
}

fn text(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(sys: &Path, name: &str, index: u32, mac: &str, carrier: &str, kind: &str) {
        let folder = sys.join("class/net").join(name);
        fs::create_dir_all(&folder).expect("made");
        for (file, value) in [
            ("ifindex", index.to_string().as_str()),
            ("address", mac),
            ("carrier", carrier),
            ("type", kind),
        ] {
            fs::write(folder.join(file), format!("{value}\n")).expect("written");
        }
    }

    #[test]
    fn the_seeds_address_decides_and_its_absence_is_told_with_what_is_there() {
        let folder = tempfile::tempdir().expect("made");
        let sys = folder.path();
        interface(sys, "lo", 1, "00:00:00:00:00:00", "1", "772");
        interface(sys, "eth0", 2, "52:54:00:10:00:11", "0", "1");
        interface(sys, "eth1", 3, "52:54:00:10:00:12", "1", "1");
        let by_mac = |mac: &str| {
            find(
                sys,
                &Selector {
                    mac: Some(mac.parse().expect("a MAC address")),
                    serial: None,
                },
            )
        };
        assert_eq!(by_mac("52:54:00:10:00:11").expect("there").name, "eth0");
        let error = by_mac("52:54:00:10:00:99")
            .expect_err("not there")
            .to_string();
        assert_eq!(
            error,
            "no interface of this machine has the MAC address 52:54:00:10:00:99; there are \
             eth0 52:54:00:10:00:11, eth1 52:54:00:10:00:12"
        );
        let by_serial = Selector {
            mac: None,
            serial: Some("X".to_owned()),
        };
        assert_eq!(find(sys, &by_serial).expect("there").name, "eth1");
    }
}
