//! `ip=` on the kernel command line: which address a machine has while it fetches its seed.
//!
//! The kernel's own syntax (Documentation/admin-guide/nfs/nfsroot.rst), with what dracut.cmdline(7) has beside it: IPv6 addresses in brackets, the length of a
//! prefix in place of a netmask, and `ip=DEVICE:dhcp`. `BOOTIF=`, which boot loaders leave there after a boot by the network, names the card where
//! `ip=` does not.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use masthead_seed::MacAddress;

use super::super::command_line::last;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which card.
    pub card: Card,
    /// How it gets its address.
    pub how: How,
    /// Name servers, before those of a lease.
    pub dns: Vec<IpAddr>,
    /// For `${hostname}`, before that of a lease.
    pub hostname: Option<String>,
}

/// Which network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Card {
    /// Whichever it works with.
    Any,
    /// By the kernel's name.
    Name(String),
    /// From which the machine was booted.
    Mac(MacAddress),
}

/// How a card gets its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// From a DHCP server.
    Dhcp,
    /// As it stands there.
    Static {
        /// The address, with its prefix's length.
        address: IpNet,
        /// The router.
        gateway: Option<IpAddr>,
    },
}

const SYNTAX: &str =
    "write ip=dhcp, ip=DEVICE:dhcp, or ip=ADDRESS::GATEWAY:NETMASK:HOSTNAME:DEVICE:none:DNS:DNS";

/// Reads it. Without `ip=`, DHCP is asked on all cards.
pub(super) fn parse(command_line: &str) -> Result<Wanted, String> {
    let booted_from = last(command_line, "BOOTIF=").and_then(booted_from);
    let mut wanted = Wanted {
        card: booted_from.map_or(Card::Any, Card::Mac),
        how: How::Dhcp,
        dns: Vec::new(),
        hostname: None,
    };
    if let Some(text) = last(command_line, "ip=") {
        read(text, &mut wanted).map_err(|why| format!("ip={text}: {why}; {SYNTAX}"))?;
    }
    Ok(wanted)
}

fn read(text: &str, wanted: &mut Wanted) -> Result<(), String> {
    let fields = fields(text)?;
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    let mut name_card = |name: &str| {
        if !name.is_empty() {
            wanted.card = Card::Name(name.to_owned());
        }
    };
    match fields.len() {
        1 => return must_be_dhcp(field(0)),
        2 if field(0).parse::<IpAddr>().is_err() => {
            name_card(field(0));
            return must_be_dhcp(field(1));
        }
        _ => {}
    }
    name_card(field(5));
    wanted.hostname = (!field(4).is_empty()).then(|| field(4).to_owned());
    for server in fields.iter().skip(7).take(2) {
        // The kernel takes 0.0.0.0 for none.
        match server.parse::<IpAddr>() {
            Ok(server) if !server.is_unspecified() => wanted.dns.push(server),
            Ok(_) => {}
            Err(_) if server.is_empty() => {}
            Err(_) => return Err(format!("`{server}` is no address of a name server")),
        }
    }
    if field(0).is_empty() {
        return must_be_dhcp(field(6));
    }
    if !["", "off", "none", "static"].contains(&field(6)) {
        return Err(format!("an address is given, and `{}` as well", field(6)));
    }
    let address: IpAddr = parsed(field(0), "address")?;
    let bits = prefix(field(3), address)?;
    let address = IpNet::new(address, bits).map_err(|_| format!("no netmask of {bits} bits"))?;
    let gateway = match field(2) {
        "" => None,
        text => Some(parsed::<IpAddr>(text, "address of a gateway")?),
    };
    if let Some(gateway) = gateway
        && !reaches(address, gateway)
    {
        return Err(format!(
            "the gateway {gateway} is not in {}",
            address.trunc()
        ));
    }
    wanted.how = How::Static { address, gateway };
    Ok(())
}

fn must_be_dhcp(word: &str) -> Result<(), String> {
    match word {
        "" | "dhcp" | "on" | "any" | "both" => Ok(()),
        "off" | "none" | "static" => {
            Err("a seed is to be fetched, and no address is given for that".to_owned())
        }
        other => Err(format!("`{other}` is not known here")),
    }
}

/// Split at colons, but for those in brackets.
fn fields(text: &str) -> Result<Vec<&str>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']').ok_or("a bracket is not closed")?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        fields.push(field);
        if after.is_empty() {
            return Ok(fields);
        }
        rest = after
            .strip_prefix(':')
            .ok_or_else(|| format!("`{after}` follows a bracket"))?;
    }
}

fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no {what}"))
}

