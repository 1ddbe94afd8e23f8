//! The machine that looks for itself in a seed.

use std::fmt;
use std::str::FromStr;

use crate::{Master, Seed};

/// A network interface's hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// What a machine knows about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The addresses of its network interfaces.
    pub macs: Vec<MacAddress>,
    /// The system's serial number, when its firmware has one.
    pub serial: Option<String>,
}

/// No master of the seed is this machine, or more than one is. `Display` says what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    machine: Machine,
    /// Masters of which something matches, with what does not.
    near: Vec<String>,
    /// Masters that match altogether, if more than one.
    several: Vec<String>,
}

impl Seed {
    /// The master that this machine is.
    pub fn find_self(&self, machine: &Machine) -> Result<&Master, NotFound> {
        let mut near = Vec::new();
        let mut found = Vec::new();
        for master in &self.masters {
            let by_mac = master.selector.mac.map(|mac| machine.macs.contains(&mac));
            let by_serial = master
                .selector
                .serial
                .as_ref()
                .map(|serial| machine.serial.as_ref() == Some(serial));
            match (by_mac, by_serial) {
                (Some(true), None | Some(true)) | (None, Some(true)) => found.push(master),
                (Some(true), Some(false)) => {
                    near.push(format!(
                        "{} has this machine's MAC, but another serial number",
                        master.name
                    ));
                }
                (Some(false), Some(true)) => {
                    near.push(format!(
                        "{} has this machine's serial number, but another MAC",
                        master.name
                    ));
                }
                _ => {}
            }
        }
        match found.as_slice() {
            [master] => Ok(master),
            several => Err(NotFound {
                machine: machine.clone(),
                near,
                several: several.iter().map(|master| master.name.clone()).collect(),
            }),
        }
    }
}

impl std::error::Error for NotFound {}

impl fmt::Display for NotFound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.several.is_empty() {
            formatter.write_str("no master of the seed is this machine")?;
        } else {
            write!(
                formatter,
                "more than one master of the seed is this machine: {}",
                self.several.join(", ")
            )?;
        }
        formatter.write_str("; its MAC addresses: ")?;
        if self.machine.macs.is_empty() {
            formatter.write_str("none")?;
        }
        for (index, mac) in self.machine.macs.iter().enumerate() {
            write!(formatter, "{}{mac}", if index > 0 { ", " } else { "" })?;
        }
        match &self.machine.serial {
            Some(serial) => write!(formatter, "; its serial number: {serial}")?,
            None => formatter.write_str("; it has no serial number")?,
        }
        for near in &self.near {
            write!(formatter, "; {near}")?;
        }
        Ok(())
    }
}

impl FromStr for MacAddress {
    type Err = ();

    /// Six bytes in hexadecimal, separated by colons or by hyphens.
    fn from_str(text: &str) -> Result<Self, ()> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().ok_or(())?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(());
            }
            *byte = u8::from_str_radix(part, 16).map_err(drop)?;
        }
        parts.next().is_none().then_some(Self(bytes)).ok_or(())
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(formatter, "{}{byte:02x}", if index > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MacAddress({self})")
    }
}