/// Of a netmask, or of a prefix's length.
fn prefix(text: &str, address: IpAddr) -> Result<u8, String> {
    if text.is_empty() {
        return Err("there is no netmask".to_owned());
    }
    if let (IpAddr::V4(_), Ok(mask)) = (address, text.parse::<Ipv4Addr>()) {
        return ipnet::ipv4_mask_to_prefix(mask).map_err(|_| format!("`{text}` is no netmask"));
    }
    parsed(text, "netmask")
}

fn reaches(address: IpNet, gateway: IpAddr) -> bool {
    let is_link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
    is_link_local || address.contains(&gateway)
}

/// `01-52-54-00-10-00-11`: the type of the hardware, which is Ethernet, and its address.
fn booted_from(text: &str) -> Option<MacAddress> {
    text.strip_prefix("01-")?.replace('-', ":").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> Wanted {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn fixed(address: &str, gateway: Option<&str>) -> How {
        How::Static {
            address: address.parse().expect("an address"),
            gateway: gateway.map(|gateway| gateway.parse().expect("an address")),
        }
    }

    fn named(name: &str) -> Card {
        Card::Name(name.to_owned())
    }

    #[test]
    fn without_a_word_and_with_one_it_is_dhcp() {
        for line in [
            "quiet",
            "ip=dhcp",
            "ip=on",
            "ip=any quiet",
            "ip=both",
            "ip=:::::",
            "ip=",
            "ip=::::::dhcp",
        ] {
            let expected = Wanted {
                card: Card::Any,
                how: How::Dhcp,
                dns: Vec::new(),
                hostname: None,
            };
            assert_eq!(wanted(line), expected, "{line}");
        }
        assert_eq!(wanted("ip=eth1:dhcp").card, named("eth1"));
        let full = wanted("ip=none ip=::::m7:eth1:dhcp:10.0.0.2:0.0.0.0");
        assert_eq!(full.card, named("eth1"));
        assert_eq!(full.hostname.as_deref(), Some("m7"));
        assert_eq!(full.dns, ["10.0.0.2".parse::<IpAddr>().expect("one")]);
        let mac = "52:54:00:10:00:11".parse().expect("a MAC address");
        assert_eq!(wanted("BOOTIF=01-52-54-00-10-00-11").card, Card::Mac(mac));
        assert_eq!(
            wanted("ip=eth1:dhcp BOOTIF=01-52-54-00-10-00-11").card,
            named("eth1")
        );
    }

    #[test]
    fn an_address_is_as_it_stands_there() {
        let full = wanted(
            "ip=10.0.2.15:10.0.2.9:10.0.2.2:255.255.255.0:m1:eth1:off:10.0.2.3:10.0.2.4:10.0.2.5",
        );
        assert_eq!(full.how, fixed("10.0.2.15/24", Some("10.0.2.2")));
        assert_eq!(full.card, named("eth1"));
        assert_eq!(full.hostname.as_deref(), Some("m1"));
        assert_eq!(full.dns.len(), 2, "the third one is a time server");
        let short = wanted("ip=10.0.2.15:::24");
        assert_eq!(short.how, fixed("10.0.2.15/24", None));
        let six = wanted("ip=[2001:db8::15]::[fe80::1]:64::eth0:none:[2001:db8::53]");
        assert_eq!(six.how, fixed("2001:db8::15/64", Some("fe80::1")));
        assert_eq!(six.dns.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            (
                "off",
                "a seed is to be fetched, and no address is given for that",
            ),
            (
                "::::::none",
                "a seed is to be fetched, and no address is given for that",
            ),
            ("auto6", "`auto6` is not known here"),
            ("eth0:bootp", "`bootp` is not known here"),
            ("10.0.2.15", "`10.0.2.15` is not known here"),
            ("10.0.2.15:::", "there is no netmask"),
            ("10.0.2.15:::255.0.255.0", "`255.0.255.0` is no netmask"),
            ("10.0.2.15:::33", "no netmask of 33 bits"),
            (
                "10.0.2.15:::24:::dhcp",
                "an address is given, and `dhcp` as well",
            ),
            ("10.0.2.300:::24", "`10.0.2.300` is no address"),
            (
                "10.0.2.15::10.0.3.1:24",
                "the gateway 10.0.3.1 is not in 10.0.2.0/24",
            ),
            (
                "10.0.2.15:::24:::off:dns",
                "`dns` is no address of a name server",
            ),
            ("[2001:db8::15", "a bracket is not closed"),
            ("[2001:db8::15]x:", "`x:` follows a bracket"),
        ] {
            let error = parse(&format!("ip={text}")).expect_err(text);
            assert_eq!(error, format!("ip={text}: {why}; {SYNTAX}"));
        }
    }
}
